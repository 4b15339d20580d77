"""Regularised evolution (Real et al., AAAI 2019): the youngest survive, and the best of a few have offspring."""

from __future__ import annotations

from typing import ClassVar

from aiop.search.methods.base import Searcher, register_searcher

__all__ = ["POPULATION", "SAMPLE", "Evolution"]

POPULATION, SAMPLE = 30, 10
"""Those alive, and those a parent is the best of: as usual for a few hundred evaluations (White et al., 2021)."""


@register_searcher
class Evolution(Searcher):
    """Asks for a mutation of the best of `SAMPLE` among the last `POPULATION` that were told.

    The first `POPULATION` are drawn uniformly; with a scorer they are those it ranks first.
    """

    name: ClassVar[str] = "evolution"
    summary: ClassVar[str] = "regularised evolution (Real et al., 2019)"

    def _propose(self) -> str | None:
        alive = self.told[-POPULATION:]
        if len(self.told) + len(self.pending) < POPULATION or not alive:
            return self.first()
        random = self.random()
        drawn = random.choice(len(alive), min(SAMPLE, len(alive)), replace=False)
        parent = max((alive[place] for place in drawn), key=lambda told: self.problem.goodness(told.value))
        return self.problem.mutant(parent.code, random, self._known)
