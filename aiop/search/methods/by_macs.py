"""Counting as a search method: the most MACs first. What any guidance has to beat."""

from __future__ import annotations

from typing import ClassVar

from aiop.search.methods.base import Searcher, register_searcher

__all__ = ["ByMacs"]


@register_searcher
class ByMacs(Searcher):
    """Asks for the architecture with the most MACs that was not asked for yet, whatever it is told.

    Of a space without a list of candidates for those of a sample, then for mutations of the largest known.
    """

    name: ClassVar[str] = "macs"
    summary: ClassVar[str] = "the most MACs first, whatever is measured"
    uses_scorer: ClassVar[bool] = False

    def _propose(self) -> str | None:
        code = self._planned(0)
        if code is not None or self.problem.codes is not None:
            return code
        largest = sorted(filter(self.problem.inside, self._known), key=self.problem.macs)[-1]
        return self.problem.mutant(largest, self.random(), self._known)

    def _plan(self, stage: int) -> list[str]:
        """See `Searcher._plan`."""
        return sorted(self.problem.reference(self.seed), key=self.problem.macs)[::-1]
