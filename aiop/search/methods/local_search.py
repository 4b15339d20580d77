"""Local search (White et al., UAI 2021): to a better neighbour until there is none, then from somewhere else."""

from __future__ import annotations

from typing import ClassVar

from aiop.search.methods.base import Problem, Scorer, Searcher, Told, register_searcher

__all__ = ["STARTS", "LocalSearch"]

STARTS = 10
"""Architectures of which the best is the first to have its neighbours looked at."""


@register_searcher
class LocalSearch(Searcher):
    """Asks for neighbours of one architecture in any order and goes on from the first that is better.

    Where none is, it begins anew. Beginnings are drawn uniformly, and before the first one `STARTS` architectures of
    which the best is it; with a scorer they are those it ranks first.
    """

    name: ClassVar[str] = "local"
    summary: ClassVar[str] = "local search with restarts (White et al., 2021)"

    def __init__(self, problem: Problem, *, seed: int = 0, scorer: Scorer | None = None) -> None:
        super().__init__(problem, seed=seed, scorer=scorer)
        self._centre: Told | None = None
        self._around: list[str] = []

    def _propose(self) -> str | None:
        if self._centre is None:
            return self.first()
        left = self._left()
        if not left:
            return self.first()
        return left[int(self.random().integers(len(left)))]

    def _learn(self, told: Told) -> None:
        if len(self.told) < STARTS or not self.problem.inside(told.code):
            return
        goodness = self.problem.goodness
        if self._centre is None:
            self._settle(self._best or told)
            return
        anew = not self._left() and told.code not in self._around
        if anew or goodness(told.value) > goodness(self._centre.value):
            self._settle(told)

    def _settle(self, told: Told) -> None:
        """Go on from an architecture, or from the best of its neighbours where it is known to be better."""
        goodness = self.problem.goodness
        known = {one.code: one for one in self.told}
        found: Told | None = told
        while found is not None:
            self._centre, self._around = found, self.problem.neighbours(found.code)
            around = [known[code] for code in self._around if code in known]
            best = max(around, key=lambda one: goodness(one.value), default=found)
            found = best if goodness(best.value) > goodness(found.value) else None

    def _left(self) -> list[str]:
        return [code for code in self._around if not self.is_known(code)]
