"""Tasks that a finished predictor learns later: adapters on its frozen backbone, with outputs of their own.

After the knowledge infusion of AIO-P (Mills et al., AAAI 2023). What the predictor knew stays as it is, to the bit.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from aiop.graph_ir.batch import GraphBatch
from aiop.pretrain.adapters import AdapterGroup, GroupAdapter
from aiop.pretrain.config import BackboneConfig

__all__ = ["InfusedTasks"]


class InfusedTasks(nn.Module):
    """The tasks of one infusion: several adapters that were trained apart, read as one.

    Args:
        group: the tasks, by their positions among all of the predictor's.
        config: of the backbone.
        width: of each adapter's states.
        count: of adapters.
        graph_features: G.
    """

    def __init__(
        self, group: AdapterGroup, config: BackboneConfig, width: int, count: int, graph_features: int
    ) -> None:
        super().__init__()
        self.group = group
        self.adapters = nn.ModuleList(
            GroupAdapter(group, config, width, graph_features) for _ in range(count)
        )

    @property
    def width(self) -> int:
        """Size of an adapter's states."""
        return cast(GroupAdapter, self.adapters[0]).width

    def forward(
        self, batch: GraphBatch, states: list[Tensor], embedding: Tensor, graph_input: Tensor
    ) -> Tensor:
        """Scaled labels (B, tasks of the group), the mean over the adapters; arguments as of `GroupAdapter`."""
        found = [adapter(batch, states, embedding, graph_input) for adapter in self.adapters]
        return torch.stack(found).mean(dim=0)
