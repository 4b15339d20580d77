"""From labels in their units to scaled targets near N(0, 1), and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from aiop.errors import AiopError, suggest

__all__ = ["MAX_KNOTS", "LabelScaler", "Scaling", "Target", "Transform"]

Scaling = Literal["rank-gaussian", "standard", "flops", "residual"]
Transform = Literal["identity", "log"]

MAX_KNOTS = 256


@dataclass(frozen=True, slots=True)
class Target:
    """What one column of labels is: the name of its task, how its values become targets, and what is known of it.

    ``description`` is what `aiop.pretrain.description` makes of the task, where heads are to know it.
    """

    name: str
    transform: Transform = "identity"
    scaling: Scaling | None = None
    description: tuple[float, ...] = ()
    direction: Literal["max", "min"] = "max"


@dataclass(frozen=True, slots=True)
class LabelScaler:
    """A monotone, invertible map between labels and scaled targets: piecewise linear through its knots.

    ``standard`` has two knots (the line (y - mean) / deviation), ``rank-gaussian`` up to 256: quantiles of the
    labels and the normal quantiles of their mid-ranks. ``flops`` has the knots of ``standard``,
    ``residual`` those of ``rank-gaussian``: what their targets leave out is the matter of a `CostLink`. Beyond the
    outermost knots the map goes on linearly.
    With the link ``log`` it works on the logarithms of the labels.

    Attributes:
        scaling: how the knots were chosen.
        link: ``identity`` or ``log``, the transform of the task.
        values: ascending labels (their logarithms under ``log``), one per knot.
        scaled: ascending targets, one per knot.
    """

    scaling: Scaling
    link: Transform
    values: tuple[float, ...]
    scaled: tuple[float, ...]

    @classmethod
    def fit(
        cls,
        labels: ArrayLike,
        scaling: Scaling = "rank-gaussian",
        link: Transform = "identity",
        name: str = "labels",
    ) -> Self:
        """Fit to labels (n,); NaN are left out.

        Raises:
            AiopError: for fewer than two labels, constant or infinite ones, or values not above 0 under ``log``.
        """
        _check(scaling, Scaling, "scaling")
        _check(link, Transform, "transform")
        array = np.asarray(labels, dtype=np.float64).ravel()
        array = array[~np.isnan(array)]
        if not np.isfinite(array).all() or (link == "log" and (array <= 0).any()):
            cause = "not above 0, so they have no logarithm" if np.isfinite(array).all() else "infinite"
            raise AiopError(
                f"task {name!r} has labels that are {cause}: remove them or choose another transform"
            )
        array = np.log(array) if link == "log" else array
        unique, counts = np.unique(array, return_counts=True)
        if len(unique) < 2:
            raise AiopError(
                f"task {name!r} has {len(array)} labels with {len(unique)} distinct values: at least two are needed"
            )
        if scaling in ("standard", "flops"):
            mean, deviation = float(array.mean()), float(array.std())
            return cls(scaling, link, (mean - deviation, mean + deviation), (-1.0, 1.0))
        # Ties share the middle of their ranks, so that equal labels get one target.
        middle = np.cumsum(counts) - counts / 2
        scaled = ndtri(middle / len(array))
        if len(unique) > MAX_KNOTS:
            # Knots at even ranks in the middle and both ends kept: the tails are where targets bend most.
            places = np.linspace(scaled[0], scaled[-1], MAX_KNOTS // 2)
            even = np.quantile(scaled, np.linspace(0, 1, MAX_KNOTS // 2))
            wanted = np.concatenate([places, even])
            keep = np.unique(np.searchsorted(scaled, wanted).clip(0, len(scaled) - 1))
            unique, scaled = unique[keep], scaled[keep]
        return cls(scaling, link, tuple(unique.tolist()), tuple(scaled.tolist()))

    def transform(self, labels: ArrayLike) -> NDArray[np.float64]:
        """Labels in their unit -> targets, any shape; NaN stays NaN."""
        array = np.asarray(labels, dtype=np.float64)
        if self.link == "log":
            with np.errstate(divide="ignore", invalid="ignore"):
                array = np.log(array)
        return _piecewise(array, self.values, self.scaled)

    def inverse(self, targets: ArrayLike) -> NDArray[np.float64]:
        """Targets -> labels in their unit, any shape; NaN stays NaN."""
        array = _piecewise(np.asarray(targets, dtype=np.float64), self.scaled, self.values)
        return np.exp(array) if self.link == "log" else array

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "scaling": self.scaling,
            "link": self.link,
            "values": list(self.values),
            "scaled": list(self.scaled),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Read what ``to_dict`` wrote; anything else is an AiopError."""
        try:
            values, scaled = (tuple(float(item) for item in data[key]) for key in ("values", "scaled"))
            scaling, link = data["scaling"], data["link"]
        except (KeyError, TypeError, ValueError) as error:
            raise AiopError(f"a label scaler lacks its fields ({error}): save the predictor again") from None
        _check(scaling, Scaling, "scaling")
        _check(link, Transform, "transform")
        ascending = all(np.isfinite(knots).all() and (np.diff(knots) > 0).all() for knots in (values, scaled))
        if not (2 <= len(values) == len(scaled) <= MAX_KNOTS and ascending):
            raise AiopError("a label scaler has knots that do not ascend: save the predictor again")
        return cls(scaling, link, values, scaled)


def _piecewise(
    array: NDArray[np.float64], start: tuple[float, ...], end: tuple[float, ...]
) -> NDArray[np.float64]:
    """Interpolate linearly through (start, end), and go on beyond both ends."""
    x, y = np.asarray(start), np.asarray(end)
    # The end pieces can be very steep or flat (an outlier, a near tie): the slope beyond them is that of an outer
    # tenth of the knots.
    reach = max(1, len(x) // 10)
    low = (y[reach] - y[0]) / (x[reach] - x[0])
    high = (y[-1] - y[-1 - reach]) / (x[-1] - x[-1 - reach])
    result = np.interp(array, x, y)
    result = np.where(array < x[0], y[0] + (array - x[0]) * low, result)
    result = np.where(array > x[-1], y[-1] + (array - x[-1]) * high, result)
    return np.asarray(result)


def _check(value: str, allowed: Any, what: str) -> None:
    options = get_args(allowed)
    if value not in options:
        hint = suggest(str(value), options)
        raise AiopError(f"{what} {value!r} is unknown{hint}: choose one of {', '.join(options)}")
