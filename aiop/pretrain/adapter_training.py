"""Training adapters on a frozen, finished backbone: all groups on the same batches, each as if it were alone.

The backbone is in evaluation mode and runs once per batch, without gradients. An adapter sees the graphs of the batch
that have a label of its tasks. Nothing that one adapter draws or learns depends on the others.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from aiop.errors import AiopError
from aiop.graph_ir.batch import GraphBatch
from aiop.graph_ir.checkpoint import resume_checkpoint, save_checkpoint, under
from aiop.pretrain.adapter_batches import AdapterShare, share_batch
from aiop.pretrain.adapter_groups import adapter_groups
from aiop.pretrain.adapters import AdapterGroup, GroupAdapter
from aiop.pretrain.ahead import read_ahead
from aiop.pretrain.config import PretrainConfig
from aiop.pretrain.evaluation import Scores, embed_rows, mean_score, score
from aiop.pretrain.losses import ranking_loss, regression_loss
from aiop.pretrain.module import PredictorModule
from aiop.pretrain.preparation import balance, choose_device, linked
from aiop.pretrain.reporting import RunLog, RunProgress
from aiop.pretrain.sampling import BatchPlan, corpus_shares
from aiop.pretrain.schedule import CheckpointClock, adamw, learning_rate
from aiop.pretrain.sets import TrainingSet
from aiop.pretrain.targets import LabelScaler

__all__ = ["CHECKPOINT", "train_adapters"]

CHECKPOINT = "adapters.safetensors"
LOG = "adapters.jsonl"
LOG_EVERY = 20


def train_adapters(
    config: PretrainConfig,
    module: PredictorModule,
    scalers: Sequence[LabelScaler],
    sets: Sequence[TrainingSet],
    names: Sequence[str],
    *,
    groups: Sequence[AdapterGroup] | None = None,
    progress: bool = True,
    on_step: Callable[[int, float], None] | None = None,
) -> list[dict[str, Any]]:
    """Give a trained module the adapters that ``config.adapters`` asks for, in the place of those it has.

    A run that was interrupted goes on from its checkpoint in ``config.out``. The rest of the module stays as it is.

    Args:
        config: the settings; batches, losses and schedule are those of the run that trained the module.
        module: trained, with T tasks.
        scalers: of the tasks.
        sets: labelled corpora, whose ``values`` have one column per task.
        names: of the tasks.
        groups: one per adapter, in the place of those that the settings ask for; they may share tasks.
        progress: show a progress bar on standard error.
        on_step: called after every step with its number (from 1) and its loss; see `aiop.pretrain.training.train`.

    Returns:
        The records of the evaluations: ``step`` and, by group, the held-out mean SRCC of ``adapters`` and ``backbone``.

    Raises:
        AiopError: for groups that do not fit, a checkpoint of another run, or a loss that is not finite.
    """
    for item in sets:
        item.check(len(names))
    groups = adapter_groups(config.adapters, names, sets) if groups is None else groups
    if config.threads:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    with torch.random.fork_rng([torch.cuda.current_device()] if device.type == "cuda" else []):
        run = _AdapterRun(config, module.to(device), scalers, sets, names, groups)
        run.resume()
        run.loop(progress, on_step)
    module.eval().requires_grad_(False)
    return run.history


class _AdapterRun:
    """The state of a run."""

    def __init__(
        self,
        config: PretrainConfig,
        module: PredictorModule,
        scalers: Sequence[LabelScaler],
        sets: Sequence[TrainingSet],
        names: Sequence[str],
        groups: Sequence[AdapterGroup],
    ) -> None:
        columns = [column for group in groups for column in group.columns]
        # A corpus without a task in a group has nothing to teach.
        kept = [item for item in sets if np.isfinite(item.values[item.train][:, columns]).any()]
        self.config, self.sets, self.scalers, self.names = config, kept, scalers, names
        self.groups = groups
        self.device = next(module.parameters()).device
        self.out = Path(config.out)
        self.steps = config.adapters.steps
        self.targets = linked(scalers, kept, module.costs)
        sizes = [len(item.train) for item in kept]
        self.plan = BatchPlan(
            sizes,
            corpus_shares(config, kept),
            config.batch_size,
            self.steps,
            config.seed,
            single=config.mixing == "single",
        )
        module.eval().requires_grad_(False)
        module.adapters = torch.nn.ModuleList()
        self.frozen = _digest(module)
        # Two copies: one that is trained, and the average of its weights, which the module keeps.
        graph_features = len(module.backbone.standardise_graph.mean)
        for group in groups:
            torch.manual_seed(self._seed(group, 0))
            adapter = GroupAdapter(group, module.config, config.adapters.width, graph_features)
            module.adapters.append(adapter.to(self.device))
        self.module = module
        self.adapters = [cast(GroupAdapter, copy.deepcopy(adapter)).train() for adapter in module.adapters]
        module.adapters.eval().requires_grad_(False)
        self.trained = [dict(adapter.requires_grad_(True).named_parameters()) for adapter in self.adapters]
        every = [parameter for parameters in self.trained for parameter in parameters.values()]
        self.optimizer = adamw(every, config.adapters.lr, config.weight_decay)
        weights = None
        if config.balance != "labels":
            weights = balance(kept, names, config.balance, config.balance_power).to(self.device)
        self.weights = [None if weights is None else weights[list(group.columns)] for group in groups]
        self.step = 0
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []

    def _seed(self, group: AdapterGroup, step: int) -> int:
        mark = int.from_bytes(hashlib.sha256(group.name.encode()).digest()[:8], "big")
        sequence = np.random.SeedSequence([self.config.seed, 6, mark, step])
        return int(sequence.generate_state(1, np.uint64)[0])

    # -- the loop ------------------------------------------------------------------------------------------------

    def loop(self, progress: bool, on_step: Callable[[int, float], None] | None) -> None:
        config = self.config
        log = RunLog(self.out / LOG, self.step)
        started, clock = time.monotonic(), CheckpointClock(config)
        before = self.seconds
        with RunProgress(self.steps, self.step, progress, "adapters") as bar:
            for whole, parts in read_ahead(self._assemble, self.step, self.steps):
                losses = self._optimise(whole, parts)
                self.step += 1
                self.seconds = before + time.monotonic() - started
                last = self.step == self.steps
                loss = sum(losses.values()) / max(1, len(losses))
                bar.step(self.step, loss)
                if self.step % LOG_EVERY == 0 or last:
                    log.write({"step": self.step, "seconds": round(self.seconds, 2), "loss": losses})
                if last or (config.eval_every and self.step % config.eval_every == 0):
                    record = self._evaluate()
                    log.write(record)
                    bar.scores(record["adapters"])
                if clock.due(self.step, last):
                    self.save()
                    clock.saved()
                if on_step is not None:
                    on_step(self.step, loss)

    def _assemble(self, step: int) -> tuple[GraphBatch, list[AdapterShare | None]]:
        graphs, targets, corpus = [], [], []
        for number, places in enumerate(self.plan.rows(step)):
            rows = self.sets[number].train[places]
            graphs += [self.sets[number].corpus[int(row)] for row in rows]
            targets.append(self.targets[number][rows])
            corpus.append(np.full(len(rows), number))
        return share_batch(
            graphs,
            torch.from_numpy(np.concatenate(targets)).float(),
            torch.from_numpy(np.concatenate(corpus)),
            self.groups,
            self.device,
            self.config.engine,
        )

    def _optimise(self, whole: GraphBatch, parts: Sequence[AdapterShare | None]) -> dict[str, float]:
        config = self.config
        settings = dataclasses.replace(config, lr=config.adapters.lr)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = learning_rate(settings, self.step, self.steps)
        with torch.no_grad():
            graph_input = self.module.backbone.graph_input(whole)
            embedding, _, states = self.module.backbone.encode_layers(whole, graph_input)
        self.optimizer.zero_grad(set_to_none=True)
        losses: dict[str, float] = {}
        for number, (group, part) in enumerate(zip(self.groups, parts, strict=True)):
            if part is None:
                continue
            torch.manual_seed(self._seed(group, self.step + 1))
            guess = self.adapters[number](
                part.batch, part.pick(states), embedding[part.graphs], graph_input[part.graphs]
            )
            weights = self.weights[number]
            loss = regression_loss(guess, part.targets, config.loss, weights)
            if config.ranking_weight:
                ranking = ranking_loss(guess, part.targets, part.corpus, task_weights=weights)
                loss = loss + config.ranking_weight * ranking
            loss.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(self.trained[number].values(), config.clip)
            losses[group.name] = loss.item()
            if not (math.isfinite(losses[group.name]) and math.isfinite(norm.item())):
                raise AiopError(
                    f"the loss of adapter {group.name!r} is {losses[group.name]} at step {self.step + 1}: "
                    "lower `lr` of `adapters` or look for labels out of range"
                )
        self.optimizer.step()
        self._average()
        return losses

    @torch.no_grad()
    def _average(self) -> None:
        # As in the run below; its memory may be long for a shorter one: at most a tenth of the steps.
        longest = max(0.0, 1 - 10 / self.steps)
        decay = min(self.config.ema, longest, (1 + self.step) / (10 + self.step)) if self.config.ema else 0.0
        for kept, adapter in zip(self.module.adapters, self.adapters, strict=True):
            for average, parameter in zip(kept.parameters(), adapter.parameters(), strict=True):
                average.lerp_(parameter, 1 - decay)

    def _evaluate(self) -> dict[str, Any]:
        """The mean SRCC of every group on held-out rows: of its adapter, and of the backbone's own heads."""
        found: dict[str, dict[str, list[Scores]]] = {"adapters": {}, "backbone": {}}
        for item in self.sets:
            _, outputs = embed_rows(
                self.module, item.corpus, item.validation, engine=self.config.engine, adapted=True
            )
            scaled, adapted = np.split(outputs, [len(self.names)], axis=1)
            start = 0
            for group in self.groups:
                columns, stop = list(group.columns), start + len(group.columns)
                for kind, values in (("adapters", adapted[:, start:stop]), ("backbone", scaled[:, columns])):
                    scores = score(
                        values,
                        item.values[item.validation][:, columns],
                        [self.scalers[column] for column in columns],
                        [self.names[column] for column in columns],
                    )
                    found[kind].setdefault(group.name, []).append(scores)
                start = stop
        record: dict[str, Any] = {"step": self.step}
        for kind, groups in found.items():
            joined = {
                name: {task: s for part in parts for task, s in part.items()}
                for name, parts in groups.items()
            }
            record[kind] = {name: mean_score(scores) for name, scores in joined.items()}
        self.history.append(record)
        return record

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def _identity(self) -> dict[str, str]:
        digest = hashlib.sha256()
        digest.update(json.dumps([list(self.names), [s.to_dict() for s in self.scalers]]).encode())
        for item in self.sets:
            item.enter(digest)
        settings = [
            self.config.training_hash(),
            dataclasses.asdict(self.config.adapters),
            [[group.name, group.columns] for group in self.groups],
        ]
        return {
            "settings": hashlib.sha256(
                json.dumps(settings, sort_keys=True, default=dict).encode()
            ).hexdigest(),
            "backbone": self.frozen,
            "data": digest.hexdigest(),
        }

    def save(self) -> None:
        tensors = {f"averaged/{name}": tensor for name, tensor in self.module.adapters.state_dict().items()}
        for number, (adapter, trained) in enumerate(zip(self.adapters, self.trained, strict=True)):
            tensors |= {f"adapters/{number}/{name}": t for name, t in adapter.state_dict().items()}
            for name, parameter in trained.items():
                state = self.optimizer.state.get(parameter, {})
                tensors |= {f"adam/{number}/{name}/{key}": value for key, value in state.items()}
        place = {"step": self.step, "seconds": self.seconds, "history": self.history}
        save_checkpoint(self.out / CHECKPOINT, tensors, place | self._identity())

    def resume(self) -> None:
        found = resume_checkpoint(
            self.out / CHECKPOINT,
            self._identity,
            "of adapters with other {key}: delete it to train them anew",
        )
        if found is None:
            return
        tensors, state = found
        self.module.adapters.load_state_dict(under(tensors, "averaged/"))
        for number, (adapter, trained) in enumerate(zip(self.adapters, self.trained, strict=True)):
            adapter.load_state_dict(under(tensors, f"adapters/{number}/"))
            for name, parameter in trained.items():
                moments = under(tensors, f"adam/{number}/{name}/")
                if moments:  # an adapter whose tasks have not come yet has none
                    self.optimizer.state[parameter] = {
                        key: value.to(self.device) for key, value in moments.items()
                    }
        self.step, self.seconds, self.history = state["step"], state["seconds"], state["history"]


def _digest(module: PredictorModule) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
