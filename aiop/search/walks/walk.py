"""Walks from a network to cheaper ones: guided by a score, and by costs or chance alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.search.walks.ground import Ground

__all__ = ["MOST", "WIDTH", "Walked", "cut_first", "guided", "random_moves"]

Array = npt.NDArray[Any]

WIDTH = 4
"""Networks whose neighbours are looked at in one step of a guided walk."""

MOST = 500
"""Candidates that a guided walk scores for one target."""


@dataclass(frozen=True)
class Walked:
    """Where a walk ended.

    row: number of the chosen network, -1 where none within the target was found.
    scored: candidates that were looked at on the way.
    """

    row: int
    scored: int


def guided(
    ground: Ground, start: int, cap: float, score: Array, *, width: int = WIDTH, most: int = MOST
) -> Walked:
    """Search the surroundings of a network for the best score at no more than ``cap`` MACs, best first.

    In every step the neighbours of ``width`` networks not yet expanded are scored: of the best within the target, of
    the best above it, and of the cheapest above it, which lead there. The start itself is a candidate where it is
    within the target.

    Args:
        ground: the networks and their moves.
        start: number of the network to begin with.
        cap: MACs that the chosen network may have.
        score: ``(n,)``, larger is better.
        width: networks expanded in one step.
        most: candidates scored in all.
    """
    macs, neighbours = ground.macs, ground.neighbours
    seen = np.zeros(len(macs), bool)
    seen[start] = True
    waiting = np.array([start])
    best, scored = (start if macs[start] <= cap else -1), 0
    while len(waiting) and scored < most:
        places = _next(macs[waiting], score[waiting], cap, width)
        around = neighbours[waiting[places]]
        new = np.unique(around[around >= 0])
        new = new[~seen[new]]
        if len(new) > most - scored:  # the last ones: those nearest to the target count
            new = new[np.argsort(np.abs(np.log(macs[new] / cap)), kind="stable")[: most - scored]]
        seen[new] = True
        scored += len(new)
        waiting = np.concatenate([np.delete(waiting, places), new])
        inside = new[macs[new] <= cap]
        if len(inside):
            found = int(inside[score[inside].argmax()])
            best = found if best < 0 or score[found] > score[best] else best
    return Walked(best, scored)


def _next(macs: Array, score: Array, cap: float, width: int) -> Array:
    """Choose the places of what to expand: half within the target, the others on the way to it."""
    within = macs <= cap
    inside, outside = np.flatnonzero(within), np.flatnonzero(~within)
    first = inside[_top(score[inside], max(width - width // 2, width - len(outside)))]
    rest = width - len(first)
    by_score = outside[_top(score[outside], rest - rest // 2)]
    by_cost = outside[_top(-macs[outside], rest // 2)]
    return np.concatenate([first, by_score, by_cost])


def _top(values: Array, count: int) -> Array:
    """Return the places of the largest values; of equal ones the first."""
    return np.asarray((-values).argsort(kind="stable")[:count])


def random_moves(ground: Ground, start: int, cap: float, seed: int | Sequence[int]) -> Walked:
    """Take random moves that lower the MACs until the target is met."""
    random = np.random.default_rng(seed)
    return _descend(ground, start, cap, lambda lower: int(lower[random.integers(len(lower))]))


def cut_first(ground: Ground, start: int, cap: float, *, largest: bool) -> Walked:
    """Take the move that cuts the most MACs (or the fewest) until the target is met."""

    def pick(lower: Array) -> int:
        macs = ground.macs[lower]
        return int(lower[np.argmin(macs) if largest else np.argmax(macs)])

    return _descend(ground, start, cap, pick)


def _descend(ground: Ground, start: int, cap: float, pick: Callable[[Array], int]) -> Walked:
    row, looked = start, 0
    while ground.macs[row] > cap:
        around = ground.neighbours[row]
        around = around[around >= 0]
        lower = around[ground.macs[around] < ground.macs[row]]
        if not len(lower):
            return Walked(-1, looked)
        looked += len(lower)
        row = pick(lower)
    return Walked(row, looked)
