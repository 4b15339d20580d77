"""NCP's predictor: a multilayer perceptron on the integer code of an architecture (Ding et al., ICLR 2022).

A baseline that sees a search space's own coordinates and nothing else: strong inside its space, useless outside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CodeMLP"]

Array = npt.NDArray[Any]

_EPOCHS, _BATCH, _RATE, _DECAY = 200, 128, 1e-2, 1e-7
_CYCLE: dict[str, Any] = {"pct_start": 0.3, "div_factor": 10.0, "base_momentum": 0.85, "max_momentum": 0.95}
_SHARED, _OWN, _DROPOUT = 256, 128, 0.5


class CodeMLP:
    """Batch norm, 256, and per group of targets a head of 128, each with batch norm, Swish and dropout.

    SmoothL1 on standardised targets, Adam at 1e-2 with weight decay 1e-7, batches of 128, 200 epochs, one cycle, as
    published. Predictions are the same for the same ``seed``. The authors also keep the state that was best on the
    fifth of the data they validate on; labels being few, this takes the last state and trains on all of them.

    Args:
        seed: of the weights, the order of the rows and the dropout.
        epochs: passes over the data.
        groups: how many targets each head gives, one each where None (the authors: the main metric, the second
            metric, FLOPs with parameters).
        dropouts: of the heads (the authors: 0.5, and 0 for FLOPs and parameters).
    """

    def __init__(
        self,
        seed: int = 0,
        epochs: int = _EPOCHS,
        groups: Sequence[int] | None = None,
        dropouts: Sequence[float] | None = None,
    ) -> None:
        self.seed, self.epochs, self.groups, self.dropouts = seed, epochs, groups, dropouts

    def fit(self, codes: Array, targets: Array) -> CodeMLP:
        """Fit to codes ``(n, D)`` and values ``(n, T)``, all known; at least two rows."""
        self.code_mean, self.code_scale = codes.mean(axis=0), np.maximum(codes.std(axis=0), 1e-6)
        self.mean, self.scale = targets.mean(axis=0), np.maximum(targets.std(axis=0), 1e-9)
        x = self._input(codes)
        y = torch.from_numpy(((targets - self.mean) / self.scale).astype(np.float32))
        groups = self.groups or [1] * y.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.network = _Network(x.shape[1], groups, self.dropouts or [_DROPOUT] * len(groups))
            bounds = _bounds(len(x))
            optimizer = torch.optim.Adam(self.network.parameters(), _RATE, weight_decay=_DECAY)
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, _RATE, total_steps=self.epochs * (len(bounds) - 1), **_CYCLE
            )
            for _ in range(self.epochs):
                order = torch.randperm(len(x))
                for start, stop in pairwise(bounds):
                    rows = order[start:stop]
                    loss = functional.smooth_l1_loss(self.network(x[rows]), y[rows])
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    schedule.step()
        self.network.eval()
        return self

    def predict(self, codes: Array) -> Array:
        """Return values ``(m, T)`` of codes ``(m, D)``."""
        with torch.inference_mode():
            scaled = self.network(self._input(codes)).double().numpy()
        return np.asarray(scaled * self.scale + self.mean)

    def _input(self, codes: Array) -> Tensor:
        return torch.from_numpy(((codes - self.code_mean) / self.code_scale).astype(np.float32))


def _bounds(rows: int) -> list[int]:
    """Return where batches start, and the end; a last row alone, which has no batch statistics, joins the others."""
    bounds = [*range(0, rows, _BATCH), rows]
    if len(bounds) > 2 and rows - bounds[-2] == 1:
        del bounds[-2]
    return bounds


class _Network(nn.Module):
    def __init__(self, inputs: int, groups: Sequence[int], dropouts: Sequence[float]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.BatchNorm1d(inputs), *_layer(inputs, _SHARED, _DROPOUT))
        self.heads = nn.ModuleList(
            nn.Sequential(*_layer(_SHARED, _OWN, dropout), nn.Linear(_OWN, group))
            for group, dropout in zip(groups, dropouts, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.body(x)
        return torch.cat([head(hidden) for head in self.heads], dim=1)


def _layer(inputs: int, outputs: int, dropout: float) -> tuple[nn.Module, ...]:
    return nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.SiLU(), nn.Dropout(dropout)
