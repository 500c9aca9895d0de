"""The round trips of a ranged update hide behind the flash."""

from concurrent.futures import ThreadPoolExecutor

import latency
import pytest


@pytest.mark.quiet
def test_50_ms_cost_less_than_15_percent(tmp_path):
    # Anything else that this machine does makes it slower, so the best of three counts.
    ratios = []
    for _ in range(3):
        # Both sleep most of the time.
        with ThreadPoolExecutor() as pool:
            alone = pool.submit(latency.flash_only_ms, tmp_path / "alone")
            over_network = pool.submit(latency.over_network_ms, tmp_path / "network", 0.05)
        ratios.append(over_network.result() / alone.result())
        if ratios[-1] <= 1.15:
            break
    assert min(ratios) <= 1.15, ratios
