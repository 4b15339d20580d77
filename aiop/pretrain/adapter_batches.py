"""What each adapter sees of a batch: the graphs that have a label of its tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aiop.graph_ir.batch import Engine, GraphBatch, collate
from aiop.pretrain.adapters import AdapterGroup

if TYPE_CHECKING:
    from aiop.graph_ir.features import GraphArrays

__all__ = ["AdapterShare", "share_batch"]


@dataclass(frozen=True, eq=False)
class AdapterShare:
    """A part of a batch of B graphs with N nodes.

    batch: b of the graphs. nodes: int, the places of their nodes among the N; None for all of them.
    graphs: int (b,), their places among the B. targets: (b, tasks of the group), NaN where there is no label.
    corpus: int (b,).
    """

    batch: GraphBatch
    nodes: Tensor | None
    graphs: Tensor
    targets: Tensor
    corpus: Tensor

    def pick(self, states: Sequence[Tensor]) -> list[Tensor]:
        """States of the N nodes, layer by layer -> those of the part's."""
        return list(states) if self.nodes is None else [state[self.nodes] for state in states]


def share_batch(
    graphs: Sequence[GraphArrays],
    targets: Tensor,
    corpus: Tensor,
    groups: Sequence[AdapterGroup],
    device: torch.device,
    engine: Engine = "auto",
) -> tuple[GraphBatch, list[AdapterShare | None]]:
    """Return the batch of B graphs and every group's part of it, None for a group without a label in it.

    Args:
        graphs: B of them.
        targets: (B, T), NaN where there is no label.
        corpus: int (B,), where the graphs are from.
        groups: tasks by their positions among the T.
        device: to put everything on.
        engine: of message passing.
    """
    whole = collate(graphs, engine=engine)
    starts = whole.ptr.tolist()
    whole = whole.to(device).prepare()
    parts: list[AdapterShare | None] = []
    for group in groups:
        mine = targets[:, list(group.columns)]
        seen = torch.isfinite(mine).any(dim=1).nonzero()[:, 0]
        if not len(seen):
            parts.append(None)
            continue
        batch, nodes, places = whole, None, seen.tolist()
        if len(places) < len(graphs):
            batch = collate([graphs[place] for place in places], engine=engine).to(device).prepare()
            spans = [torch.arange(starts[place], starts[place + 1]) for place in places]
            nodes = torch.cat(spans).to(device)
        parts.append(
            AdapterShare(batch, nodes, seen.to(device), mine[seen].to(device), corpus[seen].to(device))
        )
    return whole, parts
