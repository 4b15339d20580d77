"""What is left of a Pareto front: fronts, their hypervolume, and pairwise accuracy at similar cost. Pure functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError

__all__ = ["hypervolume", "on_front", "pairwise_accuracy"]

Array = npt.NDArray[Any]


def on_front(macs: Array, values: Array) -> Array:
    """Return which of n networks no other one dominates, bool ``(n,)``: none is better for no more MACs.

    Of equal ones the first counts.

    >>> on_front(np.array([1.0, 2.0, 3.0]), np.array([5.0, 4.0, 6.0])).tolist()
    [True, False, True]
    """
    macs, values = np.asarray(macs, np.float64), np.asarray(values, np.float64)
    order = np.lexsort((-values, macs))
    best = np.maximum.accumulate(np.concatenate([[-np.inf], values[order]]))[:-1]
    found = np.zeros(len(macs), bool)
    found[order] = values[order] > best
    return found


def hypervolume(macs: Array, values: Array, reference: tuple[float, float]) -> float:
    """Return the area between a front and a reference point, in the product of both units.

    Args:
        macs: costs ``(n,)``, or their logarithms, less is better.
        values: ``(n,)``, larger is better.
        reference: cost and value of the worst point that counts; networks that are no better in both add nothing.

    Raises:
        AiopError: for arrays of different lengths.

    >>> hypervolume(np.array([1.0, 2.0]), np.array([1.0, 3.0]), (4.0, 0.0))
    7.0
    """
    macs, values = np.asarray(macs, np.float64), np.asarray(values, np.float64)
    if macs.shape != values.shape:
        raise AiopError(
            f"{len(macs)} costs and {len(values)} values make no front: give one of each per network"
        )
    front = on_front(macs, values) & (macs < reference[0]) & (values > reference[1])
    order = np.flatnonzero(front)[np.argsort(macs[front], kind="stable")]
    rise = np.diff(values[order], prepend=reference[1])
    return float(np.sum((reference[0] - macs[order]) * rise))


def pairwise_accuracy(scores: Array, macs: Array, values: Array, bins: int = 20) -> float:
    """Return the share of pairs within ranges of cost that scores order as values do; a tie of scores counts half.

    The n networks, sorted by MACs, are cut into so many ranges of equal numbers; pairs of equal values do not count,
    and nan is returned where there are no others.
    """
    scores, values = np.asarray(scores, np.float64), np.asarray(values, np.float64)
    right = total = 0.0
    for rows in np.array_split(np.argsort(macs, kind="stable"), max(1, bins)):
        better = values[rows][:, None] > values[rows][None]
        away = (scores[rows][:, None] - scores[rows][None])[better]
        right += float((away > 0).sum()) + 0.5 * float((away == 0).sum())
        total += float(better.sum())
    return right / total if total else float("nan")
