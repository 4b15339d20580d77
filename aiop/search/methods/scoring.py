"""Guidance of a search: what is expected of architectures that were not measured, and how sure that is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from aiop.finetune.views import Views

__all__ = ["Scorer", "Scores", "SeenCodes", "log_improvement"]

Array = npt.NDArray[Any]

_LEAST = 1e-6
_FAR = -8.0  # deviations below the best from which on the limit is as good as the formula


class Scores(NamedTuple):
    """What is expected of n codes.

    mean: float64 ``(n,)``, larger is better whatever the task's direction; without labels only the order counts.
    deviation: float64 ``(n,)``, on the same scale; nan where nobody knows.
    """

    mean: Array
    deviation: Array


class Scorer(ABC):
    """Expects values of codes, the better the more it was told."""

    @abstractmethod
    def fit(self, codes: Sequence[str], values: Array) -> None:
        """Take codes and their values ``(n,)``, in the task's unit, in the place of all before; none are allowed."""

    @abstractmethod
    def score(self, codes: Sequence[str], *, sure: bool = True) -> Scores:
        """Return what is expected of codes after the last `fit`; before any, as after one without codes.

        Unless ``sure`` the deviations may be left out, as nan: they take as long as all else.
        """

    def placed(self, goodness: Array) -> Array:
        """Return where values ``(n,)``, turned so that larger is better, are on the scale of `score`."""
        return np.asarray(goodness, np.float64)

    def rank(self, codes: Sequence[str]) -> list[str]:
        """Return codes, best first; of equal ones the first stays first."""
        order = np.argsort(-self.score(codes, sure=False).mean, kind="stable")
        return [codes[place] for place in order]

    def promising(self, codes: Sequence[str], known: Array) -> list[str]:
        """Return codes, first those that are expected to exceed the best of ``known`` goodness ``(n,)`` by most.

        The order is that of the expected improvement (Jones et al., 1998); its logarithm tells candidates apart far
        below the best too.
        """
        values = self.placed(known)
        mean, deviation = self.score(codes)
        usual = max(float(values.std()), _LEAST)  # where the labels are too few to say
        deviation = np.maximum(np.where(np.isfinite(deviation), deviation, usual), _LEAST * usual)
        gain = np.log(deviation) + log_improvement((mean - values.max()) / deviation)
        return [codes[place] for place in np.argsort(-gain, kind="stable")]


def log_improvement(above: Array) -> Array:
    """Return the logarithm of the expected improvement of normal variables ``(n,)`` of deviation 1 over 0."""
    found = norm.logpdf(above) - 2 * np.log(np.maximum(-above, 1.0))  # its limit far below
    near = above > _FAR
    found[near] = np.log(above[near] * norm.cdf(above[near]) + norm.pdf(above[near]))
    return np.asarray(found)


class SeenCodes:
    """What a predictor sees of codes, each looked at once.

    Args:
        look: names of networks -> what is seen of them.
        name: code -> name of its network.
    """

    def __init__(self, look: Callable[[Sequence[str]], Views], name: Callable[[str], str]) -> None:
        self._look, self._name = look, name
        self._places: dict[str, int] = {}
        self._seen: Views | None = None

    def __call__(self, codes: Sequence[str]) -> Views:
        """Return what is seen of codes, ``(n,)``."""
        new = [code for code in dict.fromkeys(codes) if code not in self._places]
        if new or self._seen is None:
            found = self._look([self._name(code) for code in new])
            self._seen = found if self._seen is None else _joined(self._seen, found)
            self._places |= {code: len(self._places) + place for place, code in enumerate(new)}
        return self._seen.rows([self._places[code] for code in codes])


def _joined(first: Views, second: Views) -> Views:
    arrays: dict[str, Any] = {
        field.name: np.concatenate([getattr(first, field.name), getattr(second, field.name)])
        for field in fields(Views)
        if isinstance(getattr(first, field.name), np.ndarray)
    }
    return replace(first, names=first.names + second.names, **arrays)
