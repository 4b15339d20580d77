"""Outputs conditioned on what a task is, so that a task nobody trained on has some too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aiop.pretrain.heads import TaskParameters, task_outputs

__all__ = ["DescribedHeads"]

_CODE = 32


class DescribedHeads(nn.Module):
    """As `TaskHeads`, but every task's scales, shifts and weights come from a code of its description.

    ``code_t = describe(features_t) + residual_t``. The residual is what the task has of its own; in training it is
    left out at random, task by task, so that the description alone says what it can.

    Args:
        features: (T, D), the descriptions of the tasks; saved with the weights.
        embedding: size of z.
        hidden: size of the shared projection.
        graph_features: size of g.
        dropout: probability on the hidden states.
        residual_dropout: probability of leaving out a task's residual.
    """

    features: Tensor

    def __init__(
        self,
        features: Tensor,
        embedding: int,
        hidden: int,
        graph_features: int,
        dropout: float = 0.0,
        residual_dropout: float = 0.25,
    ) -> None:
        super().__init__()
        tasks, width = features.shape
        self.register_buffer("features", features.clone())
        self.residual_dropout = residual_dropout
        self.sizes = (hidden, hidden, hidden, 1, graph_features)
        self.project = nn.Linear(embedding, hidden)
        self.describe = nn.Sequential(nn.Linear(width, 2 * _CODE), nn.SiLU(), nn.Linear(2 * _CODE, _CODE))
        self.residual = nn.Parameter(torch.randn(tasks, _CODE) * 0.1)
        self.generate = nn.Linear(_CODE, sum(self.sizes))
        with torch.no_grad():
            # Scales near 1, shifts and direct terms near 0, and output weights of the size that `TaskHeads` has.
            self.generate.weight *= 0.3
            self.generate.bias.zero_()
            self.generate.weight[-graph_features:] = 0.0
            self.generate.bias[2 * hidden : 3 * hidden] = torch.randn(hidden) * hidden**-0.5
        self.act = nn.SiLU()
        self.dropout = nn.Dropout(dropout)

    @property
    def num_tasks(self) -> int:
        """Number of tasks T."""
        return len(self.features)

    def forward(self, embedding: Tensor, graph_input: Tensor) -> Tensor:
        """Embeddings (B, D) and standardised graph features (B, G) -> targets (B, T)."""
        residual: Tensor = self.residual
        if self.training and self.residual_dropout:
            kept = torch.rand(len(residual), 1, device=residual.device) >= self.residual_dropout
            residual = residual * kept
        return self._outputs(self.describe(self.features) + residual, embedding, graph_input)

    def unseen(self, features: Tensor, embedding: Tensor, graph_input: Tensor) -> Tensor:
        """As ``forward``, for K tasks known by their descriptions (K, D) alone: (B, K)."""
        return self._outputs(self.describe(features), embedding, graph_input)

    def _outputs(self, code: Tensor, embedding: Tensor, graph_input: Tensor) -> Tensor:
        gamma, beta, weight, bias, direct = self.generate(code).split(self.sizes, dim=1)
        given = TaskParameters(gamma, beta, weight, bias[:, 0], direct)
        return task_outputs(self.project(embedding), graph_input, given, self.act, self.dropout)
