"""Targets that need no label: heads beside the tasks' own, dropped after training.

They keep the states of nodes from forgetting what is in a graph when labels alone, of few search spaces, would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from aiop.graph_ir.batch import GraphBatch
from aiop.graph_ir.features import COSTS, GRAPH_FEATURES
from aiop.pretrain.path_statistics import PATH_STATISTICS, path_statistics

if TYPE_CHECKING:
    from aiop.pretrain.sets import TrainingSet

__all__ = ["MASKED", "PathTargets", "Pretext"]

MASKED = 0.15
"""Share of the nodes whose operator and features are hidden where masked operators are to be told."""

_COSTS = [
    place
    for place, name in enumerate(GRAPH_FEATURES)
    if place < COSTS.stop or name.endswith(("_macs", "_params"))
]


class PathTargets:
    """Standardised `path_statistics` of the training graphs of a run, walked through once."""

    def __init__(self, sets: Sequence[TrainingSet]) -> None:
        found = [np.stack([path_statistics(item.corpus[int(row)]) for row in item.train]) for item in sets]
        together = np.concatenate(found)
        deviation = np.maximum(together.std(axis=0), 1e-6)
        self._values = [(values - together.mean(axis=0)) / deviation for values in found]

    def rows(self, number: int, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Targets (n, 5) of places in the training rows of set ``number``."""
        return np.asarray(self._values[number][places], np.float32)


class Pretext(nn.Module):
    """Label-free losses, each with its weight.

    ``costs``: the whole graph's costs and those per resolution, from the states of its nodes alone. ``paths``: its
    `PATH_STATISTICS`, from the same. ``masked_operators``: the operators of hidden nodes, from their own states.

    Args:
        weights: name -> weight above 0.
        width: size of a node state.
        num_ops: size of the operator vocabulary.
    """

    def __init__(self, weights: Mapping[str, float], width: int, num_ops: int) -> None:
        super().__init__()
        self.weights = dict(weights)
        self.sizes = {
            "costs": len(_COSTS) if "costs" in weights else 0,
            "paths": len(PATH_STATISTICS) if "paths" in weights else 0,
        }
        total = sum(self.sizes.values())
        self.whole = (
            nn.Sequential(nn.Linear(3 * width, width), nn.SiLU(), nn.Linear(width, total)) if total else None
        )
        masks = "masked_operators" in weights
        self.mask = nn.Parameter(torch.randn(width) * 0.1) if masks else None
        self.operators = nn.Linear(width, num_ops) if masks else None

    def hidden(self, batch: GraphBatch) -> tuple[Tensor, Tensor] | None:
        """Draw the nodes to hide: a boolean (N,), and the state (width,) they get; None where none is to be."""
        if self.mask is None:
            return None
        return torch.rand(batch.num_nodes, device=batch.op.device) < MASKED, self.mask

    def forward(
        self,
        batch: GraphBatch,
        states: Tensor,
        pooled: Tensor,
        graph_input: Tensor,
        hidden: Tensor | None,
        paths: Tensor | None,
    ) -> dict[str, Tensor]:
        """Return the losses by name, not yet weighted.

        Args:
            batch: B graphs of N nodes.
            states: (N, width), after message passing.
            pooled: (B, 3 width), of the nodes alone.
            graph_input: (B, G), standardised.
            hidden: (N,), as drawn.
            paths: (B, 5), standardised.
        """
        losses: dict[str, Tensor] = {}
        if self.whole is not None:
            costs, ways = self.whole(pooled).split(list(self.sizes.values()), dim=1)
            if self.sizes["costs"]:
                losses["costs"] = functional.smooth_l1_loss(costs, graph_input[:, _COSTS])
            if self.sizes["paths"] and paths is not None:
                losses["paths"] = functional.smooth_l1_loss(ways, paths)
        if self.operators is not None and hidden is not None:
            logits = self.operators(states[hidden])
            # The sum over none is 0, the mean would not be a number.
            total = functional.cross_entropy(logits, batch.op[hidden], reduction="sum")
            losses["masked_operators"] = total / max(1, len(logits))
        return losses
