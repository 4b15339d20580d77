"""Search guided by the predictor: a head fitted to what was told so far says what to measure next.

Nothing told, it asks for what the predictor ranks first, and some of those it ranks near that. Then, every few
evaluations, the head is fitted anew and the candidates with the largest expected improvement (Jones et al., 1998) are
asked for: of all there are, or where there is no list of them of a pool that evolves under the head's expectation.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from aiop.search.methods.base import Problem, Scorer, Searcher, Told, register_searcher

__all__ = ["EVERY", "Guided"]

Array = npt.NDArray[Any]

EVERY = 10
"""Evaluations between two fits; from 100 on a tenth of those there are."""

_WIDEST = 2000  # candidates looked at each time; the rest of a longer list is looked at again now and then
_ANEW = (20, 50, 100, 200, 400, 800)  # tells after which that is
_LEAST = 1e-6
_FAR = -8.0  # deviations below the best from which on the limit is as good as the formula
_SHARE = 20  # one in so many of those ranked without labels is among the first
_POOL, _ROUNDS, _PARENTS, _CHILDREN = 256, 4, 16, 64


@register_searcher
class Guided(Searcher):
    """Asks for what a head, fitted to all that was told, expects most of."""

    name: ClassVar[str] = "guided"
    summary: ClassVar[str] = "a head on the pretrained predictor, fitted to what is told, chooses"
    needs_scorer: ClassVar[bool] = True

    def __init__(self, problem: Problem, *, seed: int = 0, scorer: Scorer | None = None) -> None:
        super().__init__(problem, seed=seed, scorer=scorer)
        self._fitted = -1
        self._queue: list[str] = []
        self._wide = -1
        self._narrow: list[str] = []

    def _propose(self) -> str | None:
        fits = _last_fit(len(self.told))
        if fits != self._fitted:
            self._queue, self._fitted = self._plan(fits), fits
        while self._queue:
            code = self._queue.pop(0)
            if not self.is_known(code):
                return code
        return None

    def _plan(self, count: int) -> list[str]:
        """Return candidates after the first ``count`` tells, best first: it depends on these and the seed alone."""
        if not count:
            return self._beginning()
        candidates = self._candidates(count)
        self._fit(count)
        if self.problem.codes is None:
            candidates = self._evolved(candidates, count)
        return self._by_improvement(candidates, count)

    def _by_improvement(self, codes: list[str], count: int) -> list[str]:
        """Return codes, first those that are expected to exceed the best of the first ``count`` tells by most."""
        assert self.scorer is not None
        known = np.array([self.problem.goodness(one.value) for one in self.told[:count]])
        mean, deviation = self.scorer.score(codes)
        usual = max(float(known.std()), _LEAST)  # where the labels are too few to say
        deviation = np.maximum(np.where(np.isfinite(deviation), deviation, usual), _LEAST * usual)
        above = (mean - known.max()) / deviation
        # The logarithm, which tells candidates apart far below the best too
        gain = np.log(deviation) + _log_improvement(above)
        return [codes[place] for place in np.argsort(-gain, kind="stable")]

    def _beginning(self) -> list[str]:
        """Return what the predictor ranks first, then draws among the best twentieth it knows, then the others.

        The very first are alike, and little is learnt from them.
        """
        ranked = self.ranked()
        among = ranked[1 : max(len(ranked) // _SHARE, EVERY)]
        random = np.random.default_rng((self.seed, 0))
        drawn = [among[int(place)] for place in random.permutation(len(among))]
        return [*ranked[:1], *drawn, *ranked[1 + len(among) :]]

    def _candidates(self, count: int) -> list[str]:
        """Return what is looked at: of a long list those that were expected most of at the last look at all."""
        codes = self.problem.codes
        if codes is None:
            return self.ranked()
        if len(codes) <= _WIDEST or count < _ANEW[0]:
            return list(codes)
        at = max(number for number in _ANEW if number <= count)
        if at != self._wide:
            self._fit(_last_fit(at))
            assert self.scorer is not None
            self._narrow, self._wide = self.scorer.rank(codes)[:_WIDEST], at
        return self._narrow

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


def _log_improvement(above: Array) -> Array:
    """Return the logarithm of the expected improvement of normal variables ``(n,)`` of deviation 1 over 0."""
    found = norm.logpdf(above) - 2 * np.log(np.maximum(-above, 1.0))  # its limit far below
    near = above > _FAR
    found[near] = np.log(above[near] * norm.cdf(above[near]) + norm.pdf(above[near]))
    return np.asarray(found)


def _last_fit(count: int) -> int:
    """Return after how many tells the last fit was, with ``count`` told: 0, 10, ... 100, 110, 121, 133, ..."""
    if count < 10 * EVERY:
        return count - count % EVERY
    fits = 10 * EVERY
    while (following := fits + max(EVERY, fits // 10)) <= count:
        fits = following
    return fits


def _latest(told: list[Told]) -> list[Told]:
    """Keep one value per code, their mean where there are several."""
    found: dict[str, list[float]] = {}
    for code, value in told:
        found.setdefault(code, []).append(value)
    return [Told(code, float(np.mean(values))) for code, values in found.items()]
