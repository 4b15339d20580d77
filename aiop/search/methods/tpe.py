"""Tree-structured Parzen estimators (Bergstra et al., NeurIPS 2011), as Optuna has them, over the choices of a code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from aiop.search.methods.base import Problem, Scorer, Searcher, Told, register_searcher
from aiop.search.methods.choices import Choices, Value, code_columns, ordered

if TYPE_CHECKING:
    import optuna

__all__ = ["STARTS", "Tpe"]

STARTS = 10
"""Architectures before the first estimate, as in Optuna."""


@register_searcher
class Tpe(Searcher):
    """Asks for what Optuna's sampler suggests for each choice; numbers are ordered, names are not.

    The first `STARTS` are drawn uniformly; with a scorer they are those it ranks first.
    """

    name: ClassVar[str] = "tpe"
    summary: ClassVar[str] = "Optuna's tree-structured Parzen estimators over the choices of a code"
    patience: ClassVar[int] = 8  # a suggestion takes milliseconds

    def __init__(self, problem: Problem, *, seed: int = 0, scorer: Scorer | None = None) -> None:
        super().__init__(problem, seed=seed, scorer=scorer)
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._choices = Choices(problem.grammar)
        self._values = self._choices.values()
        self._places: npt.NDArray[np.float64] | None = None
        self._study = optuna.create_study(direction="maximize", storage=optuna.storages.InMemoryStorage())
        self._common = optuna.search_space.IntersectionSearchSpace()

    def _propose(self) -> str | None:
        import optuna

        if len(self.told) < STARTS:
            return self.first()
        seed = int(self.random().integers(2**31))
        self._study.sampler = _sampler(seed, self._common)
        trial = self._study.ask()

        def pick(name: str, values: tuple[Value, ...]) -> Value:
            if ordered(values):
                return values[trial.suggest_int(name, 0, len(values) - 1)]
            return trial.suggest_categorical(name, values)

        code = self._choices.decode(pick)
        self._study.tell(
            trial, state=optuna.trial.TrialState.FAIL
        )  # what is told comes as a trial of its own
        if code is None or self.problem.codes is None:
            return code
        return self._nearest(code)

    def _nearest(self, code: str) -> str | None:
        """Return the candidate with the most of a code's choices that is not known yet."""
        code = self.problem.stands_for.get(code, code)
        if self.problem.inside(code) and not self.is_known(code):
            return code
        assert self.problem.codes is not None
        if self._places is None:
            self._places = code_columns(self.problem.space, self.problem.codes)
        away = ((self._places - code_columns(self.problem.space, [code])) ** 2).sum(axis=1)
        nearest = (self.problem.codes[int(row)] for row in np.argsort(away, kind="stable"))
        return next((one for one in nearest if not self.is_known(one)), None)

    def _learn(self, told: Told) -> None:
        import optuna

        params: dict[str, Any] = {}
        distributions: dict[str, optuna.distributions.BaseDistribution] = {}
        for name, value in self._choices.encode(told.code).items():
            values = self._values.get(name, ())
            if len(values) < 2 or value not in values:  # of no choice, or rarer than the samples
                continue
            if ordered(values):
                params[name] = values.index(value)
                distributions[name] = optuna.distributions.IntDistribution(0, len(values) - 1)
            else:
                params[name] = value
                distributions[name] = optuna.distributions.CategoricalDistribution(values)
        self._study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=distributions, value=self.problem.goodness(told.value)
            )
        )


def _sampler(seed: int, common: optuna.search_space.IntersectionSearchSpace) -> optuna.samplers.TPESampler:
    """Return Optuna's sampler with a seed of its own, to which the choices that all trials made are known already.

    A new one would compare those of all trials with each other at every ask, which takes longer than all else.
    """
    import optuna

    class Sampler(optuna.samplers.TPESampler):
        def infer_relative_search_space(
            self, study: optuna.Study, trial: optuna.trial.FrozenTrial
        ) -> dict[str, optuna.distributions.BaseDistribution]:
            return {name: one for name, one in common.calculate(study).items() if not one.single()}

    return Sampler(seed=seed, n_startup_trials=0)
