"""What every baseline is: scikit-learn's fit and predict on `Views`, and the registry they are looked up in.

A baseline sees labels of a few networks and predicts others. Whatever they lack in common, all refuse the same bad
labels, are deterministic under their seed, and predict in the unit of the labels unless they only rank.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError, suggest
from aiop.finetune.views import Views

__all__ = [
    "BASELINES",
    "Baseline",
    "Regression",
    "Transform",
    "checked_labels",
    "get_baseline",
    "register",
]

Array = npt.NDArray[Any]
Transform = Literal["identity", "log"]


class Baseline(Protocol):
    """A method to compare with.

    name: its name in `BASELINES`.
    ranks_only: predictions say an order and have no unit.
    least_labels: fewer than these are refused.
    """

    name: str
    ranks_only: bool
    least_labels: int

    def fit(self, views: Views, values: Array) -> Self:
        """Fit to n networks and their values ``(n,)``, all of them known; returns the baseline itself."""
        ...

    def predict(self, views: Views) -> Array:
        """Return values ``(m,)`` of m networks."""
        ...


BASELINES: dict[str, Callable[..., Baseline]] = {}
"""Name -> what makes the baseline; every keyword has a default, ``seed`` and ``transform`` where they mean something.
``transfer-floor``, ``transfer-gp`` and ``aio-p`` cannot be fitted without what they transfer."""

_Made = TypeVar("_Made", bound=Callable[..., Any])


def register(name: str) -> Callable[[_Made], _Made]:
    """Class decorator: make a baseline available under ``name``, which it gets as an attribute."""

    def add(made: _Made) -> _Made:
        if name in BASELINES:
            raise ValueError(f"baseline {name!r} is registered twice")
        made.name = name  # type: ignore[attr-defined]
        BASELINES[name] = made
        return made

    return add


def get_baseline(name: str, **options: Any) -> Baseline:
    """Make the baseline ``name``; an unknown name is an `AiopError` with the nearest one."""
    if name not in BASELINES:
        raise AiopError(
            f'baseline "{name}" is unknown{suggest(name, BASELINES)}: the baselines are {", ".join(sorted(BASELINES))}'
        )
    return BASELINES[name](**options)


def checked_labels(name: str, views: Views, values: Array, least: int) -> Array:
    """Return labels as float64 ``(n,)``.

    Raises:
        AiopError: for labels that are not one finite number per network, or fewer than ``least``.
    """
    labels = np.asarray(values, np.float64)
    if labels.shape != (len(views),):
        raise AiopError(
            f'baseline "{name}" got labels of shape {labels.shape} for {len(views)} networks: give one each'
        )
    wrong = np.flatnonzero(~np.isfinite(labels))
    if len(wrong):
        raise AiopError(
            f'baseline "{name}" got {labels[wrong[0]]} as the label of {views.names[wrong[0]]}: '
            "leave networks without a finite label out"
        )
    if len(labels) < least:
        raise AiopError(f'baseline "{name}" needs at least {least} labels, found {len(labels)}: label more')
    return labels


class Regression:
    """A baseline that learns values: labels are put on their scale and standardised, predictions taken back.

    Args:
        seed: of whatever is drawn.
        transform: ``log`` for quantities that are multiplied rather than added to, such as latencies.
    """

    name = ""
    ranks_only = False
    least_labels = 2

    def __init__(self, *, seed: int = 0, transform: Transform = "identity") -> None:
        self.seed, self.transform = seed, transform
        self._centre, self._spread = 0.0, 0.0

    def fit(self, views: Views, values: Array) -> Self:
        """See `Baseline.fit`; constant labels are predicted for every network."""
        labels = checked_labels(self.name, views, values, self.least_labels)
        if self.transform == "log":
            if labels.min() <= 0:
                raise AiopError(
                    f'baseline "{self.name}" got the label {labels.min():g}, which has no logarithm: '
                    'use transform="identity"'
                )
            labels = np.log(labels)
        self._centre, self._spread = float(labels.mean()), float(labels.std())
        if self._spread <= 1e-12 * max(1.0, abs(self._centre)):
            self._spread = 0.0
        if self._spread:
            self._fit(views, (labels - self._centre) / self._spread)
        return self

    def predict(self, views: Views) -> Array:
        """See `Baseline.predict`."""
        if not len(views):
            return np.empty(0)
        scaled = np.asarray(self._predict(views), np.float64) if self._spread else np.zeros(len(views))
        values = self._centre + self._spread * scaled
        return np.exp(values) if self.transform == "log" else values

    def _fit(self, views: Views, targets: Array) -> None:
        """Fit to standardised targets ``(n,)``."""
        raise NotImplementedError

    def _predict(self, views: Views) -> Array:
        """Return standardised predictions ``(m,)``."""
        raise NotImplementedError
