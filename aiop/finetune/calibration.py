"""What a prediction is worth: conformal intervals, and how far a network is from those seen in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "Neighbourhood", "conformal_quantile", "rescaling"]

Array = npt.NDArray[Any]

_LEAST_PER_BIN = 50
_LEAST_GROUPS = 30


def conformal_quantile(
    residuals: Array, coverage: float, groups: Sequence[str] | Array | None = None
) -> float:
    """Return the half-width that covers a share ``coverage`` of new residuals, by split conformal prediction.

    The ``ceil((n + 1) * coverage)``-th smallest absolute residual of ``(n,)`` held-out ones (Vovk et al. 2005; Lei et
    al. 2018); the largest where ``n`` is too small for that, nan for none. With ``groups`` every group counts as one,
    shared by its residuals: what is new comes from a group of its own, and large groups must not speak for all.
    """
    magnitudes = np.abs(np.asarray(residuals, np.float64))
    if not len(magnitudes):
        return float("nan")
    labels = np.arange(len(magnitudes)) if groups is None else np.asarray(groups)
    _, place, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(magnitudes, kind="stable")
    covered = np.cumsum(1.0 / sizes[place][order])
    position = int(np.searchsorted(covered, coverage * (len(sizes) + 1) - 1e-9))
    return float(magnitudes[order[min(position, len(order) - 1)]])


def rescaling(predicted: Array, measured: Array, groups: Sequence[str]) -> tuple[float, float]:
    """Return (offset, slope) of the increasing line from scaled ``(n,)`` predictions to held-out targets.

    Training for ranks stretches predictions; the least-squares line takes that back for the mean error's sake and
    leaves every rank as it is. The slope is kept within 1/4 and 4. Networks of one group err together, so fewer than
    30 groups say little of the next one and give the identity.
    """
    known = np.isfinite(predicted) & np.isfinite(measured)
    x, y = np.asarray(predicted, np.float64)[known], np.asarray(measured, np.float64)[known]
    if (
        len({group for group, kept in zip(groups, known, strict=True) if kept}) < _LEAST_GROUPS
        or np.ptp(x) < 1e-9
    ):
        return 0.0, 1.0
    slope = float(np.clip(np.cov(x, y, bias=True)[0, 1] / np.var(x), 0.25, 4.0))
    return float(y.mean() - slope * x.mean()), slope


@dataclass(frozen=True)
class Interval:
    """Half-widths of a task's interval on its scaled targets, as a function of the prediction.

    Errors differ along the range (networks that fail are hard to place), so the held-out residuals are cut into bins of
    like prediction, each with its own conformal quantile; between bin centres the half-width is interpolated.
    """

    centres: tuple[float, ...]
    widths: tuple[float, ...]

    @classmethod
    def fit(
        cls, predicted: Array, measured: Array, coverage: float, groups: Sequence[str] | None = None
    ) -> Interval:
        """Fit to held-out scaled ``(n,)`` predictions and targets (nan left out); at least 50 residuals per bin.

        ``groups`` as in `conformal_quantile`.
        """
        known = np.isfinite(predicted) & np.isfinite(measured)
        x, y = np.asarray(predicted, np.float64)[known], np.asarray(measured, np.float64)[known]
        if not len(x):
            return cls((0.0,), (float("inf"),))
        order = np.argsort(x, kind="stable")
        parts = np.array_split(order, max(1, min(4, len(x) // _LEAST_PER_BIN)))
        centres = [float(np.median(x[part])) for part in parts]
        labels = np.arange(len(x)) if groups is None else np.asarray(groups)[known]
        widths = [conformal_quantile(y[part] - x[part], coverage, labels[part]) for part in parts]
        return cls(tuple(centres), tuple(widths))

    def half_width(self, predicted: Array) -> Array:
        """Return the half-width at ``(n,)`` scaled predictions."""
        order = np.argsort(self.centres)
        return np.asarray(
            np.interp(predicted, np.asarray(self.centres)[order], np.asarray(self.widths)[order])
        )


class Neighbourhood:
    """How far a point is from a training set: the mean distance to its nearest references.

    Points are whitened along the principal axes of the training set. ``limit`` is the distance that 97% of what is new
    stays within: held-out points, and training points seen from the groups they are not in, every group with one vote.
    """

    NEAREST = 3
    INSIDE = 0.97

    def __init__(self, mean: Array, axes: Array, references: Array, limit: float) -> None:
        self.mean, self.axes, self.references, self.limit = mean, axes, references, limit

    @classmethod
    def fit(
        cls,
        train: Array,
        held_out: Array,
        groups: tuple[Sequence[str], Sequence[str]] | None = None,
        *,
        floor: float = 0.0,
        references: int = 2000,
        seed: int = 0,
    ) -> Neighbourhood:
        """Fit to training points ``(n, D)`` and held-out ones ``(m, D)``, with the groups of both (each its own).

        ``floor`` is the least deviation along an axis that counts: what training hardly varies in is new where it
        does vary, but must not drown the rest. ``references`` training points, drawn by ``seed``, are kept.
        """
        train = np.asarray(train, np.float64)
        mean = train.mean(axis=0)
        values, rotation = np.linalg.eigh((train - mean).T @ (train - mean) / max(1, len(train)))
        deviation = np.sqrt(np.maximum(values, 0.0))
        axes = rotation / np.maximum(deviation, max(floor or 0.1 * deviation[-1], 1e-9))
        places = np.random.default_rng(seed).permutation(len(train))[:references]
        found = cls(mean, axes, (train[places] - mean) @ axes, 1.0)
        own, other = groups or (
            [f"train {i}" for i in range(len(train))],
            [f"held out {i}" for i in range(len(held_out))],
        )
        names = np.asarray(own)[places]
        left_out = found._nearest(train[places], names[:, None] == names[None])
        new = found.distance(held_out) if len(held_out) else np.empty(0)
        known = np.isfinite(left_out)
        found.limit = conformal_quantile(
            np.concatenate([left_out[known], new]),
            cls.INSIDE,
            np.concatenate([names[known], np.asarray(other)]),
        )
        return found

    def distance(self, points: Array) -> Array:
        """Return the distance of ``(n, D)`` points to the training set, ``(n,)``."""
        return self._nearest(points)

    def _nearest(self, points: Array, hidden: Array | None = None) -> Array:
        """Return distances to the nearest references, of which those of ``hidden`` ``(n, references)`` do not count."""
        white: Array = (np.asarray(points, np.float64) - self.mean) @ self.axes
        squared = (
            (white**2).sum(1)[:, None] + (self.references**2).sum(1)[None] - 2.0 * white @ self.references.T
        )
        distances = np.sqrt(np.maximum(squared, 0.0))
        if hidden is not None:
            distances[hidden] = np.inf
        count = min(self.NEAREST, len(self.references))
        nearest = np.partition(distances, count - 1, axis=1)[:, :count]
        return np.asarray(nearest.mean(axis=1))
