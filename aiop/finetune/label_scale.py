"""Labels of a new task as targets near N(0, 1), and back: few of them, and some far out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError

__all__ = ["LabelScale", "Warp", "check_labels"]

Array = npt.NDArray[Any]
Transform = Literal["identity", "log"]

_FENCES = 3.0  # interquartile ranges beyond the quartiles: Tukey's far out
_FENCE, _SLOW, _FAR = 3.5, 1.0 / 3.0, 7.5
_POWERS = (-3.0, 5.0)
_REACH, _BEYOND = 8.0, 1.0


def check_labels(values: Array, count: int, transform: str) -> Array:
    """Return labels as float64 ``(n,)``, or say in one line what is wrong with them.

    No labels at all are fine; one alone, missing, infinite or constant ones are not.
    """
    try:
        labels = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise AiopError("the labels are not all numbers: give one number per network") from error
    if labels.shape != (count,):
        raise AiopError(f"labels have shape {labels.shape} for {count} networks: give one number each")
    if not count:
        return labels
    if not np.isfinite(labels).all():
        missing = int(np.sum(~np.isfinite(labels)))
        raise AiopError(f"{missing} of {count} labels are missing or infinite: remove these networks")
    if count < 2:
        raise AiopError(
            "one label alone says nothing of differences: give at least two, or none for ranks only"
        )
    if transform == "log" and (labels <= 0).any():
        raise AiopError(
            f"{int(np.sum(labels <= 0))} of {count} labels are not above 0 and have no logarithm: remove them or "
            'use transform="identity"'
        )
    if np.ptp(labels) <= 1e-12 * max(1e-300, float(np.abs(labels).max())):
        raise AiopError(f"all {count} labels are {labels[0]:g}: give networks whose values differ")
    return labels


@dataclass(frozen=True, slots=True)
class LabelScale:
    """An increasing map between labels and targets.

    The labels (their logarithms under ``log``) minus ``centre``, over ``scale``: mean and deviation of the labels, of
    which those beyond Tukey's outer fences count as if they stood there. Beyond 3.5 deviations a target grows a third
    as fast, and labels beyond 11 count as if they were at 11, so that a failed run does not outweigh all others.
    """

    transform: Transform
    centre: float
    scale: float

    @classmethod
    def fit(cls, labels: Array, transform: Transform = "identity") -> LabelScale:
        """Fit to labels ``(n,)`` that `check_labels` has passed."""
        values = np.log(labels) if transform == "log" else np.asarray(labels, np.float64)
        low, high = np.quantile(values, [0.25, 0.75])
        reach = _FENCES * (high - low)
        inside = np.clip(values, low - reach, high + reach)
        inside = inside if inside.std() > 1e-6 * values.std() else values
        return cls(transform, float(inside.mean()), float(inside.std()))

    def forward(self, labels: Array) -> Array:
        """Return targets of labels ``(n,)``."""
        values = np.log(labels) if self.transform == "log" else np.asarray(labels, np.float64)
        scaled = (values - self.centre) / self.scale
        size = np.abs(scaled)
        slow = _SLOW * np.clip(size - _FENCE, 0.0, _FAR)
        return np.asarray(np.sign(scaled) * (np.minimum(size, _FENCE) + slow))

    def backward(self, targets: Array) -> Array:
        """Return labels of targets ``(n,)``; infinite targets give infinite labels, or 0 under ``log``."""
        targets = np.asarray(targets, np.float64)
        with np.errstate(over="ignore"):
            size = np.abs(targets)
            slow = np.maximum(size - _FENCE, 0.0) / _SLOW
            scaled = np.sign(targets) * (np.minimum(size, _FENCE) + slow)
            values = self.centre + self.scale * scaled
            return np.asarray(np.exp(values) if self.transform == "log" else values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Warp:
    """Yeo and Johnson's power transform (Biometrika 2000) of targets, then standardised; power 1 changes nothing.

    What is bent back stays within ``low`` and ``high``, one deviation beyond the targets seen: bending stretches
    extrapolations beyond all bounds.
    """

    power: float
    mean: float = 0.0
    deviation: float = 1.0
    low: float = -_REACH
    high: float = _REACH

    @classmethod
    def fit(cls, targets: Array) -> Warp:
        """Fit the power by maximum likelihood to targets ``(n,)``."""
        from scipy.stats import yeojohnson_normmax

        power = float(np.clip(yeojohnson_normmax(np.asarray(targets, np.float64)), *_POWERS))
        bent = _bend(targets, power)
        low, high = float(np.min(targets)) - _BEYOND, float(np.max(targets)) + _BEYOND
        return cls(power, float(bent.mean()), max(1e-9, float(bent.std())), low, high)

    def forward(self, targets: Array) -> Array:
        """Return warped targets ``(n,)``."""
        return (_bend(targets, self.power) - self.mean) / self.deviation

    def backward(self, warped: Array) -> Array:
        """Return targets of warped ones ``(n,)``."""
        low, high = _bend(np.array([self.low, self.high]), self.power)
        bent = np.clip(np.asarray(warped) * self.deviation + self.mean, low, high)
        right = _unpower(np.maximum(bent, 0.0), self.power)
        left = _unpower(np.maximum(-bent, 0.0), 2.0 - self.power)
        return np.asarray(np.where(bent >= 0, right, -left))


def _bend(targets: Array, power: float) -> Array:
    targets = np.asarray(targets, np.float64)
    right = _power(np.maximum(targets, 0.0), power)
    left = _power(np.maximum(-targets, 0.0), 2.0 - power)
    return np.asarray(np.where(targets >= 0, right, -left))


def _power(size: Array, power: float) -> Array:
    """((1 + size) ** power - 1) / power, and its limit at power 0."""
    return np.asarray(np.log1p(size) if abs(power) < 1e-9 else np.expm1(power * np.log1p(size)) / power)


def _unpower(size: Array, power: float) -> Array:
    if abs(power) < 1e-9:
        return np.asarray(np.expm1(size))
    inside = np.maximum(size * power, -1.0 + 1e-12)  # a negative power has a bound it never reaches
    return np.asarray(np.expm1(np.log1p(inside) / power))
