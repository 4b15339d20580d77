"""Counting as a search method: the most MACs first. What any guidance has to beat."""

from __future__ import annotations

from typing import ClassVar

from aiop.search.methods.base import Problem, Scorer, Searcher, register_searcher

__all__ = ["ByMacs"]


@register_searcher
class ByMacs(Searcher):
    """Asks for the architecture with the most MACs that was not asked for yet, whatever it is told.

    Of a space without a list of candidates for those of a sample, then for mutations of the largest known.
    """

    name: ClassVar[str] = "macs"
    summary: ClassVar[str] = "the most MACs first, whatever is measured"
    uses_scorer: ClassVar[bool] = False

    def __init__(self, problem: Problem, *, seed: int = 0, scorer: Scorer | None = None) -> None:
        super().__init__(problem, seed=seed, scorer=scorer)
        self._queue: list[str] | None = None

    def _propose(self) -> str | None:
        if self._queue is None:
            self._queue = sorted(self.problem.reference(self.seed), key=self.problem.macs)
        while self._queue:
            code = self._queue.pop()
            if not self.is_known(code):
                return code
        if self.problem.codes is not None:
            return None
        largest = sorted(filter(self.problem.inside, self._known), key=self.problem.macs)[-1]
        return self.problem.mutant(largest, self.random(), self._known)
