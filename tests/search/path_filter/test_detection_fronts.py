"""Fronts chosen by one figure and judged by another, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aiop.search.path_filter.detection.fronts import at_budgets, cost_to_reach, front, mean_saving

COSTS = np.array([4.0, 1.0, 2.0, 3.0, 2.5])
CHOSEN = np.array([9.0, 5.0, 7.0, 6.0, 7.0])  # at 3 worse than at 2, at 2.5 no better
JUDGED = np.array([30.0, 10.0, 25.0, np.nan, np.nan])


def test_a_front_holds_what_nothing_cheaper_equals_cheapest_first() -> None:
    assert front(COSTS, CHOSEN).tolist() == [1, 2, 0]


def test_within_a_budget_the_best_by_one_figure_is_judged_by_the_other() -> None:
    found = at_budgets(COSTS, CHOSEN, JUDGED, np.array([0.5, 1.0, 1.9, 3.5, 4.0, 9.0]))
    np.testing.assert_array_equal(found, [np.nan, 10.0, 10.0, 25.0, 30.0, 30.0])


def test_a_choice_that_judges_worse_is_not_undone() -> None:
    judged = np.array([1.0, 10.0, 25.0, np.nan, np.nan])
    assert at_budgets(COSTS, CHOSEN, judged, np.array([4.0])).tolist() == [1.0]


@pytest.mark.parametrize(("level", "cost"), [(24.0, 2.0), (25.0, 2.0), (26.0, 4.0), (5.0, 1.0)])
def test_the_least_cost_that_reaches_a_level(level: float, cost: float) -> None:
    assert cost_to_reach(COSTS, JUDGED, level) == cost


def test_a_level_that_nothing_reaches_has_no_cost() -> None:
    assert math.isnan(cost_to_reach(COSTS, JUDGED, 31.0))


def test_a_front_at_half_the_cost_saves_half() -> None:
    costs, values = np.array([1.0, 2.0, 8.0]), np.array([10.0, 20.0, 25.0])
    assert mean_saving(costs / 2, values, costs, values) == pytest.approx(0.5)
    assert mean_saving(costs, values, costs / 2, values) == pytest.approx(-1.0)


def test_a_saving_is_the_mean_over_the_values_that_both_reach() -> None:
    # Both lines are straight from 10 to 20; in logarithms the one is cheaper by log 2 at 10 and by 0 at 20.
    saving = mean_saving(
        np.array([1.0, 4.0]), np.array([10.0, 20.0]), np.array([2.0, 4.0]), np.array([10.0, 20.0])
    )
    assert saving == pytest.approx(1 - math.exp(-math.log(2) / 2))


def test_a_saving_does_not_depend_on_points_off_the_front() -> None:
    costs, values = np.array([1.0, 3.0, 4.0]), np.array([10.0, 9.0, 20.0])
    with_it = mean_saving(costs, values, np.array([2.0, 4.0]), np.array([10.0, 20.0]))
    assert with_it == pytest.approx(1 - math.exp(-math.log(2) / 2))


def test_fronts_without_a_common_value_have_no_saving() -> None:
    assert math.isnan(
        mean_saving(np.array([1.0, 2.0]), np.array([1.0, 2.0]), np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    )
