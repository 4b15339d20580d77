"""Search behind a path filter (DetOFA, Sakuma et al., ICCV workshops 2023): the hopeless go, the others are drawn.

A filter learnt from what was told removes the candidates that are worse than others of about the same cost, at every
cost alike, and the more the longer the search. What is asked for is drawn from the survivors inside the budget, of
several drawn the one that is expected to be best.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from aiop.search.methods.base import Problem, Scorer, Searcher, Told, register_searcher
from aiop.search.methods.choices import code_columns
from aiop.search.path_filter.filter import PathFilter
from aiop.search.path_filter.shares import kept

__all__ = ["STARTS", "FilteredSearch", "share_left"]

Array = npt.NDArray[Any]

STARTS = 10
"""Architectures before the first filter."""

_GROWTH = 1.35  # of the number of tells from one filter to the next
_DRAWN = 16  # survivors of which the best is asked for
_FIRST, _LEAST = 0.5, 0.05  # share of the candidates that survive the first filter, and any
_CODES = 0.4  # what the filter on codes counts where there is a scorer too
_FRESH, _PARENTS = (
    64,
    16,
)  # of a space without a list: samples and parents that each filter's pool is widened by


@register_searcher
class FilteredSearch(Searcher):
    """Asks for candidates that a filter has left, which is fitted anew as labels come.

    The filter sees the choices of the codes; with a scorer what that expects counts too, and the first `STARTS` are
    those it ranks first. Of a space without a list of candidates a pool is filtered: samples, and neighbours of the
    best.
    """

    name: ClassVar[str] = "filter"
    summary: ClassVar[str] = (
        "a path filter removes what is hopeless at its cost, survivors are drawn (after DetOFA)"
    )

    def __init__(self, problem: Problem, *, seed: int = 0, scorer: Scorer | None = None) -> None:
        super().__init__(problem, seed=seed, scorer=scorer)
        self._fitted = 0
        self._survivors: dict[str, float] = {}

    def _propose(self) -> str | None:
        fits = last_fit(len(self.told))
        if not fits:
            return self.first()
        if fits != self._fitted:
            self._survivors, self._fitted = self._filtered(self.told[:fits]), fits
        left = [code for code in self._survivors if not self.is_known(code)]
        if not left:
            return self.first()
        random = self.random()
        drawn = random.choice(len(left), min(_DRAWN, len(left)), replace=False)
        return max((left[int(place)] for place in drawn), key=lambda code: self._survivors[code])

    def _filtered(self, told: list[Told]) -> dict[str, float]:
        """Return the candidates that survive a filter fitted to what was told, and what is expected of each."""
        codes = self._pool(told)
        goodness = np.array([self.problem.goodness(one.value) for one in told])
        if np.ptp(goodness) == 0:
            return dict.fromkeys(codes, 0.0)
        space, known = self.problem.space, [one.code for one in told]
        path_filter = PathFilter.fitted(
            code_columns(space, known), self._macs(known), goodness, seed=self.seed
        )
        macs = self._macs(codes)
        scores = path_filter.score(code_columns(space, codes), macs)
        if self.scorer is not None:
            self.scorer.fit(known, np.array([one.value for one in told]))
            expected = self.scorer.score(codes, sure=False).mean
            scores = _CODES * _standard(scores) + (1.0 - _CODES) * _standard(expected)
        keep = kept(scores, macs, share_left(len(told)))
        return {codes[place]: float(scores[place]) for place in np.flatnonzero(keep)}

    def _pool(self, told: list[Told]) -> list[str]:
        """Return what is filtered: all candidates, or samples of the space and neighbours of the best."""
        if self.problem.codes is not None:
            return list(self.problem.codes)
        random = np.random.default_rng((self.seed, len(told), _FRESH))
        pool = dict.fromkeys(self.problem.reference(self.seed))
        pool |= dict.fromkeys(self.problem.sample(random) for _ in range(_FRESH))
        best = sorted(told, key=lambda one: -self.problem.goodness(one.value))[:_PARENTS]
        for one in best:
            for _ in range(_FRESH // _PARENTS):
                child = self.problem.mutant(one.code, random, pool)
                if child is not None:
                    pool[child] = None
        return list(pool)

    def _macs(self, codes: list[str]) -> Array:
        return np.array([max(self.problem.macs(code), 1.0) for code in codes])


def last_fit(count: int) -> int:
    """Return after how many tells the last filter was fitted, with ``count`` told: 0, 10, 14, 19, 26, 36, ..."""
    fits = 0
    following = STARTS
    while following <= count:
        fits, following = following, math.ceil(following * _GROWTH)
    return fits


def share_left(count: int) -> float:
    """Return which share of the candidates a filter fitted to ``count`` labels leaves: half, later less and less."""
    return max(_LEAST, _FIRST * math.sqrt(STARTS / max(count, STARTS)))


def _standard(scores: Array) -> Array:
    spread = float(scores.std())
    return np.asarray((scores - scores.mean()) / (spread if spread > 0 else 1.0))
