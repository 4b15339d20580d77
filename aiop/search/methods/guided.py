"""Search guided by the predictor: what was told so far, learnt on what the predictor sees, says what to measure next.

Nothing told, it asks for what the predictor ranks first, and some of those it ranks near that. Then the scorer
(`aiop.search.methods.surrogate`) is fitted anew, after every evaluation where the candidates are listed, and the one
with the largest expected improvement (Jones et al., 1998) is asked for: of all there are, or where there is no list of
them of a pool that evolves under what the scorer expects.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from aiop.search.methods.base import Problem, Scorer, Searcher, Told, register_searcher

__all__ = ["FIRST", "Guided"]

FIRST = 8
"""Evaluations before the first fit."""

_LISTED = ((50, 1), (100, 4), (500, 10))
"""Where candidates are listed: up to so many evaluations, so many between two fits; beyond a fiftieth."""
_FREE = 10  # between two fits where each looks at hundreds of new networks; beyond 100 a tenth
_WIDEST = 1500  # candidates looked at each time; the rest of a longer list is looked at again now and then
_ANEW = (FIRST, 14, 20, 50, 100, 200, 400, 800)  # tells after which that is
_SHARE = 20  # one in so many of those ranked without labels is among the first
_POOL, _ROUNDS, _PARENTS, _CHILDREN = 256, 4, 16, 64


@register_searcher
class Guided(Searcher):
    """Asks for what a scorer, fitted to all that was told, expects most of."""

    name: ClassVar[str] = "guided"
    summary: ClassVar[str] = (
        "a Gaussian process on what the pretrained predictor sees, fitted to what is told, chooses"
    )
    needs_scorer: ClassVar[bool] = True

    def __init__(self, problem: Problem, *, seed: int = 0, scorer: Scorer | None = None) -> None:
        super().__init__(problem, seed=seed, scorer=scorer)
        self._wide = -1
        self._narrow: list[str] = []

    def _propose(self) -> str | None:
        return self._planned(_last_fit(len(self.told), listed=self.problem.codes is not None))

    def _plan(self, stage: int) -> list[str]:
        """Return candidates after the first ``stage`` tells, best first: it depends on these and the seed alone."""
        if not stage:
            return self._beginning()
        candidates = self._candidates(stage)
        self._fit(stage)
        if self.problem.codes is None:
            candidates = self._evolved(candidates, stage)
        return self._promising(candidates, stage)

    def _beginning(self) -> list[str]:
        """Return what the predictor ranks first, then draws among the best twentieth it knows, then the others.

        The very first are alike, and little is learnt from them.
        """
        ranked = self.ranked()
        among = ranked[1 : max(len(ranked) // _SHARE, FIRST)]
        random = np.random.default_rng((self.seed, 0))
        drawn = [among[int(place)] for place in random.permutation(len(among))]
        return [*ranked[:1], *drawn, *ranked[1 + len(among) :]]

    def _candidates(self, count: int) -> list[str]:
        """Return what is looked at: of a long list those that were expected most of at the last look at all."""
        codes = self.problem.codes
        if codes is None:
            return self.ranked()
        if len(codes) <= _WIDEST:
            return list(codes)
        at = max(number for number in _ANEW if number <= count)
        if at != self._wide:
            self._fit(at)
            self._narrow, self._wide = self._promising(list(codes), at)[:_WIDEST], at
        return self._narrow

    def _promising(self, codes: list[str], count: int) -> list[str]:
        """Return codes, first those that are expected to exceed the best of the first ``count`` tells by most."""
        assert self.scorer is not None
        return self.scorer.promising(
            codes, np.array([self.problem.goodness(one.value) for one in self.told[:count]])
        )

    def _fit(self, count: int) -> None:
        assert self.scorer is not None
        told = _latest(self.told[:count])
        self.scorer.fit([one.code for one in told], np.array([one.value for one in told]))

    def _evolved(self, codes: list[str], count: int) -> list[str]:
        """Add mutations of the best, as the fitted head expects, round by round."""
        assert self.scorer is not None
        random = np.random.default_rng((self.seed, count))
        told = sorted(self.told[:count], key=lambda one: -self.problem.goodness(one.value))
        best = [one.code for one in told[:_PARENTS] if self.problem.inside(one.code)]
        pool = dict.fromkeys([*best, *self.scorer.rank(codes)[:_POOL]])
        for _ in range(_ROUNDS):
            parents = [*best, *self.scorer.rank(list(pool))[:_PARENTS]]
            for place in random.integers(len(parents), size=_CHILDREN):
                child = self.problem.mutant(parents[place], random, pool)
                if child is not None:
                    pool[child] = None
        return list(pool)


def _last_fit(count: int, *, listed: bool) -> int:
    """Return after how many tells the last fit was, with ``count`` told.

    >>> [_last_fit(count, listed=True) for count in (7, 8, 49, 99, 303)]
    [0, 8, 49, 98, 302]
    >>> [_last_fit(count, listed=False) for count in (7, 8, 49, 303)]
    [0, 8, 48, 298]
    """
    fits = 0
    while (following := fits + _until_next(fits, listed=listed)) <= count:
        fits = following
    return fits


def _until_next(fits: int, *, listed: bool) -> int:
    if not fits:
        return FIRST
    if not listed:
        return max(_FREE, fits // 10)
    return next((every for limit, every in _LISTED if fits < limit), fits // 50)


def _latest(told: list[Told]) -> list[Told]:
    """Keep one value per code, their mean where there are several."""
    found: dict[str, list[float]] = {}
    for code, value in told:
        found.setdefault(code, []).append(value)
    return [Told(code, float(np.mean(values))) for code, values in found.items()]
