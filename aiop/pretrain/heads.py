"""Outputs conditioned on the task, all tasks in one pass, and the whole predictor module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from aiop.graph_ir.batch import GraphBatch
from aiop.pretrain.backbone import Backbone
from aiop.pretrain.config import BackboneConfig

__all__ = ["Ensemble", "PredictorModule", "TaskHeads"]


class TaskHeads(nn.Module):
    """T outputs from one embedding: a shared projection that each task scales and shifts.

    ``hidden_t = act((1 + gamma_t) * W z + beta_t)``, ``out_t = w_t . hidden_t + b_t + v_t . g`` with z the embedding
    and g the standardised graph features, whose direct term carries plain cost trends.

    Args:
        tasks: number of tasks T.
        embedding: size of z.
        hidden: size of the shared projection.
        graph_features: size of g.
        dropout: probability on the hidden states.
    """

    def __init__(
        self, tasks: int, embedding: int, hidden: int, graph_features: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.project = nn.Linear(embedding, hidden)
        self.gamma = nn.Parameter(torch.randn(tasks, hidden) * 0.1)
        self.beta = nn.Parameter(torch.zeros(tasks, hidden))
        self.weight = nn.Parameter(torch.randn(tasks, hidden) * hidden**-0.5)
        self.bias = nn.Parameter(torch.zeros(tasks))
        self.direct = nn.Linear(graph_features, tasks, bias=False)
        nn.init.zeros_(self.direct.weight)
        self.act = nn.SiLU()
        self.dropout = nn.Dropout(dropout)

    @property
    def num_tasks(self) -> int:
        """Number of tasks T."""
        return int(self.bias.numel())

    def forward(self, embedding: Tensor, graph_input: Tensor) -> Tensor:
        """Embeddings (B, D) and standardised graph features (B, G) -> scaled targets (B, T)."""
        hidden = torch.addcmul(self.beta, self.project(embedding)[:, None, :], 1 + self.gamma)
        hidden = self.dropout(self.act(hidden))
        out = (hidden * self.weight).sum(dim=-1) + self.bias
        result: Tensor = out + self.direct(graph_input)
        return result


class PredictorModule(nn.Module):
    """Backbone and heads: a batch of graphs -> scaled targets of every task.

    Args:
        config: sizes and options.
        num_ops: size of the operator vocabulary.
        node_features: F.
        graph_features: G.
        num_tasks: T.
    """

    def __init__(
        self, config: BackboneConfig, num_ops: int, node_features: int, graph_features: int, num_tasks: int
    ) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config, num_ops, node_features, graph_features)
        self.heads = TaskHeads(num_tasks, config.embedding, config.head, graph_features, config.dropout)

    @property
    def num_tasks(self) -> int:
        """Number of tasks T."""
        return self.heads.num_tasks

    @property
    def embedding(self) -> int:
        """Size of the embedding."""
        return self.config.embedding

    def forward(self, batch: GraphBatch) -> Tensor:
        """Scaled targets, (B, T)."""
        return self.embed_and_predict(batch)[1]

    def embed_and_predict(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """Embeddings (B, D) and scaled targets (B, T) of one pass."""
        graph_input = self.backbone.graph_input(batch)
        embedding = self.backbone.encode(batch, graph_input)
        return embedding, self.heads(embedding, graph_input)


class Ensemble(nn.Module):
    """Networks of one shape trained from different seeds, read as one: their errors partly cancel.

    Args:
        members: at least one, all of the same settings and tasks.
    """

    def __init__(self, members: Sequence[PredictorModule]) -> None:
        super().__init__()
        self.config = members[0].config
        self.num_tasks = members[0].num_tasks
        self.members = nn.ModuleList(members)

    @property
    def embedding(self) -> int:
        """Size of the embedding: those of the members side by side."""
        return len(self.members) * self.config.embedding

    def forward(self, batch: GraphBatch) -> Tensor:
        """Scaled targets, (B, T): the mean over the members."""
        return self.embed_and_predict(batch)[1]

    def embed_and_predict(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """Embeddings (B, D) of all members side by side, and the mean of their scaled targets (B, T)."""
        embeddings, scaled = [], []
        for member in self.members:
            embedding, output = cast(PredictorModule, member).embed_and_predict(batch)
            embeddings.append(embedding)
            scaled.append(output)
        return torch.cat(embeddings, dim=1), torch.stack(scaled).mean(dim=0)
