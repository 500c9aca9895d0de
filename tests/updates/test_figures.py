"""What an update does to flash, NVS, heap and wire, counted: tests/bench/counts.json says how much it may."""

import figures
import pytest


@pytest.fixture(scope="module")
def counts():
    return figures.counts()


def test_all_are_counted(counts):
    assert set(counts) == set(figures.COUNTS)


@pytest.mark.parametrize("what", figures.COUNTS)
def test_count(counts, what):
    assert counts[what] <= figures.COUNTS[what], f"{what}: more than its budget"
