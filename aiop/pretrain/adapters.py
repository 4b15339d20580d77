"""K-adapters: small graph networks that read every layer of a frozen backbone, one per group of tasks.

After AIO-P (Mills et al., AAAI 2023): each adapter layer sees the states of the backbone's layer beside it and those of
the adapter layer before. Nothing of the backbone changes, so adapters are added, left out and trained one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aiop.graph_ir.batch import GraphBatch
from aiop.pretrain.backbone import DirectedLayer, pool
from aiop.pretrain.config import BackboneConfig
from aiop.pretrain.heads import TaskHeads

__all__ = ["Adapter", "AdapterGroup", "GroupAdapter"]


@dataclass(frozen=True, slots=True)
class AdapterGroup:
    """Tasks that share an adapter: ``columns`` are their positions among the predictor's tasks."""

    name: str
    columns: tuple[int, ...]


class Adapter(nn.Module):
    """As many directed layers as the backbone has, on ``h_{i-1} + P_i base_i``; ``h_0`` is 0.

    Args:
        config: of the backbone.
        width: of the adapter's states.
    """

    def __init__(self, config: BackboneConfig, width: int) -> None:
        super().__init__()
        self.width = width
        self.enter = nn.ModuleList(nn.Linear(config.width, width) for _ in range(config.layers))
        self.layers = nn.ModuleList(
            DirectedLayer(width, config.aggregation, config.activation, config.dropout)
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, batch: GraphBatch, states: list[Tensor]) -> Tensor:
        """States of the backbone after each of its layers, (N, backbone width) -> pooled states (B, 3 width).

        The states are those of `Backbone.encode_layers`, standardised node by node.
        """
        h = states[0].new_zeros((batch.num_nodes, self.width))
        for enter, layer, base in zip(self.enter, self.layers, states, strict=True):
            h = layer(batch, h + enter(base))
        return torch.cat(pool(batch, self.norm(h)), dim=1)


class GroupAdapter(nn.Module):
    """An adapter with heads of its own for the tasks of a group, on the backbone's embedding beside its own states.

    Args:
        group: the tasks.
        config: of the backbone.
        width: of the adapter's states.
        graph_features: G.
    """

    def __init__(self, group: AdapterGroup, config: BackboneConfig, width: int, graph_features: int) -> None:
        super().__init__()
        self.group = group
        self.adapter = Adapter(config, width)
        self.heads = TaskHeads(
            len(group.columns), config.embedding + 3 * width, config.head, graph_features, config.dropout
        )

    @property
    def width(self) -> int:
        """Size of the adapter's states."""
        return self.adapter.width

    def forward(
        self, batch: GraphBatch, states: list[Tensor], embedding: Tensor, graph_input: Tensor
    ) -> Tensor:
        """Targets (B, tasks of the group).

        Args:
            batch: B graphs.
            states: of the backbone after each layer, (N, backbone width).
            embedding: (B, D), of the backbone.
            graph_input: (B, G), standardised graph features.
        """
        result: Tensor = self.heads(torch.cat([embedding, self.adapter(batch, states)], dim=1), graph_input)
        return result
