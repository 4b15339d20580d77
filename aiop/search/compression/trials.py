"""The trials of a search: proposed in batches, brought into the window of MACs, predicted and kept."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import CategoricalDistribution

from aiop.errors import AiopError
from aiop.predictor.prediction import Prediction
from aiop.search.compression.candidate import Candidate
from aiop.search.compression.judging import Judge
from aiop.search.compression.proposals import children, front_ranks, seeds
from aiop.search.compression.space import UNCHANGED, Levels, SearchSpace
from aiop.search.compression.standing import Standing
from aiop.search.compression.store import Store
from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import Edit, Refusal
from aiop.search.mutations.sequence import mutate

__all__ = ["BATCH", "Trials", "levels_of"]

Array = npt.NDArray[Any]

BATCH = 20
"""Candidates that are proposed and predicted together."""

_TRIES = 4  # to bring a candidate into the window
_DRAWS = 20  # proposals per candidate of a batch, before the choices count as exhausted


class Trials:
    """All candidates so far, those of the storage first, and how more come about.

    Args:
        network: What is compressed.
        space: The places and what each does.
        window: The least and the most MACs.
        seed: Of everything drawn.
        judge: What predicts candidates.
        standing: What scores them.
        store: Where they are kept.
        live: A study that proposes instead of evolution.
    """

    def __init__(
        self,
        network: EditableNetwork,
        space: SearchSpace,
        window: tuple[float, float],
        seed: int,
        judge: Judge,
        standing: Standing,
        store: Store,
        live: optuna.Study | None = None,
    ) -> None:
        self.network, self.space, self.window, self.seed = network, space, window, seed
        self._judge, self._standing, self._store, self._live = judge, standing, store, live
        self._waiting: dict[Levels, optuna.Trial] = {}
        self.seeds = list(seeds(space, *window, seed))
        self.candidates: list[Candidate] = []
        self.exhausted = False
        self._take_up()

    def rescore(self) -> None:
        """Score all candidates anew, after something was compared or measured."""
        self._standing.rescore(self.space, self.candidates)

    def generation(self, most: int) -> None:
        """Propose, predict and keep the rest of the batch that is begun, at most so many candidates.

        A batch depends on the seed and on the batches before it, not on where a run stopped.
        """
        begun = len(self.candidates) // BATCH * BATCH
        skip = len(self.candidates) - begun
        found: list[tuple[Levels, EditableNetwork]] = []
        seen = {item.levels for item in self.candidates[:begun]}
        rng = np.random.default_rng([self.seed, 2, begun])
        for draft in itertools.islice(self._proposals(begun, rng), _DRAWS * BATCH):
            key = tuple(int(level) for level in draft)
            if key in seen:
                continue
            realised = self.realise(np.array(draft, np.int64), rng)
            if realised is None or realised[0] in seen:
                continue
            seen |= {key, realised[0]}
            found.append(realised)
            if len(found) == BATCH:
                break
        if len(found) <= skip:
            self.exhausted = True
            return
        self.record(found[skip : skip + most])

    def _proposals(self, begun: int, rng: np.random.Generator) -> Iterator[Levels]:
        space = self.space
        low, high = self.window
        if self._live is not None:
            yield from self._sampled(self._live)
        yield from self.seeds[begun:]
        parents = [item.levels for item in self._parents(begun)]
        yield from children(space, parents, low, high, rng)

    def _sampled(self, live: optuna.Study) -> Iterator[Levels]:
        space = self.space
        while True:
            trial = live.ask(self._distributions())
            levels = levels_of(space, [trial.params[place.name] for place in space.places])
            self._waiting[levels] = trial
            yield levels

    def _parents(self, begun: int) -> list[Candidate]:
        """Candidates of finished batches: by distribution, then front, then score."""
        known = self.candidates[:begun]
        if not known:
            return []
        ranks = front_ranks(np.array([self._standing.objectives(item, maximised=True) for item in known]))
        order = sorted(
            range(len(known)),
            key=lambda i: (
                self._standing.outside(known[i]),
                min(int(ranks[i]), 1),
                *self._standing.rank(known[i]),
            ),
        )
        by_score = sorted(known, key=self._standing.rank)
        # the highest scores and the front in turn: on the front alone are also those that are merely small
        mixed = itertools.chain.from_iterable(zip(by_score, (known[i] for i in order), strict=True))
        return list(dict.fromkeys(mixed))

    def realise(self, levels: Array, rng: np.random.Generator) -> tuple[Levels, EditableNetwork] | None:
        """Return a network in the window with levels near those given, None where none is found."""
        low, high = self.window
        space, bias = self.space, 1.0
        for _ in range(_TRIES):
            inside = space.into_window(levels, low / bias, high / bias, rng)
            if inside is None:
                return None
            levels = inside
            try:
                network = mutate(self.network, space.decisions(levels))[0]
            except AiopError:
                return None
            if low <= network.macs <= high:
                return tuple(int(level) for level in levels), network
            bias = network.macs / space.macs(levels)
        return None

    def record(self, found: Sequence[tuple[Levels, EditableNetwork]]) -> list[Candidate]:
        """Predict networks and keep them as trials."""
        graphs = [network.compute_graph() for _, network in found]
        new = []
        for (levels, _), graph, (predicted, cost) in zip(
            found, graphs, self._judge.predict(graphs), strict=True
        ):
            new.append(self._candidate(levels, graph.macs, graph.params, predicted, cost))
        self.rescore()
        for item in new:
            values = list(self._standing.objectives(item))
            self._store.study.add_trial(
                optuna.trial.create_trial(
                    values=values,
                    params=self.params(item.levels),
                    distributions=self._distributions(),
                    user_attrs={
                        "macs": item.macs,
                        "params": item.params,
                        "predicted": _plain(item.raw),
                        "latency": None if item.latency is None else _plain(item.latency),
                    },
                )
            )
            if self._live is not None and item.levels in self._waiting:
                self._live.tell(self._waiting.pop(item.levels), values)
        return new

    def _take_up(self) -> None:
        """Make candidates of the trials that the storage holds."""
        space = self.space
        for trial in self._store.trials():
            levels = levels_of(space, [trial.params[place.name] for place in space.places])
            attrs = trial.user_attrs
            cost = attrs["latency"]
            self._candidate(
                levels, int(attrs["macs"]), int(attrs["params"]), _prediction(attrs["predicted"]),
                None if cost is None else _prediction(cost),
            )  # fmt: skip
            if self._live is not None:
                self._live.add_trial(trial)
        for number, value in self._store.notes("similarity/").items():
            self.candidates[int(number)].similarity = value
        for number, value in self._store.notes("measured/").items():
            (self._standing.original if int(number) < 0 else self.candidates[int(number)]).measured = value
        self.rescore()

    def _candidate(
        self, levels: Levels, macs: int, params: int, predicted: Prediction, cost: Prediction | None
    ) -> Candidate:
        decisions = tuple(self.space.decisions(levels))

        def make() -> tuple[EditableNetwork, list[Edit], list[Refusal]]:
            return mutate(self.network, decisions)

        loss = self.space.loss(np.array(levels, np.int64))
        number = len(self.candidates)
        self.candidates.append(
            Candidate(number, levels, decisions, macs, params, predicted, cost, loss, make, predicted)
        )
        return self.candidates[-1]

    def params(self, levels: Levels) -> dict[str, Any]:
        return {
            place.name: place.amounts[level - 1] if level else UNCHANGED
            for place, level in zip(self.space.places, levels, strict=True)
        }

    def _distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        return {
            place.name: CategoricalDistribution(tuple(self.space.choices(place)))
            for place in self.space.places
        }


def levels_of(space: SearchSpace, chosen: Sequence[Any]) -> Levels:
    """Return levels of the values of a trial's parameters, one per place."""
    return tuple(
        0 if choice == UNCHANGED else place.amounts.index(choice) + 1
        for place, choice in zip(space.places, chosen, strict=True)
    )


def _plain(prediction: Prediction) -> dict[str, Any]:
    """Plain values for JSON: open ends are None."""
    data = prediction.to_dict()
    return data | {key: data[key] if math.isfinite(data[key]) else None for key in ("low", "high")}


def _prediction(data: Mapping[str, Any]) -> Prediction:
    ends = {"low": -math.inf, "high": math.inf}
    return Prediction(
        **{**data, **{key: end if data[key] is None else data[key] for key, end in ends.items()}}
    )
