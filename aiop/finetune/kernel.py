"""A second expert: kernel regression on the hand-made features of whole graphs.

Where labels are few (hundreds of networks), a kernel on counts and costs generalises to unseen families better than
a graph network, and the two err differently. The expert is exact Gaussian-process regression (its mean) with the
exponential kernel ``exp(-|x - y| / (length * sqrt(features)))``, whose predictions go back to the mean of the
labels far from every known network. The features come in blocks (costs, counts of operators, costs per resolution):
before distances are taken each block is stretched, costs most, by as much as cross-validation asks for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError

__all__ = ["ARRAYS", "LARGEST", "KernelExpert"]

Array = npt.NDArray[Any]

ARRAYS = ("centre", "scale", "stress", "support", "weights")
"""What a fitted expert is saved as, besides its length."""

LARGEST = 3000
"""Networks: above this many the graph network has enough labels, and the kernel matrix gets large."""

_CLIP = 4.0
_BLOCKS = ("log_", "count_", "level")
_STRESSES = ((1.0, 1.0, 1.0), (4.0, 1.0, 1.0), (4.0, 0.5, 0.25), (16.0, 1.0, 0.5))
"""Weights of the squared differences in costs, counts of operators, and costs per resolution level."""
_LENGTHS = (1.0, 2.0, 4.0)
_NOISES = (0.03, 0.1, 0.3)
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class KernelExpert:
    """Fitted kernel regression of T scaled targets.

    ``centre``, ``scale``: ``(G,)``, standardisation (scale 0 leaves a constant feature out); ``support``: ``(n, G)``,
    standardised features of the known networks; ``weights``: ``(n, T)``. ``held_out``: ``(n, T)``, what a fit without
    a network's group says of it; only there after `fit`. ``stress``: ``(G,)``, how much each standardised feature is
    stretched, which ``support`` already is.
    """

    centre: Array
    scale: Array
    stress: Array
    support: Array
    weights: Array
    length: float
    held_out: Array | None = None

    @classmethod
    def fit(
        cls, features: Array, targets: Array, groups: list[str], seed: int = 0, names: Sequence[str] = ()
    ) -> KernelExpert:
        """Fit to features ``(n, G)``, called ``names``, and scaled targets ``(n, T)`` (nan where unknown).

        Stress, length and noise are those with the least squared error in 5-fold cross-validation that keeps every
        group on one side.

        Raises:
            AiopError: fewer than two groups, or more than `LARGEST` networks.
        """
        if not 2 <= len(features) <= LARGEST or len(set(groups)) < 2:
            raise AiopError(
                f"kernel regression needs 2 to {LARGEST} networks of at least two groups, found {len(features)} of "
                f"{len(set(groups))}: give more labels, or a part of them"
            )
        features = np.asarray(features, np.float64)
        centre, deviation = features.mean(axis=0), features.std(axis=0)
        scale = np.where(deviation > 1e-6, 1.0 / np.maximum(deviation, 1e-6), 0.0)
        standardised = _standardise(features, centre, scale)
        folds = _folds(groups, seed)
        losses: list[tuple[float, float, float, int]] = []
        stresses = [_stress(names, weights) for weights in _STRESSES] if names else [np.ones(len(scale))]
        for choice, stress in enumerate(stresses):
            distances: Array = _distances(standardised * stress, standardised * stress) / _reach(
                scale, stress
            )
            for length in _LENGTHS:
                kernel: Array = np.exp(-distances / length)
                for noise in _NOISES:
                    guess = _out_of_fold(kernel, targets, folds, noise)
                    losses.append((float(np.nanmean((guess - targets) ** 2)), length, noise, choice))
        _, length, noise, choice = min(losses)
        stress = stresses[choice]
        support = standardised * stress
        kernel = np.exp(-_distances(support, support) / (length * _reach(scale, stress)))
        weights = _solve(kernel, targets, noise)
        held_out = _out_of_fold(kernel, targets, folds, noise)
        return cls(centre, scale, stress, support, weights, length, held_out)

    def predict(self, features: Array, columns: list[int] | None = None) -> Array:
        """Return scaled targets ``(m, T)`` (or of some columns) for features ``(m, G)``."""
        points = _standardise(np.asarray(features, np.float32), self.centre, self.scale) * self.stress
        reach = self.length * _reach(self.scale, self.stress)
        kernel: Array = np.exp(-_distances(points, self.support) / reach)
        return np.asarray(kernel @ (self.weights if columns is None else self.weights[:, columns]))

    def arrays(self) -> dict[str, Array]:
        """Return everything but the length, for saving; support and weights at half and single precision."""
        return {
            "centre": self.centre.astype(np.float32),
            "scale": self.scale.astype(np.float32),
            "stress": self.stress.astype(np.float32),
            "support": self.support.astype(np.float16),
            "weights": self.weights.astype(np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array], length: float) -> KernelExpert:
        """Restore what `arrays` returned."""
        restored = {name: np.asarray(arrays[name], np.float32) for name in ARRAYS}
        return cls(**restored, length=length)


def _standardise(features: Array, centre: Array, scale: Array) -> Array:
    return np.asarray(np.clip((features - centre) * scale, -_CLIP, _CLIP))


def _stress(names: Sequence[str], weights: tuple[float, ...]) -> Array:
    """Return how much every feature is stretched where squared differences in each block have a weight."""
    stress = np.ones(len(names))
    for block, weight in zip(_BLOCKS, weights, strict=True):
        stress[[name.startswith(block) for name in names]] = math.sqrt(weight)
    return stress


def _reach(scale: Array, stress: Array) -> float:
    """Return the order of typical distances: the root of the number of features that count, each as it is stretched."""
    return math.sqrt(max(1.0, float(np.sum(stress[scale > 0] ** 2))))


def _distances(one: Array, other: Array) -> Array:
    squared = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2.0 * (one @ other.T)
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def _folds(groups: list[str], seed: int) -> Array:
    names = sorted(set(groups))
    place = dict(
        zip(names, np.random.default_rng(seed).permutation(len(names)) % min(_FOLDS, len(names)), strict=True)
    )
    return np.array([place[group] for group in groups])


def _out_of_fold(kernel: Array, targets: Array, folds: Array, noise: float) -> Array:
    """Return predictions ``(n, T)`` of every network by a fit to the folds it is not in."""
    guess = np.empty(targets.shape)
    for fold in np.unique(folds):
        inside, outside = folds != fold, folds == fold
        weights = _solve(kernel[inside][:, inside], targets[inside], noise)
        guess[outside] = kernel[outside][:, inside] @ weights
    return guess


def _solve(kernel: Array, targets: Array, noise: float) -> Array:
    """Return the weights ``(n, T)`` of (K + noise) w = y, each column over its known rows; 0 on the others."""
    weights = np.zeros(targets.shape)
    patterns: dict[bytes, list[int]] = {}
    for column in range(targets.shape[1]):
        patterns.setdefault(np.isfinite(targets[:, column]).tobytes(), []).append(column)
    for columns in patterns.values():
        known = np.flatnonzero(np.isfinite(targets[:, columns[0]]))
        if len(known):
            matrix: Array = kernel[known][:, known] + noise * np.eye(len(known))
            weights[known[:, None], columns] = np.linalg.solve(matrix, targets[known][:, columns])
    return weights
