"""What every run of training shares: its optimiser, its learning rate, and when a checkpoint is due."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

import torch

from aiop.pretrain.config import PretrainConfig

__all__ = ["CheckpointClock", "adamw", "learning_rate"]


def learning_rate(config: PretrainConfig, step: int, steps: int) -> float:
    """Learning rate of step ``step`` of ``steps``, counted from 0."""
    rise = config.warmup * steps
    if step < rise:
        return config.lr * (0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * (step + 1) / (rise + 1))))
    if config.schedule == "constant":
        return config.lr
    place = (step - rise) / max(1.0, steps - rise)
    return config.lr * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * place)))


def adamw(parameters: Iterable[torch.nn.Parameter], lr: float, weight_decay: float) -> torch.optim.AdamW:
    """Return the optimiser of some parameters: weight decay on matrices only."""
    given = list(parameters)
    return torch.optim.AdamW(
        [
            {"params": [p for p in given if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in given if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=lr,
        fused=True,
    )


class CheckpointClock:
    """Says after which steps a run saves itself: every so many, after so many seconds, and at the end."""

    def __init__(self, config: PretrainConfig) -> None:
        self.every, self.seconds = config.checkpoint_every, config.checkpoint_seconds
        self._saved = time.monotonic()

    def due(self, step: int, last: bool) -> bool:
        """Whether to save now, after ``step`` steps; asked once a step."""
        late = self.seconds and time.monotonic() - self._saved > self.seconds
        return bool(last or late or (self.every and step % self.every == 0))

    def saved(self) -> None:
        """The checkpoint was written."""
        self._saved = time.monotonic()
