"""The budgets of tests/bench/budgets.json are kept, and follow what has got smaller."""

import budgets
import built
import pytest

# Part of a budget that may be free; with more it has to be lowered.
FREE = 0.1


@pytest.fixture(scope="module")
def figures():
    return budgets.figures()


def test_all_are_measured(figures):
    assert set(figures) == set(budgets.BUDGETS)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", budgets.BUDGETS)
def test_budget(figures, what):
    assert figures[what] <= budgets.allowed(what), f"{what}: more than its budget"
    if built.IS_PINNED:
        assert figures[what] > budgets.BUDGETS[what] * (1 - FREE) - 100, "run `make budgets`"
