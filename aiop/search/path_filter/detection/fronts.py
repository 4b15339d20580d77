"""Fronts of cost against a figure that were chosen by one measurement and are judged by another."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.search.path_filter.front import on_front

__all__ = ["at_budgets", "cost_to_reach", "front", "mean_saving"]

Array = npt.NDArray[Any]


def front(costs: Array, values: Array) -> Array:
    """Return places of the networks that no other one dominates (`on_front`), cheapest first, int64."""
    found = np.flatnonzero(on_front(costs, values))
    return found[np.argsort(np.asarray(costs)[found], kind="stable")]


def at_budgets(costs: Array, chosen_by: Array, judged_by: Array, budgets: Array) -> Array:
    """Return what the best within each budget by one figure is worth by another, ``(B,)``; nan where nothing fits.

    Args:
        costs: ``(n,)``.
        chosen_by: ``(n,)``, larger is better.
        judged_by: ``(n,)``, read on the front of ``chosen_by`` only.
        budgets: ``(B,)``.
    """
    places = front(costs, chosen_by)
    fitting = np.searchsorted(costs[places], budgets, side="right")
    return np.array([judged_by[places[count - 1]] if count else np.nan for count in fitting])


def cost_to_reach(costs: Array, values: Array, level: float) -> float:
    """Return the least cost ``(n,)`` whose value ``(n,)`` is at least ``level``; nan where none is."""
    enough = values >= level
    return float(costs[enough].min()) if enough.any() else float("nan")


def mean_saving(costs: Array, values: Array, other_costs: Array, other_values: Array) -> float:
    """Return by what share a front is cheaper than another at equal values, on the mean; negative where it is dearer.

    Fronts are lines of log cost over value between their points (as in Bjontegaard's delta rate, VCEG-M33), compared
    over the values that both reach; nan where they share none.

    Args:
        costs: ``(n,)`` of the one; points that are not on its front are left out.
        values: ``(n,)``, larger is better.
        other_costs: ``(m,)`` of the other.
        other_values: ``(m,)``.
    """
    lines = []
    for cost, value in ((costs, values), (other_costs, other_values)):
        places = front(cost, value)
        lines.append((np.log(cost[places]), value[places]))
    low = max(value[0] for _, value in lines)
    high = min(value[-1] for _, value in lines)
    if not low < high:
        return float("nan")
    # Lines are straight between these values: their means are exact with the trapezoidal rule.
    inner = np.concatenate([value for _, value in lines])
    levels = np.unique(np.concatenate([[low, high], inner[(inner > low) & (inner < high)]]))
    own, other = (np.interp(levels, value, cost) for cost, value in lines)
    return float(1.0 - np.exp(np.trapezoid(own - other, levels) / (high - low)))
