"""NCP's predictor: a multilayer perceptron on the integer code of an architecture (Ding et al., ICLR 2022).

A baseline that sees a search space's own coordinates and nothing else: strong inside its space, useless outside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CodeMLP"]

Array = npt.NDArray[Any]

_EPOCHS, _BATCH, _RATE, _DECAY = 200, 128, 1e-2, 1e-7


class CodeMLP:
    """Batch norm, 256, and per target a head of 128, each with batch norm, Swish and dropout 0.5.

    SmoothL1 on standardised targets, Adam at 1e-2 with weight decay 1e-7, batches of 128, 200 epochs, one cycle, as
    published; targets are not grouped into shared heads. Predictions are the same for the same ``seed``.
    """

    def __init__(self, seed: int = 0, epochs: int = _EPOCHS) -> None:
        self.seed, self.epochs = seed, epochs

    def fit(self, codes: Array, targets: Array) -> CodeMLP:
        """Fit to codes ``(n, D)`` and values ``(n, T)``, all known."""
        self.code_mean, self.code_scale = codes.mean(axis=0), np.maximum(codes.std(axis=0), 1e-6)
        self.mean, self.scale = targets.mean(axis=0), np.maximum(targets.std(axis=0), 1e-9)
        x = self._input(codes)
        y = torch.from_numpy(((targets - self.mean) / self.scale).astype(np.float32))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.network = _Network(x.shape[1], y.shape[1])
            steps = max(1, len(x) // _BATCH)
            optimizer = torch.optim.Adam(self.network.parameters(), _RATE, weight_decay=_DECAY)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=self.epochs * steps)
            for _ in range(self.epochs):
                order = torch.randperm(len(x))
                for step in range(steps):
                    rows = order[step * _BATCH : (step + 1) * _BATCH]
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


class _Network(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.BatchNorm1d(inputs), *_layer(inputs, 256))
        self.heads = nn.ModuleList(
            nn.Sequential(*_layer(256, 128), nn.Linear(128, 1)) for _ in range(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.body(x)
        return torch.cat([head(hidden) for head in self.heads], dim=1)


def _layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.SiLU(), nn.Dropout(0.5)
