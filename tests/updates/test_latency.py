"""The round trips of a ranged update hide behind the flash."""

import latency


def test_50_ms_cost_less_than_15_percent(tmp_path):
    # Anything else that this machine does makes it slower, so the best of three counts.
    ratios = []
    for _ in range(3):
        alone = latency.flash_only_ms(tmp_path)
        ratios.append(latency.over_network_ms(tmp_path, 0.05) / alone)
        if ratios[-1] <= 1.15:
            break
    assert min(ratios) <= 1.15, ratios
