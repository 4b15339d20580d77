"""A kernel machine for pairs: the logistic loss on differences of scores (RankNet, Burges et al., 2005).

The loss is convex in the scores, so that Newton's method finds the one solution; no chance is involved but in which
networks are left out together. The cost is a feature like the others: the scores may bend with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from aiop.search.path_filter.pairs import DOUBT, Pairs, sigmoid

__all__ = ["KernelRanker"]

Array = npt.NDArray[Any]

_CLIP = 4.0
_POWER, _FLOOR = 0.5, 0.02  # of the screening of columns, and the squared correlation that each is granted
_LENGTHS, _PENALTIES = (1.0, 3.0), (1e-3, 1e-2, 1e-1)
_SUBSET = 250  # networks that length and penalty are chosen on
_FOLDS, _STEPS = 5, 15
_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class _Columns:
    """Standardised columns, each stretched by how much it has to do with the labels; a row's typical length is 1."""

    centre: Array
    scale: Array
    stretch: Array

    @classmethod
    def fit(cls, x: Array, residual: Array) -> Self:
        centre, deviation = x.mean(axis=0), x.std(axis=0)
        varies = deviation > 1e-6 * np.maximum(1.0, np.abs(x).max(axis=0, initial=0.0))
        scale = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)
        standard, away = cls(centre, scale, np.ones(x.shape[1]))(x), residual - residual.mean()
        spread = (standard**2).sum(axis=0) * max(1e-12, float(away @ away))
        squared = (standard.T @ away) ** 2 / np.where(spread > 0, spread, 1.0)
        chance = 1.0 / max(1, len(x) - 1)
        worth = (np.clip((squared - chance) / max(1.0 - chance, 1e-9), 0.0, 1.0) + _FLOOR) ** _POWER
        return cls(centre, scale, np.sqrt(worth / max(float((worth * varies).sum()), 1e-12)))

    def __call__(self, x: Array) -> Array:
        return np.asarray(np.clip((x - self.centre) * self.scale, -_CLIP, _CLIP) * self.stretch)


@dataclass(frozen=True, eq=False)
class KernelRanker:
    """Scores in the unit of the targets; their differences, over `DOUBT`, are logits.

    columns: how each block of features is scaled.
    support: ``(n, d)``, scaled features of the labelled networks; weights: ``(n,)``.
    held_out: ``(n,)``, what is said of each labelled network without its label, and without a fifth of the others.
    """

    columns: tuple[_Columns, ...]
    support: Array
    weights: Array
    length: float
    held_out: Array

    @classmethod
    def fit(cls, blocks: Sequence[Array], pairs: Pairs, *, seed: int = 0) -> Self:
        """Fit to blocks of features ``(n, d)``, each of which counts as much as the others.

        Args:
            blocks: what is known of n networks.
            pairs: what is learnt from, and what length and penalty are chosen by, on networks that were left out.
            seed: of what is left out together.
        """
        columns = tuple(_Columns.fit(block, pairs.residual) for block in blocks)
        support, count = _side_by_side(columns, blocks), len(pairs.weight)
        order = np.random.default_rng(seed).permutation(count)
        some = np.sort(order[:_SUBSET])
        folds = np.empty(count, np.int64)
        folds[order] = np.arange(count) % min(_FOLDS, count)
        losses = []
        for length in _LENGTHS:
            kernel = _kernel(support[some], support[some], length)
            for penalty in _PENALTIES:
                guess = _held_out(kernel, pairs.rows(some), penalty, folds[some])
                losses.append((pairs.rows(some).loss(guess / DOUBT), length, penalty))
        _, length, penalty = min(losses)
        kernel = _kernel(support, support, length)
        weights = _solved(kernel, pairs, penalty)
        return cls(columns, support, weights, length, _held_out(kernel, pairs, penalty, folds))

    def score(self, blocks: Sequence[Array]) -> Array:
        """Return scores ``(m,)``."""
        found = [np.zeros(0)]
        for start in range(0, len(blocks[0]), _CHUNK):
            x = _side_by_side(self.columns, [block[start : start + _CHUNK] for block in blocks])
            found.append(_kernel(x, self.support, self.length) @ self.weights)
        return np.concatenate(found)


def _side_by_side(columns: Sequence[_Columns], blocks: Sequence[Array]) -> Array:
    return np.concatenate([each(block) for each, block in zip(columns, blocks, strict=True)], axis=1)


def _kernel(one: Array, other: Array, length: float) -> Array:
    """A linear and a Matern-3/2 kernel."""
    linear = one @ other.T
    squared = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2.0 * linear
    away = np.sqrt(3.0 * np.maximum(squared, 0.0)) / length
    return np.asarray(linear + (1.0 + away) * np.exp(-away))


def _solved(kernel: Array, pairs: Pairs, penalty: float) -> Array:
    """Return the weights ``(n,)`` of the kernel's columns with the least loss plus penalty, by Newton's method."""
    count = len(kernel)
    weights = np.zeros(count)
    for _ in range(_STEPS):
        logits = kernel @ weights / DOUBT
        chance = sigmoid(logits[:, None] - logits[None])
        slope = (pairs.weight * (chance - pairs.chance)).sum(axis=1) / DOUBT
        bend = pairs.weight * chance * (1.0 - chance) / DOUBT**2
        matrix = (np.diag(bend.sum(axis=1)) - bend) @ kernel
        matrix[np.diag_indices(count)] += penalty
        step = np.linalg.solve(matrix, slope + penalty * weights)
        weights = weights - step
        if np.abs(kernel @ step).max(initial=0.0) < 1e-3:
            break
    return weights


def _held_out(kernel: Array, pairs: Pairs, penalty: float, folds: Array) -> Array:
    found = np.zeros(len(kernel))
    for fold in np.unique(folds):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        weights = _solved(kernel[np.ix_(inside, inside)], pairs.rows(inside), penalty)
        found[outside] = kernel[np.ix_(outside, inside)] @ weights
    return found
