"""AIO-P on a task with a few labels: mean and deviation from them, and where asked for the published fine-tuning."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from aiop.errors import AiopError, suggest
from aiop.finetune.baselines.aio_p.graphs import PublishedGraph
from aiop.finetune.baselines.aio_p.labels import LabelScaling, Scaling
from aiop.finetune.baselines.aio_p.network import AioPNetwork, collate
from aiop.finetune.baselines.aio_p.pretrained import AioP, load_aio_p
from aiop.finetune.baselines.aio_p.store import GraphStore, in_form
from aiop.finetune.baselines.aio_p.training import outputs, steps
from aiop.finetune.baselines.base import checked_labels
from aiop.finetune.views import Views

__all__ = ["FewShotAioP", "TunedAioP", "Tuning"]

Array = npt.NDArray[Any]
Tuning = Literal["none", "heads", "heads+base", "all", "heads+adapters"]

_RATE = 1e-4


class FewShotAioP:
    """AIO-P as published, without fine-tuning: labels give the mean and deviation that outputs are brought to.

    Outputs of several adapters are combined by their plain mean. Where labels are constant, so are predictions under
    ``stand`` and nearly so under ``stand_flops``.

    Args:
        pretrained: a trained predictor, or the file it is in.
        store: graphs of the networks that will be asked for; others are read by name.
        form: form of the space that the task was measured in, put into names that have none.
        scaling: ``stand_flops`` or ``stand``.
        tuning: which parameters the labels train: none; the heads of the adapters; heads and the backbone's layers;
            these and the adapters' layers (``all``); heads and adapters. A predictor without adapters trains its
            regressor for ``heads`` and everything for ``all``.
        epochs: of fine-tuning, with batches of one, Adam at 1e-4.
        seed: of the order in fine-tuning.

    Raises:
        AiopError: for an unknown tuning.
    """

    name = "aio-p"
    ranks_only = False
    least_labels = 2

    def __init__(
        self,
        *,
        pretrained: AioP | str | Path | None = None,
        store: GraphStore | None = None,
        form: str = "",
        scaling: Scaling = "stand_flops",
        tuning: Tuning = "none",
        epochs: int = 100,
        seed: int = 0,
    ) -> None:
        if tuning not in get_args(Tuning):
            raise AiopError(
                f'tuning "{tuning}" is unknown{suggest(tuning, get_args(Tuning))}: use "heads+base"'
            )
        self.pretrained = load_aio_p(pretrained) if isinstance(pretrained, str | Path) else pretrained
        self.store = GraphStore() if store is None else store
        self.form, self.scaling, self.tuning, self.epochs, self.seed = form, scaling, tuning, epochs, seed
        self._constant: float | None = None

    def fit(self, views: Views, values: Array) -> Self:
        """See `aiop.finetune.baselines.Baseline`."""
        labels = checked_labels(self.name, views, values, self.least_labels)
        if self.pretrained is None:
            raise AiopError(
                f'baseline "{self.name}" has no trained predictor: make it with pretrained=, see '
                "aiop.finetune.baselines.aio_p.train_base"
            )
        graphs = self._graphs(views.names)
        gflops = np.array([graph.gflops for graph in graphs])
        self._constant = float(labels[0]) if np.ptp(labels) == 0 else None
        self._scaling = LabelScaling.fit(self.scaling, labels, gflops)
        self._network = self.pretrained.network
        if self.tuning != "none" and self._constant is None:
            self._network = copy.deepcopy(self.pretrained.network)
            self._tune(graphs, self._scaling.scale(labels, gflops))
        return self

    def predict(self, views: Views) -> Array:
        """See `aiop.finetune.baselines.Baseline`."""
        if not len(views):
            return np.empty(0)
        if self._constant is not None:
            return np.full(len(views), self._constant)
        graphs = self._graphs(views.names)
        gflops = np.array([graph.gflops for graph in graphs])
        tuned = self.pretrained is None or self._network is not self.pretrained.network
        raw = outputs(self._network, graphs) if tuned else self._known(views.names, graphs)
        return self._scaling.unscale(raw.mean(axis=1), gflops)

    def _known(self, names: Sequence[str], graphs: list[PublishedGraph]) -> Array:
        """Return outputs of the networks as they were trained; each graph is looked at once."""
        assert self.pretrained is not None
        known = self.pretrained.known.setdefault(self.store, {})
        keys = [in_form(name, self.form) for name in names]
        new = {key: graph for key, graph in zip(keys, graphs, strict=True) if key not in known}
        if new:
            known |= dict(zip(new, outputs(self.pretrained.network, list(new.values())), strict=True))
        return np.stack([known[key] for key in keys])

    def _graphs(self, names: Sequence[str]) -> list[PublishedGraph]:
        return self.store.graphs([in_form(name, self.form) for name in names])

    def _tune(self, graphs: list[PublishedGraph], targets: Array) -> None:
        network = self._network
        parameters = _trained(network, self.tuning)
        network.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        optimizer = torch.optim.Adam(parameters, _RATE)
        batches = [
            (collate([graph]), torch.tensor([target], dtype=torch.float32))
            for graph, target in zip(graphs, targets, strict=True)
        ]
        rng = np.random.default_rng(self.seed)
        for _ in range(self.epochs):
            steps(parameters, lambda batch: network(batch).mean(dim=1), batches, optimizer, rng)


class TunedAioP(FewShotAioP):
    """AIO-P as published with its usual fine-tuning: heads of the adapters and layers of the backbone."""

    name = "aio-p-tuned"

    def __init__(self, *, tuning: Tuning = "heads+base", **options: Any) -> None:
        super().__init__(tuning=tuning, **options)


def _trained(network: AioPNetwork, tuning: Tuning) -> list[nn.Parameter]:
    """Return the parameters that a way of fine-tuning trains; the node embedding stays where there are adapters."""
    if not network.adapters:
        return list(network.head.parameters() if tuning == "heads" else network.parameters())
    modules: list[nn.Module] = [adapter.get_submodule("head") for adapter in network.adapters]
    if tuning in ("heads+base", "all"):
        modules.append(network.layers)
    if tuning in ("heads+adapters", "all"):
        modules += [adapter.get_submodule("layers") for adapter in network.adapters]
    return [parameter for module in modules for parameter in module.parameters()]
