"""Pairs of networks of similar cost, and how likely one is better than the other: what a path filter learns from.

The bins overlap: two networks count as a pair by how near their logarithms of MACs are, measured by how far each has
to look for its share of the others. Where networks are dense the bins are narrow, where they are rare they are wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError

__all__ = ["BINS", "DOUBT", "Pairs", "checked", "log_macs", "sigmoid", "similar", "standard_targets"]

Array = npt.NDArray[Any]

BINS = 2
"""Ranges of cost, each with as many networks as the others, that the width of the overlapping bins is told by.

Wide ones, half of the networks: pairs a little further apart in cost teach the same things and there are more of them.
On measured tables ten narrow bins order slightly fewer pairs of similar cost as measured.
"""

DOUBT = 1.0
"""Difference of two values, in deviations, that leaves as much doubt of who is better as one logit."""


def checked(features: Array, macs: Array, values: Array | None = None) -> tuple[Array, Array]:
    """Return features as float64 ``(n, d)`` and log2 of MACs ``(n,)``.

    Raises:
        AiopError: for shapes that do not fit, numbers that are not finite, or MACs that are not above 0.
    """
    x, macs = np.asarray(features, np.float64), np.asarray(macs, np.float64)
    if x.ndim != 2 or macs.shape != (len(x),):
        raise AiopError(
            f"features have shape {x.shape} and MACs {macs.shape}: give (n, d) features and n numbers of MACs"
        )
    if values is not None and np.shape(values) != (len(x),):
        raise AiopError(f"values have shape {np.shape(values)} for {len(x)} networks: give one each")
    for name, numbers in (("features", x), ("MACs", macs), ("values", values)):
        if numbers is not None and not np.isfinite(np.asarray(numbers, np.float64)).all():
            raise AiopError(f"{name} of the path filter are not all finite: leave out such networks")
    return x, log_macs(macs)


def log_macs(macs: Array) -> Array:
    """Return log2 of MACs ``(n,)``; 0 or less is an `AiopError`."""
    macs = np.asarray(macs, np.float64)
    if (macs <= 0).any():
        raise AiopError(
            f"MACs of the path filter are not all above 0 (the least are {macs.min():g}): count them again"
        )
    return np.asarray(np.log2(macs))


def standard_targets(values: Array) -> tuple[Array, float, float]:
    """Return values ``(n,)`` on a scale of their own, with its centre and unit: their median and what two thirds span.

    Networks that failed to train, however low, widen the scale little.

    Raises:
        AiopError: for fewer than two values, or values that are all equal.
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2 or np.ptp(values) == 0:
        raise AiopError(
            f"a path filter learns from values that differ and found {len(values)} of one kind: measure more networks"
        )
    low, centre, high = np.quantile(values, [0.16, 0.5, 0.84])
    unit = float(high - low) / 2 or float(values.std())
    return np.asarray((values - centre) / unit), float(centre), unit


def similar(cost: Array, bins: int | None = None) -> Array:
    """Return how much two networks count as a pair of one cost, ``(n, n)``, from 0 to 1.

    Args:
        cost: log2 of MACs ``(n,)``.
        bins: of how many ranges of cost; `BINS` where None.

    Raises:
        AiopError: for fewer than one bin.
    """
    count = len(cost)
    if bins is not None and bins < 1:
        raise AiopError(f"bins is {bins}: give at least 1 range of cost")
    bins = BINS if bins is None else bins
    away = np.abs(cost[:, None] - cost[None])
    place = min(count - 1, max(1, round(count / (2 * bins))))
    reach = np.maximum(np.partition(away, place, axis=1)[:, place], 1e-9)
    return np.asarray(np.exp(-0.5 * away**2 / (reach[:, None] * reach[None])))


@dataclass(frozen=True, eq=False)
class Pairs:
    """All pairs of n networks.

    weight: ``(n, n)``, symmetric, how much a pair counts; the sum over a network's pairs is 1 on the mean.
    chance: ``(n, n)``, that the network of the row is better than that of the column: values have noise, and of nearly
        equal ones nobody knows.
    residual: ``(n,)``, targets less what is usual among the networks that each is paired with.
    """

    weight: Array
    chance: Array
    residual: Array

    @classmethod
    def of(cls, cost: Array, targets: Array, *, bins: int | None = None, conditioned: bool = True) -> Self:
        """Pair networks by log2 of MACs ``(n,)`` and their targets ``(n,)``; all with all unless ``conditioned``."""
        weight = similar(cost, bins) if conditioned else np.ones((len(cost), len(cost)))
        residual = targets - weight @ targets / weight.sum(axis=1)
        np.fill_diagonal(weight, 0.0)
        weight /= max(float(weight.sum(axis=1).mean()), 1e-12)
        return cls(weight, sigmoid((targets[:, None] - targets[None]) / DOUBT), residual)

    def rows(self, places: Array) -> Pairs:
        """Return the pairs among some of the networks."""
        cut = np.ix_(places, places)
        return Pairs(self.weight[cut], self.chance[cut], self.residual[places])

    def loss(self, logits: Array) -> float:
        """Return the logistic loss of scores ``(n,)`` whose differences are logits, per unit of weight."""
        away = logits[:, None] - logits[None]
        found = self.weight * (np.logaddexp(0.0, away) - self.chance * away)
        return float(found.sum() / max(float(self.weight.sum()), 1e-12))


def sigmoid(x: Array) -> Array:
    """Return the logistic function."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))
