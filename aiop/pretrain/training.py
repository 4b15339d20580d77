"""One run over several corpora and many tasks: seeded, and the same to the bit however often it is killed."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aiop.errors import AiopError
from aiop.graph_ir.batch import GraphBatch, collate
from aiop.graph_ir.corpus import Corpus
from aiop.graph_ir.features import VOCABULARY
from aiop.pretrain.checkpoint import load_checkpoint, save_checkpoint
from aiop.pretrain.config import PretrainConfig
from aiop.pretrain.evaluation import Scores, embed_rows, mean_score, score
from aiop.pretrain.heads import PredictorModule
from aiop.pretrain.losses import ranking_loss, regression_loss
from aiop.pretrain.preparation import balance, choose_device, fit_scalers, fit_statistics
from aiop.pretrain.reporting import RunLog, RunProgress
from aiop.pretrain.sampling import BatchPlan, shares
from aiop.pretrain.targets import LabelScaler, Target

__all__ = ["TrainingResult", "TrainingSet", "learning_rate", "train"]

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"

LOG_EVERY = 20


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The labelled graphs of one corpus.

    Attributes:
        name: of the corpus in the log, in ``sampling_weights`` and in scores.
        corpus: n graphs.
        values: float (n, T), the label of every graph for every task of the run in the task's unit; NaN without.
        train: rows to learn from.
        validation: rows held out.
    """

    name: str
    corpus: Corpus
    values: NDArray[np.float64]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]

    def check(self, tasks: int) -> None:
        """Refuse values of another shape, rows outside the corpus and rows in both parts."""
        n = len(self.corpus)
        if self.values.shape != (n, tasks):
            raise AiopError(
                f"training set {self.name!r}: expected values ({n}, {tasks}), found {self.values.shape}: give one "
                "row per graph and one column per task"
            )
        for part in ("train", "validation"):
            rows = getattr(self, part)
            if len(rows) and not 0 <= rows.min() <= rows.max() < n:
                raise AiopError(
                    f"training set {self.name!r}: {part} rows leave its {n} graphs: split it again"
                )
        if not len(self.train):
            raise AiopError(
                f"training set {self.name!r} has no training rows: split it again or leave it out"
            )
        if np.isinf(self.values).any():
            raise AiopError(f"training set {self.name!r} has infinite labels: remove them from its table")
        both = np.intersect1d(self.train, self.validation)
        if len(both):
            raise AiopError(
                f"training set {self.name!r}: {len(both)} rows, e.g. {self.corpus.names[both[0]]!r}, are in training "
                "and validation: split it again"
            )


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What a run leaves.

    Attributes:
        module: with the averaged weights, in evaluation mode.
        scalers: one per task.
        scores: corpus -> task -> held-out scores of these weights.
        step: the step the weights are of.
        history: the held-out mean SRCC per corpus of every evaluation.
    """

    module: PredictorModule
    scalers: tuple[LabelScaler, ...]
    scores: dict[str, Scores]
    step: int
    history: list[dict[str, Any]]


def train(
    config: PretrainConfig,
    sets: Sequence[TrainingSet],
    targets: Sequence[Target],
    *,
    progress: bool = True,
    on_step: Callable[[int, float], None] | None = None,
) -> TrainingResult:
    """Train one predictor on all sets; continue from ``config.out`` where a checkpoint of the same run lies there.

    Args:
        config: the settings.
        sets: labelled corpora, whose ``values`` have one column per target.
        targets: the tasks, in the order of the columns.
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
    if config.threads:
        torch.set_num_threads(config.threads)
    # The run seeds torch at every step; a caller's random numbers go on as if it had not.
    device = choose_device(config.device)
    with torch.random.fork_rng([torch.cuda.current_device()] if device.type == "cuda" else []):
        run = _Run(config, sets, targets, device)
        run.resume()
        run.loop(progress, on_step)
        return run.result()


