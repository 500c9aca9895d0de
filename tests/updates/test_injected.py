"""Records that someone on the way puts in or changes: what an update makes of them, and what it remembers."""

import images
import pytest
import servers
from board import PENDING_VERIFY, make_board
from proxy import Proxy

from https_ota_tools import delta, packed

DATA = images.app_image(size=200_000, version="2.0.0", seed=6)

# What comes in place of a record.
SPOILT = {
    "too long": lambda record: record[:3] + b"\x7f\xff" + record[5:],
    "a little too long": lambda record: record[:3] + b"\x45\x00" + record[5:],
    "of no kind": lambda record: b"\x99" + record[1:],
    "empty": lambda record: record[:3] + b"\0\0",
    "one bit": lambda record: record[:-1] + bytes([record[-1] ^ 1]),
    "an alert in the clear": lambda record: b"\x15\x03\x03\x00\x02\x02\x14",
}
kinds = pytest.mark.parametrize("kind", SPOILT)

# Two updates in one program; between them the image is confirmed as if it had not been there.
TWICE = """
import https_ota
for _ in range(2):
    https_ota.update({url!r}, cadata=open("ca.pem").read(), resume=False, retry_failed=True{options})
    from esp32 import Partition
    Partition("ota_1").writeblocks(0, bytes(4096))
"""


@pytest.fixture
def served(www):
    (www / "app.bin").write_bytes(DATA)


@pytest.fixture
def small(tmp_path, root):
    return make_board(tmp_path, root, "sim-tls4k")


def sizes(server):
    return [r.sent for r in server.requests() if r.status == 206]


@kinds
def test_request_size_comes_back(small, www, root, served, kind):
    """Within the download, and the next begins as if nothing had been."""
    with servers.Nginx(www, root.server()) as nginx:
        first = SPOILT[kind]
        # Twice in a row, in the first ranges; once more later.
        with Proxy(nginx, spoil={7: first, 13: first, 60: first}) as link:
            small.run(TWICE.format(url=link.url("app.bin"), options=""))
        seen = sizes(nginx)
    full = max(seen)
    assert full > 3500
    assert full in seen[-5:], seen
    # By far the most come in full.
    assert sum(1 for n in seen if n >= full - 16) > len(seen) / 2, seen
    # The second update has none that is smaller, but for the first and the last.
    assert set(seen[len(seen) - len(DATA) // full + 2 : -1]) == {full}, seen
    assert small.flash.read_bytes()[0x190000 + 4096 :][: len(DATA) - 4096] == DATA[4096:]


@kinds
@pytest.mark.parametrize("aio", [False, True], ids=["blocking", "asyncio"])
def test_one_plain_get_goes_on(board, www, root, served, kind, aio):
    """With 16 KiB of buffer: at one record in the middle, and where ranges are ignored."""
    for lines in ("", servers.NO_RANGES):
        start = board.flash.read_bytes()
        with servers.Nginx(www, root.server(), lines=lines) as nginx:
            with Proxy(nginx, spoil={9: SPOILT[kind]}) as link:
                board.update(link.url("app.bin"), aio=aio)
                assert not link.spoil
            assert len(nginx.requests()) == 2
        assert board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)
        board.flash.write_bytes(start)


@pytest.mark.parametrize("form", ["packed", "delta"])
@pytest.mark.parametrize("build", ["sim", "sim-tls4k"])
def test_what_is_unpacked_goes_on(tmp_path, root, www, form, build):
    """Each kind once, in one download."""
    new = images.app_image(size=200_000, version="2.0.0", seed=6)
    data = packed.pack(new) if form == "packed" else delta.make(images.app_image(), new)
    (www / "app.gz").write_bytes(data)
    board = make_board(tmp_path, root, build)
    spoilt = {9 + 9 * i: spoil for i, spoil in enumerate(SPOILT.values())}
    with servers.Nginx(www, root.server()) as nginx, Proxy(nginx, spoil=spoilt) as link:
        board.update(link.url("app.gz"), aio=build == "sim")
        assert not link.spoil
    assert board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)
    assert board.flash.read_bytes()[0x190000:][: len(new)] == new


@kinds
def test_first_record_of_all(any_board, www, root, served, kind):
    with servers.Nginx(www, root.server()) as nginx, Proxy(nginx, spoil={7: SPOILT[kind]}) as link:
        any_board.update(link.url("app.bin"))
    assert any_board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)


@kinds
@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_within_the_handshake_of_a_later_connection(board, www, root, served, kind, number):
    """The first one ends in the middle; to go on takes one try more."""
    with servers.Nginx(www, root.server()) as nginx:
        cut = {9: lambda record: record[:20] + bytes(len(record) - 20), 9 + number: SPOILT[kind]}
        with Proxy(nginx, spoil=cut) as link:
            board.update(link.url("app.bin"))
            assert not link.spoil
    assert board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)
