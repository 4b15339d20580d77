"""Targets that leave out what a network's own cost explains, and the way back with that cost.

A network that learns such targets says how much better or worse an architecture is than its cost; the cost itself is
known exactly for every architecture, also of a search space that nobody trained on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aiop.graph_ir.features import GRAPH_FEATURES
from aiop.pretrain.targets import LabelScaler

__all__ = ["LOG_MACS", "CostLink", "uses_costs"]

LOG_MACS = GRAPH_FEATURES.index("log_macs")
"""The graph feature that is log2(1 + MACs) of the canonical network: what leads nowhere is not counted, so that twins
have one cost."""

# Where costs explain nearly everything, what is left is noise: it is not blown up to a target of deviation 1.
_LEAST = 0.05

Array = NDArray[np.float64]


def uses_costs(scalers: Sequence[LabelScaler]) -> bool:
    """Whether any of the tasks is learnt relative to costs."""
    return any(scaler.scaling in ("flops", "residual") for scaler in scalers)


class CostLink(nn.Module):
    """Per task an affine map, whose coefficients depend on MACs, between targets and scaled labels.

    ``label = (a + b c) target + (d + e c + f m)`` with ``m = log2(1 + MACs)``, ``c = log10(GFLOPs + 1) + 1`` and FLOPs
    twice the MACs; ``coefficients``, (T, 5), holds a, b, d, e, f and is saved with the weights. *Scaled labels* are
    what `LabelScaler` makes of labels.

    ``flops`` is the scaling of AIO-P (Mills et al., AAAI 2023): ``y / c``, standardised. ``residual`` is the residual
    over a least-squares line in m, divided by its deviation. Tasks of other scalings pass through.
    """

    coefficients: Tensor

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.register_buffer("coefficients", torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]]).repeat(tasks, 1))

    @classmethod
    def fit(cls, scalers: Sequence[LabelScaler], labels: Array, log_macs: Array) -> CostLink:
        """Fit to scaled labels (n, T), NaN where there is none, of networks with log2(1 + MACs) (n,)."""
        link = cls(len(scalers))
        cost = _flops_divisor(log_macs)
        for task, scaler in enumerate(scalers):
            known = np.isfinite(labels[:, task])
            if scaler.scaling == "flops":
                found = _flops(scaler, labels[known, task], cost[known])
            elif scaler.scaling == "residual":
                found = _residual(labels[known, task], log_macs[known])
            else:
                continue
            link.coefficients[task] = torch.tensor(found)
        return link

    def targets(self, labels: Array, log_macs: Array) -> Array:
        """Scaled labels (n, T) of networks with log2(1 + MACs) (n,) -> targets (n, T)."""
        a, b, d, e, f = self.coefficients.double().numpy().T
        cost, size = _flops_divisor(log_macs)[:, None], log_macs[:, None]
        return np.asarray((labels - (d + e * cost + f * size)) / (a + b * cost))

    def forward(self, targets: Tensor, graph_features: Tensor) -> Tensor:
        """Targets (B, T) of networks with graph features (B, G), as encoded -> scaled labels (B, T)."""
        return _restored(targets, graph_features, self.coefficients)

    def restore(self, targets: Tensor, graph_features: Tensor, similar: Tensor) -> Tensor:
        """As ``forward``, for K other tasks, (B, K), with the mean maps of tasks: ``similar`` (K, T), rows sum to 1."""
        return _restored(targets, graph_features, similar @ self.coefficients)


def _restored(targets: Tensor, graph_features: Tensor, coefficients: Tensor) -> Tensor:
    a, b, d, e, f = coefficients.t()
    size = graph_features[:, LOG_MACS, None]
    cost = torch.log10((torch.exp2(size) - 1) * 2e-9 + 1) + 1
    labels: Tensor = (a + b * cost) * targets + (d + e * cost + f * size)
    return labels


def _flops_divisor(log_macs: Array) -> Array:
    macs = np.exp2(np.asarray(log_macs, np.float64)) - 1
    return np.asarray(np.log10(2e-9 * macs + 1) + 1)


def _flops(scaler: LabelScaler, labels: Array, cost: Array) -> list[float]:
    # The knots of the scaler are one deviation below and above the mean, in the unit of the task.
    mean, deviation = sum(scaler.values) / 2, (scaler.values[1] - scaler.values[0]) / 2
    divided = (mean + deviation * labels) / cost
    centre, spread = float(divided.mean()), max(float(divided.std()), 1e-6)
    return [0.0, spread / deviation, -mean / deviation, centre / deviation, 0.0]


def _residual(labels: Array, log_macs: Array) -> list[float]:
    centred = log_macs - log_macs.mean()
    variance = float((centred**2).mean())
    slope = float((centred * labels).mean()) / variance if variance > 1e-6 else 0.0
    start = float(labels.mean() - slope * log_macs.mean())
    spread = float(np.std(labels - slope * log_macs))
    return [max(spread, _LEAST), 0.0, start, 0.0, slope]