def learning_rate(config: PretrainConfig, step: int, steps: int) -> float:
    """Learning rate of step ``step`` of ``steps``, counted from 0."""
    rise = config.warmup * steps
    if step < rise:
        return config.lr * (0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * (step + 1) / (rise + 1))))
    if config.schedule == "constant":
        return config.lr
    place = (step - rise) / max(1.0, steps - rise)
    return config.lr * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * place)))


class _Run:
    """The state of a run. What decides the weights is here, in the settings, and nowhere else."""

    def __init__(
        self,
        config: PretrainConfig,
        sets: Sequence[TrainingSet],
        targets: Sequence[Target],
        device: torch.device,
    ) -> None:
        self.config, self.sets = config, sets
        self.names = [target.name for target in targets]
        self.out = Path(config.out)
        self.device = device
        self.scalers = fit_scalers(config, sets, targets)
        self.scaled = [
            np.stack([scaler.transform(item.values[:, t]) for t, scaler in enumerate(self.scalers)], axis=1)
            for item in sets
        ]
        unknown = set(config.sampling_weights) - {item.name for item in sets}
        if unknown:
            raise AiopError(
                f"sampling_weights names {sorted(unknown)[0]!r}, which is no corpus of the run: remove it"
            )
        sizes = [len(item.train) for item in sets]
        factors = [config.sampling_weights.get(item.name, 1.0) for item in sets]
        self.task_weights = balance(sets).to(self.device) if config.balance == "corpora" else None
        self.shares = shares(sizes, config.sampling_power, factors)
        self.steps = config.steps or max(1, round(config.epochs * sum(sizes) / config.batch_size))
        self.plan = BatchPlan(
            sizes, self.shares, config.batch_size, self.steps, config.seed, single=config.mixing == "single"
        )
        torch.manual_seed(config.seed)
        first = sets[0].corpus[0]
        self.module = PredictorModule(
            config.backbone, len(VOCABULARY), first.node.shape[1], len(first.graph), len(targets)
        )
        fit_statistics(self.module, sets, self.shares, config.seed)
        self.module.backbone.node_noise = config.node_noise
        self.module.backbone.graph_dropout = config.graph_dropout
        self.module.to(self.device).train()
        self.averaged = copy.deepcopy(self.module).eval().requires_grad_(False)
        matrices = [parameter for parameter in self.module.parameters() if parameter.ndim > 1]
        vectors = [parameter for parameter in self.module.parameters() if parameter.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=config.lr,
            fused=True,
        )
        self.step = 0
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"score": None, "step": 0}
        self.best_weights: dict[str, Tensor] = {}

    # -- the loop ------------------------------------------------------------------------------------------------

    def loop(self, progress: bool, on_step: Callable[[int, float], None] | None) -> None:
        config = self.config
        log = RunLog(self.out / LOG, self.step)
        started = saved = time.monotonic()
        before = self.seconds
        with RunProgress(self.steps, self.step, progress) as bar:
            for batch, targets, group in self._batches():
                loss, parts = self._optimise(batch, targets, group)
                self.step += 1
                self.seconds = before + time.monotonic() - started
                last = self.step == self.steps
                bar.step(self.step, loss)
                if self.step % LOG_EVERY == 0 or last:
                    log.write({"step": self.step, "seconds": round(self.seconds, 2), "loss": loss, **parts})
                if last or (config.eval_every and self.step % config.eval_every == 0):
                    bar.scores(self._evaluate(log))
                due = config.checkpoint_every and self.step % config.checkpoint_every == 0
                late = config.checkpoint_seconds and time.monotonic() - saved > config.checkpoint_seconds
                if due or late or last:
                    self.save()
                    saved = time.monotonic()
                if on_step is not None:
                    on_step(self.step, loss)

    def _batches(self) -> Iterator[tuple[GraphBatch, Tensor, Tensor]]:
        """The batches from the current step to the end, each assembled while the one before is trained on."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="aiop-batch") as pool:
            step = self.step
            ahead = pool.submit(self._assemble, step) if step < self.steps else None
            while ahead is not None:
                ready, step = ahead, step + 1
                ahead = pool.submit(self._assemble, step) if step < self.steps else None
                yield ready.result()

    def _assemble(self, step: int) -> tuple[GraphBatch, Tensor, Tensor]:
        graphs, targets, group = [], [], []
        for number, places in enumerate(self.plan.rows(step)):
            rows = self.sets[number].train[places]
            graphs += [self.sets[number].corpus[int(row)] for row in rows]
            targets.append(self.scaled[number][rows])
            group.append(np.full(len(rows), number))
        batch = collate(graphs, engine=self.config.engine).to(self.device).prepare()
        return (
            batch,
            torch.from_numpy(np.concatenate(targets).astype(np.float32)).to(self.device),
            torch.from_numpy(np.concatenate(group)).to(self.device),
        )

    def _optimise(self, batch: GraphBatch, targets: Tensor, group: Tensor) -> tuple[float, dict[str, float]]:
        config = self.config
        # Dropout and noise depend on the step, not on what was drawn before it.
        torch.manual_seed(
            int(np.random.SeedSequence([config.seed, 2, self.step]).generate_state(1, np.uint64)[0])
        )
        rate = learning_rate(config, self.step, self.steps)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        predictions = self.module(batch)
        regression = regression_loss(predictions, targets, config.loss, self.task_weights)
        ranking = regression.new_zeros(())
        if config.ranking_weight:
            ranking = ranking_loss(predictions, targets, group, task_weights=self.task_weights)
        loss = regression + config.ranking_weight * ranking
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.module.parameters(), config.clip)
        value = loss.item()
        if not (math.isfinite(value) and math.isfinite(norm.item())):
            raise AiopError(
                f"the loss is {value} at step {self.step + 1}: lower `lr` or look for labels out of range"
            )
        self.optimizer.step()
        self._average()
        return value, {"regression": regression.item(), "ranking": ranking.item(), "lr": rate}

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
        known = [value for value in means.values() if value is not None]
        overall = float(np.mean(known)) if known else None
        self.history.append({"step": self.step, "srcc": means})
        if overall is not None and (self.best["score"] is None or overall > self.best["score"]):
            self.best = {"score": overall, "step": self.step}
            if self.config.select == "best":
                self.best_weights = {
                    name: tensor.clone() for name, tensor in self.averaged.state_dict().items()
                }
        log.write({"step": self.step, "srcc": means, "scores": scores})
        return means

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
            digest.update(json.dumps([item.name, item.corpus.fingerprint, item.corpus.names]).encode())
            for array in (item.values, item.train, item.validation, item.corpus.graph_features()):
                digest.update(np.ascontiguousarray(array).tobytes())
        return {"settings": self.config.training_hash(), "data": digest.hexdigest()}

    def save(self) -> None:
        tensors = {f"module/{name}": tensor for name, tensor in self.module.state_dict().items()}
        tensors |= {f"averaged/{name}": tensor for name, tensor in self.averaged.state_dict().items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self.best_weights.items()}
        for name, parameter in self.module.named_parameters():
            tensors |= {f"adam/{name}/{key}": value for key, value in self.optimizer.state[parameter].items()}
        state = {"step": self.step, "seconds": self.seconds, "history": self.history, "best": self.best}
        save_checkpoint(self.out / CHECKPOINT, tensors, state | self._identity())

    def resume(self) -> None:
        path = self.out / CHECKPOINT
        if not path.exists():
            return
        tensors, state = load_checkpoint(path)
        for key, value in self._identity().items():
            if state.get(key) != value:
                raise AiopError(
                    f"checkpoint {path} is of a run with other {key}: delete it, or choose another `out` folder"
                )
        self.module.load_state_dict(_under(tensors, "module/"))
        self.averaged.load_state_dict(_under(tensors, "averaged/"))
        self.best_weights = {
            name: tensor.to(self.device) for name, tensor in _under(tensors, "best/").items()
        }
        for name, parameter in self.module.named_parameters():
            moments = _under(tensors, f"adam/{name}/")
            self.optimizer.state[parameter] = {key: value.to(self.device) for key, value in moments.items()}
        self.step, self.seconds = state["step"], state["seconds"]
        self.history, self.best = state["history"], state["best"]


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
