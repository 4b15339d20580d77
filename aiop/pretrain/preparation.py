"""What a run fixes before its first step: device, label scalers, weights of tasks, statistics of features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aiop.errors import AiopError
from aiop.pretrain.config import PretrainConfig
from aiop.pretrain.heads import PredictorModule
from aiop.pretrain.targets import LabelScaler, Target

if TYPE_CHECKING:
    from aiop.pretrain.training import TrainingSet

__all__ = ["balance", "choose_device", "fit_scalers", "fit_statistics"]

# Enough graphs for the statistics of the features.
STATISTICS_GRAPHS = 1000


def balance(sets: Sequence[TrainingSet]) -> Tensor:
    """Weights of the tasks, (T,): the same for every corpus in all, shared evenly among the tasks it has labels of."""
    labelled = np.stack([np.isfinite(item.values[item.train]).any(axis=0) for item in sets]).astype(
        np.float32
    )
    weights = labelled / np.maximum(labelled.sum(axis=1, keepdims=True), 1)
    return torch.from_numpy(weights.sum(axis=0))


def choose_device(wanted: str) -> torch.device:
    """Return the device that a setting names; ``cuda`` where there is none is an `AiopError`."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise AiopError("device 'cuda' is not available here: use device 'cpu' or 'auto'")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def fit_scalers(
    config: PretrainConfig, sets: Sequence[TrainingSet], targets: Sequence[Target]
) -> tuple[LabelScaler, ...]:
    """Return one scaler per task, fitted to the training labels of all corpora together."""
    labels = np.concatenate([item.values[item.train] for item in sets])
    return tuple(
        LabelScaler.fit(labels[:, column], target.scaling or config.scaling, target.transform, target.name)
        for column, target in enumerate(targets)
    )


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
