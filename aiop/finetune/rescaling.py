"""From one scale of values to another that is known at a few points only, with an interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError, suggest
from aiop.finetune.combination import honest_quantile

__all__ = ["EXPECTED", "LEAST", "WORTH", "Line", "Method"]

Array = npt.NDArray[np.float64]
Method = Literal["shrunk", "moments", "least-squares"]

LEAST = 4
"""Pairs that a line is fitted to at least: of fewer no interval is known."""

EXPECTED, WORTH = 0.75, 3.0
"""The correlation that is expected before pairs are seen, and how many pairs that is worth."""

_FLAT = 1e-9


@dataclass(frozen=True, slots=True)
class Line:
    """``y = intercept + slope x``, increasing: ranks stay. ``reach`` is the half-width of the interval around y."""

    intercept: float
    slope: float
    reach: float

    @classmethod
    def fit(cls, x: Array, y: Array, *, method: Method = "shrunk", coverage: float = 0.8) -> Line:
        """Fit to n pairs ``(n,)``, finite, at least 4.

        ``moments`` gives y the mean and deviation of the pairs, as AIO-P does (Mills et al., AAAI 2023); that spreads
        values as far as the truth, also where x says little of it. ``least-squares`` regresses. ``shrunk`` regresses
        with the correlation pulled towards .75 as if three pairs had shown that: few pairs hardly know it themselves.
        The slope is at least a tenth of the ratio of the deviations. The reach covers the share ``coverage`` of the
        errors at pairs left out (Vovk et al. 2005; infinite where the pairs are too few for it).

        Raises:
            AiopError: for fewer pairs, and x or y that are constant.
        """
        if method not in get_args(Method):
            known = ", ".join(get_args(Method))
            raise AiopError(
                f"rescaling {method!r} is unknown{suggest(method, get_args(Method))}: use {known}"
            )
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if len(x) < LEAST:
            raise AiopError(
                f"{len(x)} labels are too few to find a scale with: measure at least {LEAST} networks"
            )
        for values, what in ((x, "predictions of the labelled networks"), (y, "labels")):
            if values.std() <= _FLAT * max(1.0, float(np.abs(values).max())):
                raise AiopError(
                    f"all {what} are {values[0]:g}, which shows no scale: label networks that differ"
                )
        errors = []
        for left_out in range(len(x)):
            kept = np.arange(len(x)) != left_out
            intercept, slope = _line(x[kept], y[kept], method)
            errors.append(abs(y[left_out] - intercept - slope * x[left_out]))
        intercept, slope = _line(x, y, method)
        return cls(intercept, slope, honest_quantile(np.array(errors), coverage))

    def __call__(self, x: Array) -> Array:
        """Return y of x, any shape."""
        return self.intercept + self.slope * np.asarray(x, np.float64)


def _line(x: Array, y: Array, method: Method) -> tuple[float, float]:
    spread = float(x.std())
    if spread <= _FLAT * max(1.0, float(np.abs(x).max())):  # all but one are equal
        return float(y.mean()), 0.0
    ratio = float(y.std()) / spread
    # Pairs from a wide range of x tell the correlation of that range: on standardised pairs it is the slope itself.
    correlation = float(np.mean((x - x.mean()) * (y - y.mean()))) / (spread * spread * max(ratio, _FLAT))
    if method == "moments":
        correlation = 1.0
    elif method == "shrunk":
        correlation = (len(x) * correlation + WORTH * EXPECTED) / (len(x) + WORTH)
    slope = ratio * max(correlation, 0.1)
    return float(y.mean()) - slope * float(x.mean()), slope
