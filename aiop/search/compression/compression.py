"""The search: candidates of a network inside a window of MACs, with ask and tell."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import optuna

from aiop.errors import AiopError
from aiop.search.compression.candidate import Candidate
from aiop.search.compression.judging import Judge
from aiop.search.compression.outputs import read_calibration
from aiop.search.compression.probing import Comparison, check_window
from aiop.search.compression.proposals import front_ranks
from aiop.search.compression.scoring import score_weights
from aiop.search.compression.space import (
    SearchSpace,
    find_places,
    place_from_dict,
    place_to_dict,
)
from aiop.search.compression.standing import Standing
from aiop.search.compression.store import Store
from aiop.search.compression.trials import BATCH, Trials, levels_of
from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import Mutation, Refusal, get_mutation
from aiop.search.mutations.base import mutations as registered
from aiop.search.mutations.sequence import mutate

if TYPE_CHECKING:
    import onnx

    from aiop.predictor import Predictor
    from aiop.predictor.few_shot import TaskHead

__all__ = ["BATCH", "Compression", "Progress"]

Array = npt.NDArray[Any]
Progress = Callable[[str, int, int], None]
"""Called with a stage, and how much of it is done."""

FIRST = 100
"""Trials before the first candidate is handed out by `Compression.ask`."""

_WINDOW = 0.05
_COMPARED = 2  # candidates per batch that are compared by their outputs


_UP, _DOWN = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE


def _silent(stage: str, done: int, total: int) -> None:
    pass


class Compression:
    """Searches for cheaper variants of a network that keep what a predictor or head predicts of it.

    Args:
        network: An ONNX file, ``space:code``, bytes, message or `EditableNetwork`.
        predictor: A predictor, its folder, or a head from `aiop.fit_head`; None for the predictor of the package.
        task: What to keep, where ``predictor`` is no head: a task's name, or some words of it as ``imagenet/top1``.
        macs: Share of the original's multiply-accumulates: at most 0.7 (and at least 0.65), or the two ends.
        seed: Of everything drawn.
        storage: Folder that keeps the search; None keeps it in memory.
        mutations: Names of those to use; all by default.
        calibration: Inputs, an ``.npz`` file: outputs on them join the score. Without it noise takes their place.
        latency: A cost to predict as well: one more objective.
        score: Weights of the terms of the score, as of `aiop.search.compression.scoring`.
        sampler: An Optuna sampler that proposes instead of evolution; what it proposes is moved into the window.
        shapes: Input name -> shape, for inputs that the file leaves open.

    Raises:
        AiopError: For a network, task, window, mutation, calibration file or folder that does not fit.
    """

    def __init__(
        self,
        network: EditableNetwork | str | Path | bytes | onnx.ModelProto,
        predictor: Predictor | TaskHead | str | Path | None = None,
        *,
        task: str | None = None,
        macs: float | tuple[float, float] = 0.7,
        seed: int = 0,
        storage: str | Path | None = None,
        mutations: Sequence[str] | None = None,
        calibration: str | Path | None = None,
        latency: str | None = None,
        score: Mapping[str, float] | None = None,
        sampler: optuna.samplers.BaseSampler | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self.window = _window(macs)
        self.weights = score_weights(score)
        self._mutations = _chosen(mutations)
        if not isinstance(network, EditableNetwork):
            network = EditableNetwork.read(network, shapes=shapes)
        self.network, self.seed = network, int(seed)
        if not network.macs:
            raise AiopError(
                f"{network.name}: it has no multiply-accumulates, so there is nothing to cut; give a network with "
                "convolutions or matrix products"
            )
        self.judge = Judge(predictor, task, latency, network.compute_graph())
        feeds, calibrated = None, None
        if calibration is not None:
            feeds, calibrated = read_calibration(calibration, network)
        self.settings: dict[str, Any] = {
            "network": _hash(network),
            "task": self.judge.task,
            "predictor": self.judge.mark,
            "macs": list(self.window),
            "mutations": list(self._mutations),
            "calibration": calibrated,
            "latency": self.judge.latency,
            "score": self.weights,
            "seed": self.seed,
            "sampler": None if sampler is None else type(sampler).__name__,
        }
        directions: list[optuna.study.StudyDirection] = [_UP, _DOWN]
        if self.judge.latency is not None:
            directions.append(_DOWN if self.judge.latency_direction == "min" else _UP)
        self._store = Store(None if storage is None else Path(storage), directions, self.settings)
        self._live = None
        if sampler is not None:
            self._live = optuna.create_study(directions=directions, sampler=sampler)
        self._trials: Trials | None = None
        self._asked: set[int] = set()
        self.refusals: list[Refusal] = []
        self._comparison = Comparison(network, feeds, self.seed)
        predicted, cost = self.judge.predict([network.compute_graph()])[0]
        graph = network.compute_graph()
        self.original = Candidate(
            -1, (), (), graph.macs, graph.params, predicted, cost, 0.0, lambda: (network, [], []), predicted,
            similarity=1.0,
        )  # fmt: skip
        self._standing = Standing(self.judge, self.weights, self.original)

    # What there is to choose from

    @property
    def space(self) -> SearchSpace:
        """The places and what each does; found when first asked for, which takes a second to some minutes."""
        return self._ready().space

    @property
    def candidates(self) -> list[Candidate]:
        """All candidates so far, by their numbers; none before `prepare`."""
        return [] if self._trials is None else self._trials.candidates

    @property
    def exhausted(self) -> bool:
        """Whether nothing new was found in the window."""
        return self._trials is not None and self._trials.exhausted

    @property
    def study(self) -> optuna.Study:
        """The Optuna study that holds every trial."""
        return self._store.study

    def prepare(self, progress: Progress = _silent) -> None:
        """Find out what every place does alone, once; and take up the trials of the storage.

        Raises:
            AiopError: No mutation fits, or the window cannot be reached.
        """
        if self._trials is not None:
            return
        kept = self._store.notes("places")
        if kept:
            places = [place_from_dict(item) for item in kept[""]["places"]]
            self.refusals = [Refusal(**item) for item in kept[""]["refusals"]]
        else:
            places, self.refusals = find_places(
                self.network, self._mutations, mutate, free=self.judge.latency is not None,
                progress=lambda *state: progress("places", *state),
            )  # fmt: skip
            if self.weights["outputs"]:
                places = self._comparison.with_losses(places, lambda *state: progress("outputs", *state))
            else:
                places = [place.with_loss(0.0) for place in places]
            noted = {
                "places": [place_to_dict(place) for place in places],
                "refusals": [
                    {"mutation": item.mutation, "where": item.where, "reason": item.reason}
                    for item in self.refusals
                ],
            }
            self._store.note("places", noted)
        space = SearchSpace(self.network, places)
        check_window(self.network, space, self.refusals, self.window[1])
        low, high = (end * self.network.macs for end in self.window)
        self._trials = Trials(
            self.network, space, (low, high), self.seed, self.judge, self._standing, self._store, self._live
        )

    def _ready(self) -> Trials:
        self.prepare()
        assert self._trials is not None
        return self._trials

    # The loop

    def run(self, trials: int = 500, progress: Progress = _silent) -> list[Candidate]:
        """Search until there are so many trials, those of earlier runs counted, and return the best ten.

        Raises:
            AiopError: As of `prepare`.
        """
        self.prepare(progress)
        progress("trials", min(len(self.candidates), trials), trials)
        while len(self.candidates) < trials and not self.exhausted:
            if len(self.candidates) % BATCH == 0:
                self._compare_best(_COMPARED)
            self._ready().generation(trials - len(self.candidates))
            progress("trials", min(len(self.candidates), trials), trials)
        return self.best(10)

    def ask(self, progress: Progress = _silent) -> Candidate:
        """Return the most promising candidate that was neither handed out nor measured before.

        The first call runs `FIRST` trials on predictions alone, each further one `BATCH` more.

        Raises:
            AiopError: As of `prepare`, and where no candidate is left.
        """
        done = len(self.candidates)
        self.run(FIRST if done < FIRST else done + BATCH, progress)
        self._compare_best(_COMPARED)
        open_ = [item for item in self.candidates if item.measured is None and item.number not in self._asked]
        if not open_:
            raise AiopError(
                f"{self.network.name}: all {len(self.candidates)} candidates in the window were proposed; widen it"
            )
        found = min(open_, key=self._standing.promise)
        self._asked.add(found.number)
        return found

    def tell(self, candidate: Candidate, measured: float) -> None:
        """Give what was measured of a candidate (or of ``original``), in the task's unit; all scores follow it.

        Predictions are corrected by what was measured: see `aiop.search.compression.judging.Correction`.

        Raises:
            AiopError: No finite number, or a candidate of another search.
        """
        if isinstance(measured, bool) or not math.isfinite(measured):
            raise AiopError(f"the measured value is {measured!r}: give a finite number")
        mine = candidate is self.original or (
            0 <= candidate.number < len(self.candidates) and self.candidates[candidate.number] is candidate
        )
        if not mine:
            raise AiopError(f"candidate {candidate.number} is of another search: tell that one")
        trials = self._ready()
        candidate.measured = float(measured)
        self._store.note(f"measured/{candidate.number}", float(measured))
        trials.rescore()

    def best(self, count: int = 10, *, max_drop: float | None = None) -> list[Candidate]:
        """Return the candidates with the highest score; those out of distribution behind all others.

        Where the original itself is out of distribution the flag decides nothing. ``max_drop``: only those whose
        predicted value is at most that much worse than the original's, in the task's unit.
        """
        found = sorted(self.candidates, key=self._standing.rank)
        if max_drop is not None:
            found = [item for item in found if self._standing.drop(item) <= max_drop]
        return found[:count]

    def front(self) -> list[Candidate]:
        """Return candidates that no other beats in score, MACs and latency together, the best score first.

        Those out of distribution are left out unless the original or all of them are.
        """
        inside = [item for item in self.candidates if not self._standing.outside(item)] or self.candidates
        if not inside:
            return []
        ranks = front_ranks(np.array([self._standing.objectives(item, maximised=True) for item in inside]))
        found = [item for item, rank in zip(inside, ranks, strict=True) if rank == 0]
        return sorted(found, key=self._standing.rank)

    def drop(self, candidate: Candidate) -> float:
        """Return how much worse than the original a candidate is predicted to be, in the task's unit."""
        return self._standing.drop(candidate)

    @property
    def measured(self) -> int:
        """How many values `tell` was told."""
        return sum(item.measured is not None for item in (self.original, *self.candidates))

    def close(self) -> None:
        """Let other processes open the storage."""
        self._store.close()

    def __enter__(self) -> Compression:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # For a study of one's own

    def suggest(self, trial: optuna.Trial) -> Candidate:
        """Return the candidate of a trial of one's own study, whose parameters are one per place.

        What is suggested is moved into the window of MACs; the trial's attribute ``decisions`` says where to.

        Raises:
            optuna.TrialPruned: Nothing near is in the window.
        """
        trials = self._ready()
        space = trials.space
        chosen = [trial.suggest_categorical(place.name, space.choices(place)) for place in space.places]
        levels = levels_of(space, chosen)
        rng = np.random.default_rng([self.seed, 3, trial.number])
        found = trials.realise(np.array(levels, np.int64), rng)
        if found is None:
            raise optuna.TrialPruned("no candidate near the suggested one is in the window of MACs")
        known = next((item for item in self.candidates if item.levels == found[0]), None)
        candidate = known if known is not None else trials.record([found])[0]
        trial.set_user_attr("decisions", [item.to_dict() for item in candidate.decisions])
        trial.set_user_attr("macs", candidate.macs)
        return candidate

    def objective(self, trial: optuna.Trial) -> tuple[float, ...]:
        """Score, MACs and (where asked for) latency of a trial, for ``study.optimize``.

        The directions of the study are those of `study`.
        """
        return self._standing.objectives(self.suggest(trial))

    def enqueue(self, study: optuna.Study) -> None:
        """Let a study of one's own begin with the structured candidates."""
        trials = self._ready()
        for levels in trials.seeds:
            study.enqueue_trial(trials.params(levels), skip_if_exists=True)

    # Their outputs

    def _compare_best(self, count: int) -> None:
        """Compare the outputs of the best candidates with the original's, where there are real inputs."""
        if not self._comparison.real or not self.weights["outputs"]:
            return
        changed = {}
        for item in self.best(count):
            if item.similarity is None:
                found = self._comparison.similarity(item.network)
                item.forget()
                item.similarity = changed[item.number] = 0.0 if found is None else found
        for number, value in changed.items():
            self._store.note(f"similarity/{number}", value)
        if changed:
            self._ready().rescore()

    def compare(self, candidates: Sequence[Candidate], progress: Progress = _silent) -> None:
        """Compare outputs on the calibration inputs, where there are some, of candidates that were not compared yet."""
        if not self._comparison.real:
            return
        for done, item in enumerate(candidates):
            progress("comparing", done, len(candidates))
            if item.similarity is None:
                found = self._comparison.similarity(item.network)
                item.similarity = 0.0 if found is None else found
                self._store.note(f"similarity/{item.number}", item.similarity)
        progress("comparing", len(candidates), len(candidates))
        self._ready().rescore()


def _window(macs: float | tuple[float, float]) -> tuple[float, float]:
    low, high = (
        macs if isinstance(macs, tuple | list) else (max(float(macs) - _WINDOW, float(macs) / 2), float(macs))
    )
    if not 0 < low < high < 1:
        raise AiopError(
            f"the MACs asked for are from {low:g} to {high:g} of the original's: give a share between 0 and 1, as 0.7"
        )
    return round(float(low), 6), round(float(high), 6)


def _chosen(names: Sequence[str] | None) -> dict[str, Mutation]:
    """The mutations to use, in their order."""
    known = registered()
    wanted = list(known) if names is None else [get_mutation(name).name for name in names]
    if not wanted:
        raise AiopError(f"no mutation is allowed: name some of {', '.join(known)}")
    return {name: mutation for name, mutation in known.items() if name in wanted}


def _hash(network: EditableNetwork) -> str:
    """What tells networks apart: the graph, its names, and the values of its weights."""
    digest = hashlib.sha256(network.proto(weights=False).SerializeToString(deterministic=True))
    for name in sorted(network.graph.initializers):
        tensor = network.graph.initializers[name].const_value
        if tensor is not None:
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    return digest.hexdigest()
