"""Which candidates are tried: structured ones first, then children of the best, all of them inside the window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.search.compression.space import Levels, SearchSpace

__all__ = ["children", "front_ranks", "seeds"]

Array = npt.NDArray[Any]

_PARENTS = 24
_IMMIGRANTS = 0.1  # share of children that have no parents


def seeds(space: SearchSpace, low: float, high: float, seed: int) -> Iterator[Levels]:
    """Yield structured candidates, each once: what people do by hand, and what costs the outputs least.

    Greedy choices by loss per MACs among all mutations and among each kind alone; each kind in equal parts, more of it
    near the input, in the middle or near the output; blocks removed from the last to the first, the rest by widths.
    """
    rng = np.random.default_rng([seed, 1])
    seen: set[Levels] = set()
    kinds = space.mutations
    wide = "width" if "width" in kinds else kinds[0]
    drafts: list[tuple[Array | None, Array]] = []
    groups = [kinds, *((kind,) for kind in kinds), *(("width", kind) for kind in kinds if kind != "width")]
    for group in groups:
        movable = space.of(group)
        drafts.append((_greedy(space, high, movable), movable))
    for kind in kinds:
        movable = space.of((kind,))
        depth = space.depth[movable]
        for profile in (np.ones(len(movable)), depth, 1 - depth, 1 - abs(2 * depth - 1)):
            strengths = np.zeros(len(space))
            strengths[movable] = profile + 1e-3
            drafts.append((space.by_strength(strengths, high), movable))
    if "block" in kinds:
        blocks = space.of(("block",))
        late = blocks[np.argsort(-space.depth[blocks], kind="stable")]
        for count in range(1, min(len(late), 8) + 1):
            gone = np.zeros(len(space), np.int64)
            gone[late[:count]] = 1
            drafts.append((gone, np.union1d(space.of((wide,)), late[:count])))
    for levels, movable in drafts:
        found = None if levels is None else space.into_window(levels, low, high, rng, movable)
        if found is None and levels is not None:
            found = space.into_window(levels, low, high, rng)
        if found is not None and (key := _key(found)) not in seen:
            seen.add(key)
            yield key


def children(
    space: SearchSpace, parents: Sequence[Levels], low: float, high: float, rng: np.random.Generator
) -> Iterator[Levels]:
    """Yield, without end, variants of ``parents``, the best first, and some that have none.

    A child takes each place from one of two parents (or all of one), then some places change by a step or to anything;
    what that does to the MACs is made good elsewhere. Half of the time steps are taken that lose least.
    """
    while True:
        if not parents or rng.random() < _IMMIGRANTS:
            found = _random(space, low, high, rng)
        else:
            found = _child(space, parents, low, high, rng)
        if found is not None:
            yield _key(found)
        else:
            fallback = _random(space, low, high, rng)
            if fallback is not None:
                yield _key(fallback)


def front_ranks(objectives: Array) -> Array:
    """Return the front of each row of ``(n, k)`` objectives, all maximised: 0 for those no other row dominates.

    >>> front_ranks(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])).tolist()
    [0, 0, 1]
    """
    count = len(objectives)
    better = (objectives[:, None, :] >= objectives[None, :, :]).all(axis=2)
    better &= (objectives[:, None, :] > objectives[None, :, :]).any(axis=2)
    ranks = np.full(count, -1)
    left, rank = np.ones(count, bool), 0
    while left.any():
        front = left & ~(better & left[:, None]).any(axis=0)
        ranks[front] = rank
        left &= ~front
        rank += 1
    return ranks


def _key(levels: Array) -> Levels:
    return tuple(int(level) for level in levels)


def _greedy(space: SearchSpace, high: float, movable: Array) -> Array | None:
    """Take the step that loses least for the MACs it saves, until they are at most ``high``."""
    levels = np.zeros(len(space), np.int64)
    macs, loss = space.macs(levels), 0.0
    while macs > high:
        places, after, losses = space.steps(levels, 1)
        useful = np.isin(places, movable) & (after < macs)
        if not useful.any():
            return None
        places, after, losses = places[useful], after[useful], losses[useful]
        best = int(((losses - loss + 1e-6) / (macs - after)).argmin())
        levels[places[best]] += 1
        macs, loss = float(after[best]), float(losses[best])
    return levels


def _random(space: SearchSpace, low: float, high: float, rng: np.random.Generator) -> Array | None:
    """A candidate without parents: some kinds of mutations, drawn strengths, in drawn places."""
    kinds = [kind for kind in space.mutations if rng.random() < 0.6] or [str(rng.choice(space.mutations))]
    movable = space.of(kinds)
    strengths = np.zeros(len(space))
    strengths[movable] = rng.exponential(size=len(movable)) * (rng.random(len(movable)) < rng.random())
    levels = space.by_strength(strengths, high)
    found = space.into_window(levels, low, high, rng, movable)
    return found if found is not None else space.into_window(levels, low, high, rng)


def _child(
    space: SearchSpace, parents: Sequence[Levels], low: float, high: float, rng: np.random.Generator
) -> Array | None:
    pool = parents[:_PARENTS]
    one, other = (np.array(pool[min(rng.integers(len(pool), size=2))], np.int64) for _ in range(2))
    levels = np.where(rng.random(len(space)) < 0.5, one, other) if rng.random() < 0.5 else one.copy()
    for _ in range(1 + int(rng.geometric(0.4))):
        place = int(rng.integers(len(space)))
        if rng.random() < 0.5:
            step = int(rng.choice((-1, 1)))
            levels[place] = int(np.clip(levels[place] + step, 0, space.most[place]))
        else:
            levels[place] = int(rng.integers(space.most[place] + 1))
    if rng.random() < 0.5:
        levels = _exchange(space, levels)
    changed = np.flatnonzero(levels > 0) if rng.random() < 0.5 else None
    found = None if changed is None else space.into_window(levels, low, high, rng, changed)
    return found if found is not None else space.into_window(levels, low, high, rng)


def _exchange(space: SearchSpace, levels: Array) -> Array:
    """Take back the step that costs most for what it saves; the window asks for another one instead."""
    places, after, losses = space.steps(levels, -1)
    macs, loss = space.macs(levels), space.loss(levels)
    useful = after > macs
    if not useful.any():
        return levels
    worth = (loss - losses[useful]) / (after[useful] - macs)
    levels = levels.copy()
    levels[places[useful][int(worth.argmax())]] -= 1
    return levels
