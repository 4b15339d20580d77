"""Slow-fast learning as a search method (RelativeNAS; Tan et al., IEEE TNNLS 2021).

A population of points, paired at random each generation; the worse of a pair moves towards the better, which stays.
Values are only compared within a pair. The paper trains both of a pair for that, which is
`aiop.search.weight_sharing`; here a comparison is of values that were told, or of what a scorer expects.

- Without a scorer the method asks for what the pairs at hand lack, and a slow learner moves as soon as both values of
  its pair are known.
- With one, every few evaluations the scorer is fitted to what was told and a whole search runs on what it expects; of
  all that the population came by, what is not known is asked for, best expected first.

Which architecture is the result the paper does not say. Here it is the best that was told within the budget
(`Searcher.best`), whether it is still in the population or not.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from aiop.search.methods.base import Problem, Scorer, Searcher, Told, register_searcher
from aiop.search.methods.slow_fast import Points, moved, pairs, points_of

__all__ = ["POPULATION", "RelativeSearch"]

Array = npt.NDArray[np.float64]

POPULATION = 10
"""Learners. The published 20 are for 1,000 comparisons; with 10 as few as 45 to 150 evaluations lead further."""
EVERY = 10
"""Evaluations between two fits of a scorer; from 100 on a tenth of those there are."""

_SHARES = (1.0, 0.5, 0.25, 0.125)  # of a move, until it ends inside the budget
_SETTLED = 5  # generations without an unknown code after which a population begins anew
_ADVANCE = 200  # generations at most that one value sets going
_GENERATIONS = 25  # of a search on what a scorer expects


class _Learners:
    """A population: its points and velocities ``(P, D)``, and the code of each, which is one that may be asked for."""

    def __init__(
        self, problem: Problem, points: Points, codes: list[str], random: np.random.Generator
    ) -> None:
        self.problem, self.points, self.codes = problem, points, codes
        self.places = np.stack([points.encode(code, random) for code in codes])
        self.velocities = np.zeros_like(self.places)
        self._candidates: Array | None = None

    def learn(self, slow: int, fast: int, random: np.random.Generator) -> None:
        """Move a slow learner towards a fast one, as far as it stays inside the budget."""
        aim, self.velocities[slow] = moved(
            self.places[slow], self.places[fast], self.velocities[slow], self.points.upper, random
        )
        for share in _SHARES:
            place = self.places[slow] + share * (aim - self.places[slow])
            code = self.points.decode(place)
            code = None if code is None else self.problem.canonical(code)
            if code is None or not self.problem.inside(code):
                code = self._nearest(place)
            if code is not None:
                self.places[slow], self.codes[slow] = place, code
                return

    def renew(self, row: int, code: str, random: np.random.Generator) -> None:
        """Put a learner on another code, at rest."""
        self.places[row], self.codes[row] = self.points.encode(code, random), code
        self.velocities[row] = 0.0

    def _nearest(self, place: Array) -> str | None:
        """Return the candidate nearest to a point, each choice from 0 to 1; None where there is no list."""
        codes = self.problem.codes
        if codes is None:
            return None
        if self._candidates is None:
            self._candidates = np.stack([self.points.encode(code) for code in codes]) / self.points.upper
        away = np.square(self._candidates - place / self.points.upper).sum(axis=1)
        return codes[int(away.argmin())]


@register_searcher
class RelativeSearch(Searcher):
    """Asks for what the comparisons of slow-fast learning need.

    Args:
        problem: on any space; on `darts` the published code is used.
        seed: of all that is left to chance.
        scorer: what learners are compared by; None compares by what is told.
        population: learners, at least 2.
    """

    name: ClassVar[str] = "relative"
    summary: ClassVar[str] = "slow-fast learning, RelativeNAS (Tan et al., 2021)"

    def __init__(
        self,
        problem: Problem,
        *,
        seed: int = 0,
        scorer: Scorer | None = None,
        population: int = POPULATION,
    ) -> None:
        super().__init__(problem, seed=seed, scorer=scorer)
        self.points, self.population = points_of(problem.space), max(2, population)
        self._learners: _Learners | None = None
        self._values: dict[str, float] = {}
        self._generation, self._settled = -1, 0
        self._open: list[
            tuple[int, int, int]
        ] = []  # number, and the two learners, of pairs without a comparison

    def _propose(self) -> str | None:
        if self.scorer is not None:
            return self._expected()
        herd = self._begun()
        for _, *pair in self._open:
            for learner in pair:
                if not self.is_known(herd.codes[learner]):
                    return herd.codes[learner]
        return None

    def _learn(self, told: Told) -> None:
        self._values[told.code] = self.problem.goodness(told.value)
        if self.scorer is None:
            self._advance()

    def _begun(self) -> _Learners:
        """Return the population; the first one is drawn when it is asked for."""
        if self._learners is None:
            random = self._chance(0)
            codes = [self.problem.sample(random) for _ in range(self.population)]
            self._learners = _Learners(self.problem, self.points, codes, random)
            self._next_generation()
        return self._learners

    def _advance(self) -> None:
        """Let every pair learn whose values are known, generation after generation until one lacks a value."""
        herd = self._begun()
        for _ in range(_ADVANCE):
            waiting = []
            for number, one, other in self._open:
                values = [self._values.get(herd.codes[learner]) for learner in (one, other)]
                if values[0] is None or values[1] is None:
                    waiting.append((number, one, other))
                    self._settled = 0
                    continue
                slow, fast = (one, other) if values[0] < values[1] else (other, one)
                herd.learn(slow, fast, self._chance(1, self._generation, number))
            self._open = waiting
            if waiting:
                return
            self._settled += 1
            if self._settled > _SETTLED:
                self._begin_anew(herd)
            self._next_generation()

    def _next_generation(self) -> None:
        self._generation += 1
        drawn = pairs(self.population, self._chance(2, self._generation))
        self._open = [(number, int(one), int(other)) for number, (one, other) in enumerate(drawn)]

    def _begin_anew(self, herd: _Learners) -> None:
        """Draw all learners anew but one on the best code: the others have come together."""
        random = self._chance(3, self._generation)
        best = max(range(self.population), key=lambda row: self._values.get(herd.codes[row], -np.inf))
        for row in range(self.population):
            herd.renew(row, herd.codes[best] if row == best else self._unknown(random), random)
        self._settled = 0

    def _unknown(self, random: np.random.Generator) -> str:
        """Draw a code, one without a value if a few draws bring one."""
        code = self.problem.sample(random)
        for _ in range(8):
            if code not in self._values:
                break
            code = self.problem.sample(random)
        return code

    def _expected(self) -> str | None:
        return self._planned(len(self.told) - len(self.told) % max(EVERY, len(self.told) // 10))

    def _plan(self, count: int) -> list[str]:
        """Return what a search on the scorer's word comes by, best expected first: from the first ``count`` tells."""
        assert self.scorer is not None
        random = self._chance(4, count)
        prior = self.ranked()
        latest = {one.code: one.value for one in self.told[:count]}
        self.scorer.fit(list(latest), np.array(list(latest.values()), np.float64))
        known = sorted(latest, key=lambda code: -self.problem.goodness(latest[code]))
        begin = [code for code in known if self.problem.inside(code)][: self.population // 4]
        begin = list(dict.fromkeys([*begin, *prior[: self.population // 2]]))[: self.population // 2]
        begin += [self.problem.sample(random) for _ in range(self.population - len(begin))]
        herd = _Learners(self.problem, self.points, begin, random)
        worth: dict[str, float] = {}
        for _ in range(_GENERATIONS):
            self._look(worth, herd.codes)
            for one, other in pairs(self.population, random).tolist():
                slow, fast = (
                    (one, other) if worth[herd.codes[one]] < worth[herd.codes[other]] else (other, one)
                )
                herd.learn(slow, fast, random)
        self._look(worth, herd.codes)
        return sorted(worth, key=lambda code: -worth[code])

    def _look(self, worth: dict[str, float], codes: list[str]) -> None:
        """Ask the scorer for what is expected of codes that it was not asked for."""
        assert self.scorer is not None
        new = [code for code in dict.fromkeys(codes) if code not in worth]
        if new:
            worth |= dict(zip(new, self.scorer.score(new, sure=False).mean.tolist(), strict=True))

    def _chance(self, *purpose: int) -> np.random.Generator:
        """Return a generator that depends on the seed and a purpose alone."""
        return np.random.default_rng((self.seed, 2009, 6193, *purpose))
