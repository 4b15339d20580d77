"""One run over several corpora and many tasks: seeded, and the same to the bit however often it is killed."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aiop.errors import AiopError
from aiop.graph_ir.batch import collate
from aiop.graph_ir.checkpoint import resume_checkpoint, save_checkpoint, under
from aiop.graph_ir.features import VOCABULARY
from aiop.pretrain.ahead import read_ahead
from aiop.pretrain.config import PretrainConfig
from aiop.pretrain.evaluation import Scores, embed_rows, mean_score, score
from aiop.pretrain.module import PredictorModule
from aiop.pretrain.objective import Objective, StepData
from aiop.pretrain.preparation import balance, choose_device, descriptions, fit_scalers, fit_statistics, scale
from aiop.pretrain.pretext import PathTargets, Pretext
from aiop.pretrain.reporting import EventLog, RunLog, RunProgress
from aiop.pretrain.sampling import BatchPlan, corpus_shares
from aiop.pretrain.schedule import CheckpointClock, adamw, learning_rate
from aiop.pretrain.sets import TrainingResult, TrainingSet
from aiop.pretrain.targets import Target
from aiop.pretrain.watching import WatchedSet, watched_ranks

__all__ = ["TrainingResult", "TrainingSet", "learning_rate", "train"]

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"

LOG_EVERY = 20


def train(
    config: PretrainConfig,
    sets: Sequence[TrainingSet],
    targets: Sequence[Target],
    *,
    watched: Sequence[WatchedSet] = (),
    progress: bool = True,
    on_step: Callable[[int, float], None] | None = None,
) -> TrainingResult:
    """Train one predictor on all sets; continue from ``config.out`` where a checkpoint of the same run lies there.

    Args:
        config: the settings.
        sets: labelled corpora, whose ``values`` have one column per target.
        targets: the tasks, in the order of the columns.
        watched: corpora to rank without labels at every evaluation.
        progress: show a progress bar on standard error.
        on_step: called after every step with its number (from 1) and its loss; an exception it raises ends the run,
            which a later call continues from its last checkpoint.

    Raises:
        AiopError: for labels or rows that do not fit, a checkpoint of another run, or a loss that is not finite.
    """
    if not sets or not targets:
        raise AiopError(
            "a run needs at least one corpus and one task: check `corpora` and `tasks` of the config"
        )
    for item in sets:
        item.check(len(targets))
    for other in watched:
        other.check(targets)
    if config.threads:
        torch.set_num_threads(config.threads)
    # The run seeds torch at every step; a caller's random numbers go on as if it had not.
    device = choose_device(config.device)
    with torch.random.fork_rng([torch.cuda.current_device()] if device.type == "cuda" else []):
        run = _Run(config, sets, targets, watched, device)
        run.resume()
        run.loop(progress, on_step)
        return run.result()


class _Run:
    """The state of a run. What decides the weights is here, in the settings, and nowhere else."""

    def __init__(
        self,
        config: PretrainConfig,
        sets: Sequence[TrainingSet],
        targets: Sequence[Target],
        watched: Sequence[WatchedSet],
        device: torch.device,
    ) -> None:
        self.config, self.sets, self.targets, self.watched = config, sets, targets, watched
        self.names = [target.name for target in targets]
        self.out = Path(config.out)
        self.device = device
        self.scalers = fit_scalers(config, sets, targets)
        self.scaled, costs = scale(self.scalers, sets)
        unknown = set(config.sampling_weights) - {item.name for item in sets}
        if unknown:
            raise AiopError(
                f"sampling_weights names {sorted(unknown)[0]!r}, which is no corpus of the run: remove it"
            )
        sizes = [len(item.train) for item in sets]
        self.shares = corpus_shares(config, sets)
        self.steps = config.steps or max(1, round(config.epochs * sum(sizes) / config.batch_size))
        self.plan = BatchPlan(
            sizes, self.shares, config.batch_size, self.steps, config.seed, single=config.mixing == "single"
        )
        torch.manual_seed(config.seed)
        first = sets[0].corpus[0]
        self.module = PredictorModule(
            config.backbone, len(VOCABULARY), first.node.shape[1], len(first.graph), len(targets),
            costs=costs is not None, descriptions=descriptions(config, targets),
            residual_dropout=config.residual_dropout,
        )  # fmt: skip
        if costs is not None:
            self.module.costs = costs
        fit_statistics(self.module, sets, self.shares, config.seed)
        self.module.backbone.node_noise = config.node_noise
        self.module.backbone.graph_dropout = config.graph_dropout
        pretext = None
        if config.pretext:
            pretext = Pretext(config.pretext, config.backbone.width, len(VOCABULARY)).to(device)
        self.paths = PathTargets(sets) if "paths" in config.pretext else None
        weights = None
        if config.balance != "labels":
            weights = balance(sets, self.names, config.balance, config.balance_power).to(device)
        self.objective = Objective(config, weights, pretext)
        self.module.to(self.device).train()
        self.averaged = copy.deepcopy(self.module).eval().requires_grad_(False)
        self.trained = dict(self.module.named_parameters())
        if pretext is not None:
            self.trained |= {f"pretext.{name}": parameter for name, parameter in pretext.named_parameters()}
        self.optimizer = adamw(self.trained.values(), config.lr, config.weight_decay)
        self.step = 0
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"score": None, "step": 0}
        self.best_weights: dict[str, Tensor] = {}

    # -- the loop ------------------------------------------------------------------------------------------------

    def loop(self, progress: bool, on_step: Callable[[int, float], None] | None) -> None:
        config = self.config
        events = EventLog(self.out, self.step) if config.tensorboard else None
        log = RunLog(self.out / LOG, self.step, events)
        started, clock = time.monotonic(), CheckpointClock(config)
        before = self.seconds
        with RunProgress(self.steps, self.step, progress) as bar:
            for data in read_ahead(self._assemble, self.step, self.steps):
                loss, parts = self._optimise(data)
                self.step += 1
                self.seconds = before + time.monotonic() - started
                last = self.step == self.steps
                bar.step(self.step, loss)
                if self.step % LOG_EVERY == 0 or last:
                    log.write({"step": self.step, "seconds": round(self.seconds, 2), "loss": loss, **parts})
                if last or (config.eval_every and self.step % config.eval_every == 0):
                    bar.scores(self._evaluate(log))
                if clock.due(self.step, last):
                    self.save()
                    clock.saved()
                if on_step is not None:
                    on_step(self.step, loss)
        if events is not None:
            events.close()

    def _assemble(self, step: int) -> StepData:
        graphs, targets, group, paths = [], [], [], []
        for number, places in enumerate(self.plan.rows(step)):
            rows = self.sets[number].train[places]
            graphs += [self.sets[number].corpus[int(row)] for row in rows]
            targets.append(self.scaled[number][rows])
            group.append(np.full(len(rows), number))
            if self.paths is not None:
                paths.append(self.paths.rows(number, places))
        batch = collate(graphs, engine=self.config.engine).to(self.device).prepare()
        return StepData(
            batch,
            torch.from_numpy(np.concatenate(targets).astype(np.float32)).to(self.device),
            torch.from_numpy(np.concatenate(group)).to(self.device),
            torch.from_numpy(np.concatenate(paths)).to(self.device) if paths else None,
        )

    def _optimise(self, data: StepData) -> tuple[float, dict[str, float]]:
        config = self.config
        # Dropout and noise depend on the step, not on what was drawn before it.
        torch.manual_seed(
            int(np.random.SeedSequence([config.seed, 2, self.step]).generate_state(1, np.uint64)[0])
        )
        rate = learning_rate(config, self.step, self.steps)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        loss, terms = self.objective(self.module, data)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), config.clip)
        value = loss.item()
        if not (math.isfinite(value) and math.isfinite(norm.item())):
            raise AiopError(
                f"the loss is {value} at step {self.step + 1}: lower `lr` or look for labels out of range"
            )
        self.optimizer.step()
        self._average()
        return value, {name: term.item() for name, term in terms.items()} | {"lr": rate}

    @torch.no_grad()
    def _average(self) -> None:
        # A short memory at the start, so that the first weights are soon forgotten.
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step)) if self.config.ema else 0.0
        for average, parameter in zip(self.averaged.parameters(), self.module.parameters(), strict=True):
            average.lerp_(parameter, 1 - decay)

    # -- evaluation ----------------------------------------------------------------------------------------------

    def _scores(self) -> dict[str, Scores]:
        return {
            item.name: score(
                embed_rows(self.averaged, item.corpus, item.validation, engine=self.config.engine)[1],
                item.values[item.validation],
                self.scalers,
                self.names,
            )
            for item in self.sets
        }

    def _evaluate(self, log: RunLog) -> dict[str, float | None]:
        scores = self._scores()
        means = {name: mean_score(item) for name, item in scores.items()}
        record: dict[str, Any] = {"step": self.step, "srcc": means}
        report: dict[str, Any] = {"scores": scores}
        deciding = means
        if self.watched:
            ranks = {
                item.name: watched_ranks(self.averaged, item, self.targets, engine=self.config.engine)
                for item in self.watched
            }
            record["watched"] = {name: mean_score(found) for name, found in ranks.items()}
            report["ranks"] = ranks
            if self.config.select == "watched":
                deciding = record["watched"]
        known = [value for value in deciding.values() if value is not None]
        overall = float(np.mean(known)) if known else None
        self.history.append(record)
        if overall is not None and (self.best["score"] is None or overall > self.best["score"]):
            self.best = {"score": overall, "step": self.step}
            if self.config.select != "last":
                self.best_weights = {
                    name: tensor.clone() for name, tensor in self.averaged.state_dict().items()
                }
        log.write(record | report)
        return means | {f"watched {name}": value for name, value in record.get("watched", {}).items()}

    def result(self) -> TrainingResult:
        step = self.step
        if self.best_weights:
            self.averaged.load_state_dict(self.best_weights)
            step = self.best["step"]
        return TrainingResult(self.averaged, self.scalers, self._scores(), step, self.history)

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def _identity(self) -> dict[str, str]:
        """What must be the same for a checkpoint to go on: the settings, the labels, the rows, the graphs."""
        digest = hashlib.sha256()
        digest.update(
            json.dumps([self.names, [scaler.to_dict() for scaler in self.scalers], self.steps]).encode()
        )
        for item in self.sets:
            item.enter(digest)
        for other in self.watched:
            digest.update(json.dumps([other.name, [target.name for target in other.targets]]).encode())
            for array in (other.values, other.rows):
                digest.update(np.ascontiguousarray(array).tobytes())
        return {"settings": self.config.training_hash(), "data": digest.hexdigest()}

    def save(self) -> None:
        tensors = {f"module/{name}": tensor for name, tensor in self.module.state_dict().items()}
        tensors |= {f"averaged/{name}": tensor for name, tensor in self.averaged.state_dict().items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self.best_weights.items()}
        if self.objective.pretext is not None:
            state = self.objective.pretext.state_dict()
            tensors |= {f"pretext/{name}": tensor for name, tensor in state.items()}
        for name, parameter in self.trained.items():
            tensors |= {f"adam/{name}/{key}": value for key, value in self.optimizer.state[parameter].items()}
        place = {"step": self.step, "seconds": self.seconds, "history": self.history, "best": self.best}
        save_checkpoint(self.out / CHECKPOINT, tensors, place | self._identity())

    def resume(self) -> None:
        found = resume_checkpoint(
            self.out / CHECKPOINT,
            self._identity,
            "of a run with other {key}: delete it, or choose another `out` folder",
        )
        if found is None:
            return
        tensors, state = found
        self.module.load_state_dict(under(tensors, "module/"))
        self.averaged.load_state_dict(under(tensors, "averaged/"))
        self.best_weights = {name: tensor.to(self.device) for name, tensor in under(tensors, "best/").items()}
        if self.objective.pretext is not None:
            self.objective.pretext.load_state_dict(under(tensors, "pretext/"))
        for name, parameter in self.trained.items():
            moments = under(tensors, f"adam/{name}/")
            self.optimizer.state[parameter] = {key: value.to(self.device) for key, value in moments.items()}
        self.step, self.seconds = state["step"], state["seconds"]
        self.history, self.best = state["history"], state["best"]
