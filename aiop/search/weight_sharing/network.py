"""Networks of DARTS cells in PyTorch, whose weights are named by where and what they are.

They are the networks that `aiop.tasks.spaces.darts` writes, layer by layer. A parameter's name says the cell, the node,
the node's source and the operation, and nothing of the genotype: what two networks have in common has one name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from aiop.tasks.spaces.darts import Cell, Genotype
from aiop.tasks.spaces.darts_network import NODES

__all__ = ["CellNetwork", "fresh", "load", "weights_of"]


class CellNetwork(nn.Module):
    """A classifier of stacked cells: images ``(n, 3, H, W)`` -> logits ``(n, classes)``, H and W multiples of 4.

    Args:
        genotype: its cells.
        cells: how many are stacked; those numbered ``cells // 3`` and ``2 * cells // 3`` are reductions.
        channels: of a node in the first cells.
        classes: of the classifier.
        statistics: whether batch norms keep running statistics; without, each batch is normalised by its own.
    """

    def __init__(
        self, genotype: Genotype, *, cells: int, channels: int, classes: int, statistics: bool = False
    ) -> None:
        super().__init__()
        before = previous = 3 * channels
        self.stem = _conv_norm(3, 3 * channels, 3, statistics)
        reductions = (cells // 3, 2 * cells // 3)
        stacked: list[nn.Module] = []
        halved = False
        for index in range(cells):
            reduces = index in reductions
            channels *= 2 if reduces else 1
            cell = genotype.reduction if reduces else genotype.normal
            stacked.append(_Cell(cell, before, previous, channels, halved, reduces, statistics))
            before, previous, halved = previous, channels * len(cell.concat), reduces
        self.cells = nn.ModuleList(stacked)
        self.classifier = nn.Linear(previous, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(n, classes)``."""
        before = previous = self.stem(images)
        for cell in self.cells:
            before, previous = previous, cell(before, previous)
        logits: Tensor = self.classifier(previous.mean(dim=(2, 3)))
        return logits


class _Cell(nn.Module):
    def __init__(
        self,
        cell: Cell,
        before: int,
        previous: int,
        channels: int,
        halved: bool,
        reduces: bool,
        statistics: bool,
    ) -> None:
        super().__init__()
        first = _FactorizedReduce if halved else _ReluConvNorm
        self.input0 = first(before, channels, statistics)
        self.input1 = _ReluConvNorm(previous, channels, statistics)
        self.concat, self.edges = cell.concat, cell.edges
        self.operations = nn.ModuleDict()
        self._keys: list[str] = []
        for index, (operation, source) in enumerate(cell.edges):
            key = f"node{NODES[index // 2]}-from{source}-{operation}"
            if key in self.operations:  # both inputs of a node alike: two operations, as in the network
                key += "-again"
            stride = 2 if reduces and source < 2 else 1
            self.operations[key] = _operation(operation, channels, stride, statistics)
            self._keys.append(key)

    def forward(self, before: Tensor, previous: Tensor) -> Tensor:
        states = [self.input0(before), self.input1(previous)]
        for node in range(len(NODES)):
            ends = [
                self.operations[self._keys[index]](states[self.edges[index].source])
                for index in (2 * node, 2 * node + 1)
            ]
            states.append(ends[0] + ends[1])
        return torch.cat([states[node] for node in self.concat], dim=1)


class _ReluConvNorm(nn.Module):
    def __init__(self, inputs: int, outputs: int, statistics: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = _norm(outputs, statistics)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(self.conv(functional.relu(x)))
        return found


class _FactorizedReduce(nn.Module):
    """Halve the resolution by two 1x1 convolutions of stride 2, one of them a pixel further."""

    def __init__(self, inputs: int, outputs: int, statistics: bool) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.norm = _norm(outputs, statistics)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(x)
        found: Tensor = self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))
        return found


class _Separable(nn.Module):
    """ReLU, depthwise convolution, 1x1 convolution, norm."""

    def __init__(self, channels: int, kernel: int, stride: int, dilation: int, statistics: bool) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.depthwise = nn.Conv2d(
            channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False
        )
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = _norm(channels, statistics)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(self.pointwise(self.depthwise(functional.relu(x))))
        return found


def _operation(name: str, channels: int, stride: int, statistics: bool) -> nn.Module:
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else _FactorizedReduce(channels, channels, statistics)
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, 1)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    kernel = int(name[-1])
    if name.startswith("dil_conv"):
        return _Separable(channels, kernel, stride, 2, statistics)
    return nn.Sequential(
        _Separable(channels, kernel, stride, 1, statistics), _Separable(channels, kernel, 1, 1, statistics)
    )


def _conv_norm(inputs: int, outputs: int, kernel: int, statistics: bool) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, _norm(outputs, statistics))


def _norm(channels: int, statistics: bool) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, track_running_stats=statistics)


def fresh(name: str, shape: torch.Size, seed: int) -> Tensor:
    """Return a parameter of a name before any training: it depends on name, shape and seed alone.

    Convolutions and the classifier are drawn from normal distributions of variance 2 and 1 over their inputs (He et
    al., 2015); norms begin as the identity.
    """
    if len(shape) == 1:
        return torch.full(shape, 1.0 if name.endswith("weight") else 0.0)
    digest = hashlib.sha256(f"{seed}\n{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
    gain = 2.0 if len(shape) == 4 else 1.0
    scale = float((gain / shape[1:].numel()) ** 0.5)
    return torch.randn(shape, generator=generator) * scale


def load(network: nn.Module, shared: Mapping[str, Tensor], seed: int) -> None:
    """Give a network its part of a set of weights; what the set lacks is `fresh`."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            kept = shared.get(name)
            parameter.copy_(fresh(name, parameter.shape, seed) if kept is None else kept)


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of the parameters by their names."""
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
