"""What a run fixes before its first step: device, label scalers, weights of tasks, statistics of features."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aiop.errors import AiopError
from aiop.pretrain.config import PretrainConfig
from aiop.pretrain.cost_link import LOG_MACS, CostLink, uses_costs
from aiop.pretrain.module import PredictorModule
from aiop.pretrain.targets import LabelScaler, Target

if TYPE_CHECKING:
    from aiop.pretrain.sets import TrainingSet

__all__ = ["balance", "choose_device", "descriptions", "fit_scalers", "fit_statistics", "linked", "scale"]

# Enough graphs for the statistics of the features.
STATISTICS_GRAPHS = 1000


def balance(
    sets: Sequence[TrainingSet], names: Sequence[str], kind: str = "corpora", power: float = 0.0
) -> Tensor:
    """Weights of the tasks ``names`` in the loss, (T,): shares of the corpora, divided among their tasks.

    Args:
        sets: the corpora.
        names: of the tasks; the domain is what stands before the first slash.
        kind: ``corpora`` divides a corpus's share among its tasks, ``domains`` first evenly among their domains.
        power: corpora share as their training graphs ** power, tasks as their training labels ** power.
    """
    domains = [name.partition("/")[0] if kind == "domains" else "" for name in names]
    same = np.array([[one == other for other in domains] for one in domains], np.float64)
    labels = np.stack([np.isfinite(item.values[item.train]).sum(axis=0) for item in sets])
    tasks = np.where(labels > 0, np.maximum(labels, 1.0) ** power, 0.0)
    within = tasks / np.maximum(tasks @ same, 1e-12)
    within /= np.maximum(within.sum(axis=1, keepdims=True), 1e-12)
    corpora = np.array([len(item.train) for item in sets], np.float64) ** power
    return torch.from_numpy((corpora / corpora.mean()) @ within).float()


def choose_device(wanted: str) -> torch.device:
    """Return the device that a setting names; ``cuda`` where there is none is an `AiopError`."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise AiopError("device 'cuda' is not available here: use device 'cpu' or 'auto'")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def descriptions(config: PretrainConfig, targets: Sequence[Target]) -> Tensor | None:
    """Return the descriptions of the tasks, (T, D), or None where heads know tasks by their index."""
    if config.heads == "index":
        return None
    for target in targets:
        if not target.description:
            raise AiopError(
                f"task {target.name!r} has no description: give one, or train with `heads: index`"
            )
    return torch.tensor([target.description for target in targets], dtype=torch.float32)


def fit_scalers(
    config: PretrainConfig, sets: Sequence[TrainingSet], targets: Sequence[Target]
) -> tuple[LabelScaler, ...]:
    """Return one scaler per task, fitted to the training labels of all corpora together."""
    labels = np.concatenate([item.values[item.train] for item in sets])
    return tuple(
        LabelScaler.fit(labels[:, column], target.scaling or config.scaling, target.transform, target.name)
        for column, target in enumerate(targets)
    )


def scale(
    scalers: Sequence[LabelScaler], sets: Sequence[TrainingSet]
) -> tuple[list[NDArray[np.float64]], CostLink | None]:
    """Return the targets of every set, (n, T), and the link to costs that they take, fitted to training rows."""
    scaled = _scaled(scalers, sets)
    if not uses_costs(scalers):
        return scaled, None
    sizes = [_log_macs(item) for item in sets]
    link = CostLink.fit(
        scalers,
        np.concatenate([labels[item.train] for labels, item in zip(scaled, sets, strict=True)]),
        np.concatenate([size[item.train] for size, item in zip(sizes, sets, strict=True)]),
    )
    return [link.targets(labels, size) for labels, size in zip(scaled, sizes, strict=True)], link


def linked(
    scalers: Sequence[LabelScaler], sets: Sequence[TrainingSet], link: CostLink | None
) -> list[NDArray[np.float64]]:
    """Return the targets of every set, (n, T), for the link to costs of a trained network."""
    scaled = _scaled(scalers, sets)
    if link is None:
        return scaled
    given = copy.deepcopy(link).cpu()
    return [given.targets(labels, _log_macs(item)) for labels, item in zip(scaled, sets, strict=True)]


def _scaled(scalers: Sequence[LabelScaler], sets: Sequence[TrainingSet]) -> list[NDArray[np.float64]]:
    return [
        np.stack([scaler.transform(item.values[:, t]) for t, scaler in enumerate(scalers)], axis=1)
        for item in sets
    ]


def _log_macs(item: TrainingSet) -> NDArray[np.float64]:
    return np.asarray(item.corpus.graph_features()[:, LOG_MACS], np.float64)


def fit_statistics(
    module: PredictorModule, sets: Sequence[TrainingSet], weights: NDArray[np.float64], seed: int
) -> None:
    """Mean and deviation of node and graph features over the training rows, every corpus with its share."""
    node_moments: list[NDArray[np.float64]] = []
    graph_moments: list[NDArray[np.float64]] = []
    for number, item in enumerate(sets):
        count = min(STATISTICS_GRAPHS, len(item.train))
        rows = np.random.default_rng([seed, 3, number]).choice(item.train, count, replace=False)
        nodes = np.concatenate([item.corpus[int(row)].node for row in rows]).astype(np.float64)
        graphs = item.corpus.graph_features()[item.train].astype(np.float64)
        for values, moments in ((nodes, node_moments), (graphs, graph_moments)):
            if not np.isfinite(values).all():
                raise AiopError(
                    f"training set {item.name!r} has features that are not finite: build its corpus again"
                )
            moments.append(np.stack([values.mean(axis=0), (values**2).mean(axis=0)]))
    for standardise, moments in (
        (module.backbone.standardise_node, node_moments),
        (module.backbone.standardise_graph, graph_moments),
    ):
        mean, square = np.tensordot(weights, np.stack(moments), axes=1)
        deviation = np.sqrt(np.maximum(square - mean**2, 0.0))
        standardise.fit(torch.from_numpy(mean).float(), torch.from_numpy(deviation).float())
