"""The budgets of tests/bench/budgets.json are kept, and follow what has got smaller."""

import budgets
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
    budget = budgets.BUDGETS[what]
    assert figures[what] <= budget, f"{what}: more than its budget"
    assert figures[what] > budget * (1 - FREE) - 100, "run `make budgets`"
