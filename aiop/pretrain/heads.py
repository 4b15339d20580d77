"""Outputs conditioned on the task, all tasks in one pass."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["TaskHeads", "TaskParameters", "task_outputs"]


class TaskParameters(NamedTuple):
    """What makes T tasks' outputs of a shared projection (B, H) and graph features (B, G).

    ``gamma``, ``beta`` and ``weight`` are (T, H), ``bias`` (T,), ``direct`` (T, G).
    """

    gamma: Tensor
    beta: Tensor
    weight: Tensor
    bias: Tensor
    direct: Tensor


def task_outputs(
    projected: Tensor, graph_input: Tensor, given: TaskParameters, act: nn.Module, dropout: nn.Module
) -> Tensor:
    """Return targets (B, T), as `TaskHeads` has them, of projections (B, H) and graph features (B, G)."""
    hidden = torch.addcmul(given.beta, projected[:, None, :], 1 + given.gamma)
    hidden = dropout(act(hidden))
    out = (hidden * given.weight).sum(dim=-1) + given.bias
    result: Tensor = out + functional.linear(graph_input, given.direct)
    return result


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
        given = TaskParameters(self.gamma, self.beta, self.weight, self.bias, self.direct.weight)
        return task_outputs(self.project(embedding), graph_input, given, self.act, self.dropout)
