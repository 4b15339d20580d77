"""The learning rate over a run."""

from __future__ import annotations

import math

from aiop.pretrain.config import PretrainConfig

__all__ = ["learning_rate"]


def learning_rate(config: PretrainConfig, step: int, steps: int) -> float:
    """Learning rate of step ``step`` of ``steps``, counted from 0."""
    rise = config.warmup * steps
    if step < rise:
        return config.lr * (0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * (step + 1) / (rise + 1))))
    if config.schedule == "constant":
        return config.lr
    place = (step - rise) / max(1.0, steps - rise)
    return config.lr * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * place)))
