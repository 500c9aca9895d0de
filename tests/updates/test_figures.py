"""What an update does to flash, NVS, heap and wire, counted: tests/bench/counts.json says how much it may."""

import figures


def test_counts():
    counts = figures.counts()
    assert set(counts) == set(figures.COUNTS)
    over = {what: n for what, n in counts.items() if n > figures.COUNTS[what]}
    assert not over, "more than their budgets"
