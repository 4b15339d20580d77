"""AIO-P's label scalers: standardised values, or values per logarithm of the FLOPs, standardised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError, suggest

__all__ = ["LabelScaling", "Scaling", "per_flops"]

Array = npt.NDArray[Any]
Scaling = Literal["stand", "stand_flops"]


def per_flops(gflops: Array) -> Array:
    """Return what ``stand_flops`` divides labels by: ``log10(GFLOPs + 1) + 1``.

    >>> per_flops(np.array([0.0, 9.0, 99.0])).tolist()
    [1.0, 2.0, 3.0]
    """
    return np.log10(np.asarray(gflops, np.float64) + 1.0) + 1.0


@dataclass(frozen=True)
class LabelScaling:
    """``stand``: (y - mu) / sigma. ``stand_flops``: the same of y divided by `per_flops`, each network's own."""

    kind: Scaling
    mean: float
    deviation: float

    @classmethod
    def fit(cls, kind: Scaling, values: Array, gflops: Array) -> LabelScaling:
        """Fit to ``(n,)`` values and FLOPs, n at least 1; constant values have the deviation 1.

        Raises:
            AiopError: for an unknown kind.
        """
        if kind not in get_args(Scaling):
            raise AiopError(
                f'label scaling "{kind}" is unknown{suggest(kind, get_args(Scaling))}: use stand_flops'
            )
        numbers = np.asarray(values, np.float64)
        numbers = numbers / per_flops(gflops) if kind == "stand_flops" else numbers
        mean, deviation = float(numbers.mean()), float(numbers.std())
        return cls(kind, mean, deviation if deviation > 1e-12 * max(1.0, abs(mean)) else 1.0)

    def scale(self, values: Array, gflops: Array) -> Array:
        """Return targets ``(n,)``."""
        numbers = np.asarray(values, np.float64)
        numbers = numbers / per_flops(gflops) if self.kind == "stand_flops" else numbers
        return np.asarray((numbers - self.mean) / self.deviation)

    def unscale(self, targets: Array, gflops: Array) -> Array:
        """Return values ``(n,)``; the inverse of `scale`."""
        numbers = np.asarray(targets, np.float64) * self.deviation + self.mean
        return np.asarray(numbers * per_flops(gflops) if self.kind == "stand_flops" else numbers)
