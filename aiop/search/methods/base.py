"""What every search method is: it asks for an architecture, is told what that one achieves, and asks for the next."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self, TypeVar

import numpy as np

from aiop.errors import AiopError, suggest
from aiop.search.methods.log import SearchLog
from aiop.search.methods.problem import Budget, Exhausted, Problem, find_tasks
from aiop.search.methods.scoring import Scorer, Scores
from aiop.search.methods.surrogate import predictor_scorer

if TYPE_CHECKING:
    from aiop.predictor.predictor import Predictor

__all__ = [
    "Budget",
    "Exhausted",
    "Problem",
    "Scorer",
    "Scores",
    "SearchLog",
    "Searcher",
    "Told",
    "find_tasks",
    "get_searcher",
    "register_searcher",
    "searchers",
]

_PATIENCE = 200  # draws among known codes before a neighbour of one is taken


class Told(NamedTuple):
    """An architecture and its measured value, in the main task's unit."""

    code: str
    value: float


class Searcher(ABC):
    """Searches by asking for codes and being told their values.

    What is asked next depends on the problem, the seed, what was told, in order, and how many asks are open: a search
    that was interrupted goes on with the same asks once its tells are replayed. Draws at random are taken from
    `random`, which knows just these numbers; state is changed in `_learn` alone.

    Args:
        problem: what is searched for.
        seed: of all that is left to chance.
        scorer: guidance by the predictor; None searches without.

    Raises:
        AiopError: a method that needs a scorer is given none.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line, for lists of methods."""
    needs_scorer: ClassVar[bool] = False
    uses_scorer: ClassVar[bool] = True
    patience: ClassVar[int] = 100
    """Proposals that may be refused before chance decides."""
    several_tasks: ClassVar[bool] = False
    """Whether it follows all tasks of a problem at once, not the main one alone."""
    replays_asks: ClassVar[bool] = False
    """Whether what is told counts only together with what was asked, such as positions that codes are rounded from."""

    def __init__(self, problem: Problem, *, seed: int = 0, scorer: Scorer | None = None) -> None:
        if scorer is None and self.needs_scorer:
            raise AiopError(
                f"the search method {self.name} needs a predictor: give one, or take another method"
            )
        self.problem, self.seed, self.scorer = problem, int(seed), scorer
        self.told: list[Told] = []
        self.pending: list[str] = []
        self._known: dict[str, None] = {}
        self._best: Told | None = None
        self._attempt = 0
        self._prior: list[str] | None = None
        self._stage = -1
        self._queue: list[str] = []

    @classmethod
    def made(cls, problem: Problem, predictor: Predictor | None, *, seed: int = 0) -> Self:
        """Return a searcher guided by a pretrained predictor as far as the method can be, by none where None."""
        guided = predictor is not None and cls.uses_scorer
        scorer = predictor_scorer(problem, predictor, seed=seed) if guided and predictor is not None else None
        return cls(problem, seed=seed, scorer=scorer)

    @abstractmethod
    def _propose(self) -> str | None:
        """Return a code to ask for next, None where the method has none; known ones and those outside are refused.

        A proposal that is refused is followed by another call, with other draws from `random`.
        """

    def _learn(self, told: Told) -> None:  # noqa: B027
        """Take in what was told, which is in ``told`` already."""

    def _plan(self, stage: int) -> list[str]:
        """Return codes to ask for from a stage on, best first: of the first ``stage`` tells and the seed alone."""
        raise NotImplementedError(f"{self.name} asks without a plan")

    def _planned(self, stage: int) -> str | None:
        """Return the next code of a stage's plan (`_plan`) that is not known, None after the last."""
        if stage != self._stage:
            self._queue, self._stage = self._plan(stage), stage
        while self._queue:
            code = self._queue.pop(0)
            if not self.is_known(code):
                return code
        return None

    def ask(self) -> str:
        """Return a code inside the budget that was neither asked for nor told before.

        Raises:
            Exhausted: where there is none left.
        """
        total = None if self.problem.codes is None else len(self.problem.codes)
        if total is not None and self._count_inside() >= total:
            raise self._exhausted()
        for attempt in range(self.patience):
            self._attempt = attempt
            code = self._propose()
            if code is None:
                break
            if code not in self._known and self.problem.inside(code):
                return self._asked(code)
        return self._asked(self._any())

    def tell(self, code: str, value: float) -> None:
        """Take in the value of a code, in the main task's unit, whether it was asked for or not.

        A code that was told before, such as one measured anew, counts again.

        Raises:
            AiopError: a value that is not finite, or a code that the space does not know.
        """
        value = float(value)
        if not math.isfinite(value):
            raise AiopError(f"the value {value} of {code} is no finite number: tell what was measured")
        code = self.problem.canonical(code)
        told = Told(code, value)
        if code in self.pending:
            self.pending.remove(code)
        self._known.setdefault(code)
        self.told.append(told)
        goodness = self.problem.goodness
        better = self._best is None or goodness(value) > goodness(self._best.value)
        if better and self.problem.inside(code):
            self._best = told
        self._attempt = 0
        self._learn(told)

    def replay(self, told: Iterable[tuple[str, float]]) -> None:
        """Take in what an interrupted search was told, in order: the next asks are those it would have had."""
        for code, value in told:
            if self.replays_asks and not self.pending:
                self.ask()
            self.tell(code, value)
            self._forget()

    def best(self) -> Told | None:
        """Return the best code inside the budget that was told, the first of equals; None before there is one."""
        return self._best

    def values(self) -> tuple[list[str], np.ndarray[tuple[int], np.dtype[np.float64]]]:
        """Return the codes that were told and their values, in order."""
        return [told.code for told in self.told], np.array([told.value for told in self.told], np.float64)

    def random(self, *purpose: int) -> np.random.Generator:
        """Return a generator of this moment: of the seed, the tells so far, open asks and refused proposals."""
        name = int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:4])
        moment = (self.seed, name, len(self.told), len(self.pending), self._attempt, *purpose)
        return np.random.default_rng(moment)

    def ranked(self) -> list[str]:
        """Return codes as the predictor ranks them before anything is told, best first; none without a scorer.

        All there are to choose from, or where there is no list of them a sample of the space.
        """
        if self._prior is None:
            self._prior = []
            if self.scorer is not None:
                self.scorer.fit([], np.zeros(0))
                self._prior = self.scorer.rank(self.problem.reference(self.seed))
        return self._prior

    def first(self) -> str:
        """Return a code to begin with: the next of those ranked by the predictor, without one any."""
        for code in self.ranked():
            if code not in self._known:
                return code
        return self.problem.sample(self.random(2))

    def is_known(self, code: str) -> bool:
        """Whether a code was asked for or told before."""
        return code in self._known

    def _forget(self) -> None:
        """Drop asks that a replayed search made of its own accord and that the log does not hold."""
        for code in self.pending:
            self._known.pop(code, None)
        self.pending.clear()

    def _asked(self, code: str) -> str:
        self.pending.append(code)
        self._known[code] = None
        self._attempt = 0
        return code

    def _count_inside(self) -> int:
        return sum(map(self.problem.inside, self._known))

    def _any(self) -> str:
        """Draw a code that is not known."""
        random = self.random(1)
        if self.problem.codes is not None:
            left = [code for code in self.problem.codes if code not in self._known]
            return left[int(random.integers(len(left)))]
        for _ in range(_PATIENCE):
            code = self.problem.sample(random)
            if code not in self._known:
                return code
        for known in list(self._known):
            code = self.problem.mutant(known, random, self._known) or known
            if code != known:
                return code
        raise self._exhausted()

    def _exhausted(self) -> Exhausted:
        return Exhausted(
            f"{self.name} has asked for all {len(self._known)} architectures of {self.problem.space} that it found "
            "within the budget: stop here, or widen the budget"
        )


_SEARCHERS: dict[str, type[Searcher]] = {}
_Kind = TypeVar("_Kind", bound=type[Searcher])


def register_searcher(kind: _Kind) -> _Kind:
    """Class decorator: make a `Searcher` available under its ``name``."""
    if kind.name in _SEARCHERS:
        raise ValueError(f"search method {kind.name!r} is registered twice")
    _SEARCHERS[kind.name] = kind
    return kind


def searchers() -> dict[str, type[Searcher]]:
    """Return the search methods by name: each module of this package registers its own."""
    for module in iter_modules([str(Path(__file__).parent)]):
        import_module(f"{__package__}.{module.name}")
    return {name: _SEARCHERS[name] for name in sorted(_SEARCHERS)}


def get_searcher(name: str) -> type[Searcher]:
    """Return the search method of a name; an unknown one is an `AiopError` with the nearest."""
    found = searchers()
    if name not in found:
        raise AiopError(
            f'search method "{name}" is unknown{suggest(name, found)}: the methods are {", ".join(found)}'
        )
    return found[name]
