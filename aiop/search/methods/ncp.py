"""Network coding propagation as a search method (Ding et al., ICLR 2022): see `aiop.search.methods.propagation`.

Gradients need a predictor of codes. With a scorer that is a perceptron which learns what the scorer, fitted to what was
told, expects of a sample of codes (its *student*). Gradients of it move many codes at once; of what they come by, and
what is one mutation from the best of it, the scorer, which knows better than its student, expects most improvement of
those that are asked for. Nothing told yet, these are drawn from what it ranks first. When enough more was told, all of
this is done anew. A predictor of codes that is given, of one task or several, is followed as it is.

Without either, perceptrons learn what was told, after ten draws at random. Few labels leave much open: three of them
from different seeds are followed each on its own, and every fourth ask is a draw.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.search.methods.base import Problem, Scorer, Searcher, register_searcher
from aiop.search.methods.code_predictor import CodePredictor
from aiop.search.methods.code_vectors import code_vectors
from aiop.search.methods.propagation import objective_weights, propagate
from aiop.tasks import get_task

__all__ = ["NetworkCodingPropagation"]

Array = npt.NDArray[np.float64]

_POOL = 512  # codes that a student learns from
_STAGES = (10, 15, 20, 25, 30, 36, 42, 50, 65, 85, 110, 150, 200, 260, 340, 440, 570, 750, 1000)
"""Tells after which a student is made anew."""
_STARTS, _BEST, _OTHERS = 96, 8, 32
_FOUND = 400  # codes whose MACs are looked at after the gradients
_RANKED = 200  # what is left of them for a scorer
_MUTANTS = 4  # of each of the best, for a scorer, where costs of all neighbours are not known beforehand
_MEMBERS, _EPOCHS, _STEPS = 1, 40, 40
_SPREAD, _SHARE = (
    200,
    20,
)  # of what is ranked without labels so many, a share at most, are in an order drawn at random
_APART, _FEW_EPOCHS, _FEW_STEPS, _LEADS = 3, 50, 8, 40  # of a search by labels alone


@register_searcher
class NetworkCodingPropagation(Searcher):
    """Asks for what gradients with respect to codes lead to.

    Args:
        problem: on a space of `code_vectors`.
        seed: of all that is left to chance.
        scorer: what a student learns from.
        student: a predictor of codes to follow in place of one; of all tasks of the problem, which its weights weigh.

    Raises:
        AiopError: a space whose codes are no vectors, or a student of other tasks; of several tasks none is given.
    """

    name: ClassVar[str] = "ncp"
    summary: ClassVar[str] = "gradients of a predictor of codes move codes (NCP)"
    several_tasks: ClassVar[bool] = True

    def __init__(
        self,
        problem: Problem,
        *,
        seed: int = 0,
        scorer: Scorer | None = None,
        student: CodePredictor | None = None,
    ) -> None:
        super().__init__(problem, seed=seed, scorer=scorer)
        self.vectors = code_vectors(problem.space)
        if student is not None and (student.vectors.space, student.tasks) != (problem.space, problem.tasks):
            raise AiopError(
                f"the student predicts {', '.join(student.tasks)} of {student.vectors.space}, not "
                f"{', '.join(problem.tasks)} of {problem.space}: make one of these"
            )
        if student is None and len(problem.tasks) > 1:
            raise AiopError(
                "ncp follows several tasks by a predictor alone: give it one, or name a single task"
            )
        self.student = student
        self._pool: list[str] = []

    def _propose(self) -> str | None:
        guided = self.scorer is not None or self.student is not None
        if not guided and len(self.told) < _STAGES[0]:
            return self.problem.sample(self.random())
        return self._planned(max(stage for stage in (0, *_STAGES) if stage <= len(self.told)))

    def _plan(self, count: int) -> list[str]:
        """Return codes to ask for, best first: a function of the first ``count`` tells and the seed."""
        if not self._pool:
            self._pool = self._sampled()
        known = [one.code for one in self.told[:count]]
        values = np.array([one.value for one in self.told[:count]], np.float64)
        goodness = np.array([self.problem.goodness(value) for value in values])
        random = np.random.default_rng((self.seed, count, 1))
        tried = [known[place] for place in np.argsort(-goodness, kind="stable")[:_BEST]]
        others = [self._pool[place] for place in random.permutation(len(self._pool))[:_OTHERS]]
        if self.student is None and self.scorer is None:
            return self._apart(known, goodness, [*tried, *others], random)
        pool = list(dict.fromkeys([*known, *self._pool]))
        if self.student is not None:
            student, aims = self.student, self._aims()
            worth = _worth(student, pool, aims)
        else:
            assert self.scorer is not None
            self.scorer.fit(known, values)
            worth = self.scorer.score(pool, sure=False).mean
            student, aims = self._taught(pool, worth, self.seed + 7919 * count, _MEMBERS, _EPOCHS), np.ones(1)
        best = [pool[place] for place in np.argsort(-worth, kind="stable")[:_STARTS]]
        codes = self._followed(student, [*best, *tried, *others], aims, _STEPS)
        if self.scorer is None:
            return codes
        found = list(dict.fromkeys([*codes, *best, *self._around([*codes[:_BEST], *tried], random)]))
        if known:
            return self.scorer.promising(found, goodness)
        few = _SPREAD if self.problem.codes is None else len(self.problem.codes) // _SHARE
        return _spread(self.scorer.rank(found), min(_SPREAD, max(few, _STAGES[0])), random)

    def _apart(
        self, known: list[str], goodness: Array, starts: list[str], random: np.random.Generator
    ) -> list[str]:
        """Return what perceptrons of few labels lead to, in turns, with draws between."""
        found = []
        for number in range(_APART):
            student = self._taught(known, goodness, self.seed + 7919 * len(known) + number, 1, _FEW_EPOCHS)
            found.append(self._followed(student, starts, np.ones(1), _FEW_STEPS))
        draws = [self._pool[place] for place in random.permutation(len(self._pool))]
        turns, before = dict[str, None](), set(known)
        for _ in range(_LEADS):
            for codes in (*found, draws):
                code = next((code for code in codes if code not in turns and code not in before), None)
                if code is not None:
                    turns[code] = None
        return list(turns)

    def _followed(self, student: CodePredictor, starts: list[str], aims: Array, steps: int) -> list[str]:
        """Return the codes that gradients come by and that may be asked for, best first as the student has it."""
        starts = list(dict.fromkeys(starts))
        found = propagate(student, starts, aims, budget=self.problem.budget, steps=steps, cost=0.0).codes
        codes = [code for code in map(self.problem.canonical, found[:_FOUND]) if self.problem.inside(code)]
        return list(dict.fromkeys(codes))[:_RANKED]

    def _around(self, codes: list[str], random: np.random.Generator) -> list[str]:
        """Return codes one mutation from some: gradients of one-hot choices come by few, and stop at the same."""
        if self.problem.codes is not None:
            return [other for code in codes for other in self.problem.neighbours(code)]
        mutants = [self.problem.mutant(code, random) for code in codes for _ in range(_MUTANTS)]
        return [code for code in mutants if code is not None]

    def _taught(self, codes: list[str], worth: Array, seed: int, members: int, epochs: int) -> CodePredictor:
        """Return a student of what codes are worth; MACs are looked at where there is a budget only."""
        scale = max(float(np.std(worth)), 1e-12)
        clipped = np.clip((worth - np.mean(worth)) / scale, -4.0, 4.0)
        macs = np.zeros(len(codes))
        if self.problem.budget is not None:
            macs = np.array([self.problem.macs(code) for code in codes])
        return CodePredictor.student(
            self.problem.space, codes, clipped, macs, np.zeros(len(codes)), tasks=self.problem.tasks[:1], seed=seed,
            members=members, epochs=epochs,
        )  # fmt: skip

    def _sampled(self) -> list[str]:
        """Return codes of the space, of the list of candidates where there is one."""
        random = np.random.default_rng((self.seed, _POOL))
        codes = self.problem.codes
        if codes is not None:
            return [codes[place] for place in random.permutation(len(codes))[:_POOL]]
        return list(dict.fromkeys(self.problem.sample(random) for _ in range(_POOL)))

    def _aims(self) -> Array:
        directions = [get_task(task).direction for task in self.problem.tasks]
        return objective_weights(self.problem.tasks, directions, self.problem.weights)


def _spread(ranked: list[str], count: int, random: np.random.Generator) -> list[str]:
    """Return ranked codes with the first ``count``, which are alike and teach little, in an order drawn at random.

    The very first stays.
    """
    among = ranked[1:count]
    return [*ranked[:1], *(among[place] for place in random.permutation(len(among))), *ranked[count:]]


def _worth(student: CodePredictor, codes: list[str], aims: Array) -> Array:
    """Return the weighted sum of what a student says of codes, ``(n,)``, in deviations of its targets."""
    values = student.predict(codes)[:, :-2]
    scaling = student.scaling
    return np.asarray(((values - scaling.mean[:-2]) / scaling.scale[:-2]) @ aims)
