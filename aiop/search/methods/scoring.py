"""Guidance of a search: what is expected of architectures that were not measured, and how sure that is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from aiop.errors import AiopError
from aiop.finetune.head import FewShotHead
from aiop.finetune.views import Views
from aiop.search.methods.problem import Problem, graph_of
from aiop.tasks import get_task

if TYPE_CHECKING:
    from aiop.predictor.predictor import Predictor

__all__ = ["HeadScorer", "Scorer", "Scores", "SeenCodes", "predictor_scorer"]

Array = npt.NDArray[Any]

_COVERAGE = 0.8
_WIDE = float(norm.ppf(0.5 + _COVERAGE / 2))  # deviations in half an interval


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

    def rank(self, codes: Sequence[str]) -> list[str]:
        """Return codes, best first; of equal ones the first stays first."""
        order = np.argsort(-self.score(codes, sure=False).mean, kind="stable")
        return [codes[place] for place in order]


class HeadScorer(Scorer):
    """The few-shot head on what a pretrained predictor sees, fitted to what was told.

    Args:
        task: name of the task.
        views: codes -> what the predictor sees of them, ``(n,)``.
        own: name of the predictor's source that is the task itself, where it was trained on it: it ranks as long as
            there are no labels.
        seed: of the head.
        members: of the head, all by default.
    """

    def __init__(
        self,
        task: str,
        views: Callable[[Sequence[str]], Views],
        *,
        own: str | None = None,
        seed: int = 0,
        members: Sequence[str] | None = None,
    ) -> None:
        self._task, self._views, self._own = get_task(task), views, own
        self._seed, self._members = seed, members
        self._turn = 1.0 if self._task.direction == "max" else -1.0
        self._head: FewShotHead | None = None

    def fit(self, codes: Sequence[str], values: Array) -> None:
        """See `Scorer.fit`. Values too few or too alike to learn from leave the ranks without labels."""
        measured = np.asarray(values, np.float64)
        self._head = None
        if len(codes) >= 2:
            head = FewShotHead.for_task(
                self._task, seed=self._seed, members=self._members, coverage=_COVERAGE
            )
            try:
                self._head = head.fit(self._views(codes), measured)
            except AiopError:
                if np.ptp(measured) > 0:
                    raise

    def score(self, codes: Sequence[str], *, sure: bool = True) -> Scores:
        """See `Scorer.score`."""
        views = self._views(codes)
        unknown = np.full(len(codes), np.nan)
        if self._head is None:
            return Scores(self._turn * self._unlabelled(views), unknown)
        mean = self._turn * np.asarray(self._head.predict(views), np.float64)
        if not sure:
            return Scores(mean, unknown)
        low, high = self._head.interval(views)
        half = (high - low) / 2
        return Scores(mean, np.where(np.isfinite(half), half / _WIDE, np.nan))

    def _unlabelled(self, views: Views) -> Array:
        if self._own is not None:
            return np.asarray(views.outputs[:, views.sources.index(self._own)], np.float64)
        empty = FewShotHead.for_task(self._task, seed=self._seed).fit(views.rows([]), np.zeros(0))
        return np.asarray(empty.predict(views), np.float64)


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


def predictor_scorer(problem: Problem, predictor: Predictor, *, seed: int = 0) -> HeadScorer:
    """Return guidance for a problem by a pretrained predictor that looks at the networks of its codes."""
    seen = SeenCodes(lambda names: predictor.views([graph_of(name) for name in names]), problem.network)
    own = problem.task if problem.task in predictor.names else None
    return HeadScorer(problem.task, seen, own=own, seed=seed)


def _joined(first: Views, second: Views) -> Views:
    arrays: dict[str, Any] = {
        field.name: np.concatenate([getattr(first, field.name), getattr(second, field.name)])
        for field in fields(Views)
        if isinstance(getattr(first, field.name), np.ndarray)
    }
    return replace(first, names=first.names + second.names, **arrays)
