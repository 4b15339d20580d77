"""Which candidates survive: the best of every range of cost, each compared with what is a little cheaper.

A network can only be on a Pareto front if nothing that is cheaper is better. A candidate's standing is therefore its
score less the best score among the candidates that cost a little less: those that would raise the front come first,
then those that fall short of it by least. The cheapest have next to none to be compared with, and stay. Most survivors
are chosen range by range, so that every cost keeps its own; where the front has more steps than that leaves, the others
come in.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError

__all__ = ["FIXED", "PER_RANGE", "WINDOW", "kept", "standing"]

Array = npt.NDArray[Any]

PER_RANGE = 5
"""Survivors of one range of cost: with fewer, ranges are narrow and many of the survivors are not good."""

FIXED = 0.75
"""Share of the survivors that is spread evenly over the ranges; the others are those that stand best anywhere."""

WINDOW = 10
"""Survivors among the cheaper candidates that a candidate is compared with."""


def standing(scores: Array, macs: Array, width: int) -> Array:
    """Return scores ``(n,)`` less the best among the next ``width`` cheaper candidates, infinite where there is none.

    Of candidates of equal MACs those with the higher scores count as cheaper.
    """
    order = np.lexsort((-scores, macs))
    found = np.full(len(order), np.inf)
    for place in range(1, len(order)):
        cheaper = scores[order[max(0, place - width) : place]]
        found[order[place]] = scores[order[place]] - cheaper.max()
    return found


def kept(scores: Array, macs: Array, share: float) -> Array:
    """Return which of n candidates survive, bool ``(n,)``: ``ceil(share * n)`` of them.

    The candidates, in the order of cost, are cut into ranges of equal numbers: as many as there are survivors for, with
    `PER_RANGE` each. Of every range `FIXED` of its share survive in any case, to within one; the others are those that
    stand best of all that are left, whatever they cost.

    Args:
        scores: ``(n,)``, larger is better; only differences between candidates of similar cost count.
        macs: ``(n,)``.
        share: above 0 and at most 1.

    Raises:
        AiopError: for another share, or arrays of different lengths.
    """
    if not 0 < share <= 1:
        raise AiopError(f"share {share} is not above 0 and at most 1: 0.2 keeps one candidate in five")
    scores, macs = np.asarray(scores, np.float64), np.asarray(macs, np.float64)
    if scores.shape != macs.shape:
        raise AiopError(f"{len(scores)} scores and {len(macs)} MACs: give one of each per candidate")
    count = len(scores)
    survivors = math.ceil(share * count - 1e-9)
    ranges = max(1, survivors // PER_RANGE)
    order = np.argsort(
        macs, kind="stable"
    )  # of equal costs in any order: a range must not get the worse half
    stand = standing(scores, macs, max(1, math.ceil(WINDOW / share)))
    ends = _ends(count, ranges)
    quotas = _ends(math.floor(FIXED * survivors), ranges)
    keep = np.zeros(count, bool)
    for place in range(ranges):
        rows = order[ends[place] : ends[place + 1]]
        keep[_best(rows, scores, stand)[: quotas[place + 1] - quotas[place]]] = True
    keep[_best(np.flatnonzero(~keep), scores, stand)[: survivors - int(keep.sum())]] = True
    return keep


def _best(rows: Array, scores: Array, stand: Array) -> Array:
    """Return rows, those that stand best first, of equals those with the higher scores."""
    return np.asarray(rows[np.lexsort((-scores[rows], -stand[rows]))])


def _ends(count: int, parts: int) -> list[int]:
    """Return where ``parts`` ranges of nearly equal numbers end, from 0 to ``count``."""
    return [
        (count * place + parts // 2) // parts if 0 < place < parts else count * (place == parts)
        for place in range(parts + 1)
    ]
