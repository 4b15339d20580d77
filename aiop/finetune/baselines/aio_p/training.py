"""Training AIO-P's networks: a base on one task, then one adapter per further task on the frozen base.

Adam at 1e-4, batches of 32, 40 epochs, mean squared error on scaled labels, gradients clipped to the norm 5. As
published, batches hold graphs of one size and are put together once; their order is drawn anew every epoch.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from aiop.errors import AiopError
from aiop.finetune.baselines.aio_p.graphs import WEIGHTED_INDICES, PublishedGraph
from aiop.finetune.baselines.aio_p.labels import LabelScaling, Scaling
from aiop.finetune.baselines.aio_p.network import Adapter, AioPNetwork, PublishedBatch, collate
from aiop.finetune.baselines.aio_p.pretrained import AioP
from aiop.graph_ir.checkpoint import load_checkpoint, save_checkpoint
from aiop.pretrain.reporting import RunProgress

__all__ = ["Settings", "outputs", "steps", "train_adapter", "train_base"]

Array = npt.NDArray[Any]

CLIP = 5.0
_CHUNK = 128


@dataclass(frozen=True)
class Settings:
    """The published settings; ``dev_share`` of the networks choose the epoch (theirs: 0.1, for adapters 0.05)."""

    scaling: Scaling = "stand_flops"
    epochs: int = 40
    batch: int = 32
    rate: float = 1e-4
    dev_share: float = 0.1
    seed: int = 0


def train_base(
    graphs: Sequence[PublishedGraph],
    values: Array,
    task: str,
    settings: Settings | None = None,
    *,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> AioP:
    """Train embedding, backbone and regressor on n networks with values ``(n,)`` and return them.

    Args:
        graphs: n of them.
        values: of the networks; nan leaves one out.
        task: what was measured, for the record.
        settings: the published ones by default.
        checkpoint: a file that is replaced after every epoch; a run of the same data and settings goes on from it.
        progress: show a bar.

    Raises:
        AiopError: for fewer than 10 values, values of another number than the graphs, and a checkpoint of another run.
    """
    settings = settings or Settings()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = AioPNetwork()
    run = _Run(network, list(network.parameters()), network.base, settings, checkpoint, progress)
    run.fit(graphs, values, task)
    return AioP(network, task, (), {"base": asdict(settings)})


def train_adapter(
    base: AioP,
    graphs: Sequence[PublishedGraph],
    values: Array,
    task: str,
    settings: Settings | None = None,
    *,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> AioP:
    """Return ``base`` with one more adapter, trained on another task while everything else stays as it is.

    Arguments and errors are those of `train_base`; the labels have a scaler of their own.
    """
    settings = settings or Settings(dev_share=0.05)
    network = copy.deepcopy(base.network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed + 1 + len(base.adapters))
        adapter = Adapter()
    network.requires_grad_(False)

    def forward(batch: PublishedBatch) -> Tensor:
        with torch.no_grad():
            states = network.states(batch)
        found: Tensor = adapter(states, batch)
        return found

    run = _Run(adapter, list(adapter.parameters()), forward, settings, checkpoint, progress)
    run.fit(graphs, values, task)
    network.adapters.append(adapter)
    settings_of = base.settings | {task: asdict(settings)}
    return AioP(network, base.task, (*base.adapters, task), settings_of)


def outputs(forward: Callable[[PublishedBatch], Tensor], graphs: Sequence[PublishedGraph]) -> Array:
    """Return what a network gives for graphs, in pieces, as float64."""
    with torch.inference_mode():
        found = [
            forward(collate(list(graphs[start : start + _CHUNK]))).double().numpy()
            for start in range(0, len(graphs), _CHUNK)
        ]
    return np.concatenate(found)


def steps(
    parameters: list[nn.Parameter],
    forward: Callable[[PublishedBatch], Tensor],
    batches: Sequence[tuple[PublishedBatch, Tensor]],
    optimizer: torch.optim.Optimizer,
    rng: np.random.Generator,
) -> float:
    """Go through the batches once, in drawn order; return the mean squared error on the way."""
    total, count = 0.0, 0
    for place in rng.permutation(len(batches)):
        batch, target = batches[place]
        loss = functional.mse_loss(forward(batch), target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        total += loss.item() * len(target)
        count += len(target)
    return total / max(1, count)


def _by_size(graphs: Sequence[PublishedGraph], order: Array, size: int) -> list[Array]:
    """Return positions of graphs in batches of equally many nodes and weighted nodes, in the order given."""
    bins: dict[tuple[int, int], list[int]] = {}
    for place in map(int, order):
        nodes = graphs[place].nodes
        key = (len(nodes), int(np.isin(nodes[:, 0], WEIGHTED_INDICES).sum()))
        bins.setdefault(key, []).append(place)
    return [
        np.array(found[start : start + size])
        for found in bins.values()
        for start in range(0, len(found), size)
    ]


class _Run:
    """Epochs of one module; the state that was best on the networks set aside is what remains."""

    def __init__(
        self,
        module: nn.Module,
        parameters: list[nn.Parameter],
        forward: Callable[[PublishedBatch], Tensor],
        settings: Settings,
        checkpoint: Path | None,
        progress: bool,
    ) -> None:
        self.module, self.parameters, self.forward = module, parameters, forward
        self.settings, self.checkpoint, self.progress = settings, checkpoint, progress
        self.optimizer = torch.optim.Adam(parameters, settings.rate)
        self.best: dict[str, Tensor] = {}
        self.error = float("inf")

    def fit(self, graphs: Sequence[PublishedGraph], values: Array, task: str) -> None:
        numbers = np.asarray(values, np.float64)
        if numbers.shape != (len(graphs),):
            raise AiopError(
                f'task "{task}" has labels of shape {numbers.shape} for {len(graphs)} networks: give one each'
            )
        known = np.flatnonzero(np.isfinite(numbers))
        if len(known) < 10:
            raise AiopError(f'task "{task}" has {len(known)} labels, AIO-P needs at least 10: give more')
        graphs, numbers = [graphs[int(place)] for place in known], numbers[known]
        gflops = np.array([graph.gflops for graph in graphs])
        key = _key(graphs, numbers, task, self.settings, self.module)
        order = np.random.default_rng([self.settings.seed, 0]).permutation(len(graphs))
        aside = max(1, int(self.settings.dev_share * len(graphs)))
        dev, train = order[:aside], order[aside:]
        scaling = LabelScaling.fit(self.settings.scaling, numbers[train], gflops[train])
        targets = torch.from_numpy(scaling.scale(numbers, gflops).astype(np.float32))
        batches = [
            (collate([graphs[int(place)] for place in places]), targets[places])
            for places in _by_size(graphs, train, self.settings.batch)
        ]
        dev_graphs = [graphs[int(place)] for place in dev]
        done = self._resume(key)
        with RunProgress(self.settings.epochs, done, self.progress) as bar:
            for epoch in range(done, self.settings.epochs):
                rng = np.random.default_rng([self.settings.seed, 1 + epoch])
                loss = steps(self.parameters, self.forward, batches, self.optimizer, rng)
                guess = scaling.unscale(outputs(self.forward, dev_graphs), gflops[dev])
                error = float(np.abs(guess - numbers[dev]).mean())
                if error < self.error:
                    self.error = error
                    self.best = {name: tensor.clone() for name, tensor in self.module.state_dict().items()}
                bar.step(epoch + 1, loss)
                self._save(key, epoch + 1)
        if self.best:
            self.module.load_state_dict(self.best)

    def _save(self, key: str, epoch: int) -> None:
        if self.checkpoint is None:
            return
        tensors = {f"now/{name}": tensor for name, tensor in self.module.state_dict().items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam/{index}/{name}": tensor for name, tensor in state.items()}
        save_checkpoint(self.checkpoint, tensors, {"key": key, "epoch": epoch, "error": self.error})

    def _resume(self, key: str) -> int:
        """Take up the checkpoint where there is one; return the epochs done."""
        if self.checkpoint is None or not self.checkpoint.is_file():
            return 0
        tensors, state = load_checkpoint(self.checkpoint)
        if state.get("key") != key:
            raise AiopError(
                f"checkpoint {self.checkpoint} is of a run with other data or settings: delete it or name another file"
            )
        parts: dict[str, dict[str, Tensor]] = {"now": {}, "best": {}, "adam": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor
        self.module.load_state_dict(parts["now"])
        self.best, self.error = parts["best"], float(state["error"])
        adam = self.optimizer.state_dict()
        for name, tensor in parts["adam"].items():
            index, _, field = name.partition("/")
            adam["state"].setdefault(int(index), {})[field] = tensor
        self.optimizer.load_state_dict(adam)
        return int(state["epoch"])


def _key(
    graphs: Sequence[PublishedGraph], values: Array, task: str, settings: Settings, module: nn.Module
) -> str:
    """Return a hash of what a run depends on; the number of epochs may be raised."""
    what = asdict(settings) | {"epochs": 0, "task": task, "module": type(module).__name__}
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(values).tobytes())
    for graph in graphs:
        digest.update(graph.nodes.tobytes())
        digest.update(np.ascontiguousarray(graph.edges).tobytes())
    return digest.hexdigest()
