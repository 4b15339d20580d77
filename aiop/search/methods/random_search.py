"""Random search: the baseline that every other method has to beat; with a predictor, its ranking from the top."""

from __future__ import annotations

from typing import ClassVar

from aiop.search.methods.base import Searcher, register_searcher

__all__ = ["RandomSearch"]


@register_searcher
class RandomSearch(Searcher):
    """Asks for codes drawn uniformly; with a scorer, in the order of its ranking without labels."""

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "architectures at random; with the predictor as it ranks them"

    def _propose(self) -> str:
        return self.first()
