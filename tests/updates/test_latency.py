"""The round trips of a ranged update hide behind the flash, and behind each other."""

import latency
import pytest

# Anything else that this machine does makes an update slower, so the best of so many counts.
TRIES = 3


def best(limit, ratio):
    """The first ratio within the limit, or the best."""
    found = []
    while len(found) < TRIES and (not found or found[-1] > limit):
        found.append(ratio())
    assert min(found) <= limit, found


@pytest.mark.quiet
@pytest.mark.parametrize(("rtt_ms", "limit"), [(50, 1.10), (200, 1.6)])
def test_time_over_that_of_the_flash_alone(tmp_path, rtt_ms, limit):
    size = latency.SIZE if rtt_ms < 100 else latency.SIZE // 2

    def ratio():
        alone = latency.flash_only_ms(tmp_path, size)
        took, wire = latency.over_network_ms(tmp_path, rtt_ms / 1000, size)
        assert wire <= 1.12
        return took / alone

    best(limit, ratio)


@pytest.mark.quiet
@pytest.mark.parametrize(("rtt_ms", "limit"), [(50, 1.05), (200, 1.15)])
def test_time_over_that_of_one_plain_request(tmp_path, rtt_ms, limit):
    """Where only as much is on its way as lwIP has room for, ranges ask for the next before that is empty."""
    link = {"rtt_s": rtt_ms / 1000, "size": latency.SIZE // 3, "window": latency.WINDOW}
    best(
        limit,
        lambda: (
            latency.over_network_ms(tmp_path, **link)[0]
            / latency.over_network_ms(tmp_path, **link, plain=True)[0]
        ),
    )
