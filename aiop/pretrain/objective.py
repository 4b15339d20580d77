"""The loss of a step: labelled targets, ranks, and what needs no label."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aiop.graph_ir.batch import GraphBatch
from aiop.pretrain.config import PretrainConfig
from aiop.pretrain.losses import ranking_loss, regression_loss
from aiop.pretrain.module import PredictorModule
from aiop.pretrain.pretext import Pretext

__all__ = ["Objective", "StepData"]


@dataclass(frozen=True, eq=False)
class StepData:
    """What a step is trained on.

    batch: B graphs. targets: (B, T), NaN where there is no label. group: int (B,), the corpus of every graph.
    paths: (B, 5), where the pretext asks for them.
    """

    batch: GraphBatch
    targets: Tensor
    group: Tensor
    paths: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Objective:
    """Adds up the terms of the loss as the settings weigh them; ``task_weights``: (T,) or None."""

    config: PretrainConfig
    task_weights: Tensor | None
    pretext: Pretext | None

    def __call__(self, module: PredictorModule, data: StepData) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, a scalar, and its terms by name, not weighted."""
        # Losses are differences of near numbers: the network's outputs are the last that mixed precision touches.
        with torch.autocast(data.targets.device.type, torch.bfloat16, self.config.precision == "mixed"):
            hidden = None if self.pretext is None else self.pretext.hidden(data.batch)
            seen = module.training_pass(data.batch, hidden)
        predictions, terms = seen.targets.float(), {}
        if self.pretext is not None:
            terms = self.pretext(
                data.batch,
                seen.states.float(),
                seen.pooled.float(),
                seen.graph_input,
                hidden and hidden[0],
                data.paths,
            )
        regression = regression_loss(predictions, data.targets, self.config.loss, self.task_weights)
        ranking = regression.new_zeros(())
        if self.config.ranking_weight:
            ranking = ranking_loss(predictions, data.targets, data.group, task_weights=self.task_weights)
        loss = regression + self.config.ranking_weight * ranking
        for name, term in terms.items():
            loss = loss + self.config.pretext[name] * term
        return loss, {"regression": regression, "ranking": ranking, **terms}
