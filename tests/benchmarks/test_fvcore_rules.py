"""Counts in fvcore's convention: by hand from its rules, and by fvcore itself where it is installed."""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Callable

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from aiop.graph_ir import read_onnx
from benchmarks.fvcore_rules import fvcore_rules, weights_as_inputs

pytestmark = pytest.mark.filterwarnings("ignore")  # of the exporter


class Standardised(nn.Conv2d):
    """Weight standardisation the way it is written to be fast: batch norm of the weights, in training."""

    def __init__(self, gain: bool) -> None:
        super().__init__(3, 4, 3)
        self.gain = nn.Parameter(torch.rand(4)) if gain else None

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, 4, -1)
        flat = functional.batch_norm(flat, None, None, weight=self.gain, training=True, momentum=0.0)
        return functional.conv2d(x, flat.reshape_as(self.weight), self.bias)


class Positions(nn.Module):
    """A bias that a layer computes from coordinates, whatever the input."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("coordinates", torch.rand(64, 2))
        self.layer = nn.Linear(2, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2)[:, :1] + self.layer(self.coordinates).sum(1)


class Sampled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), align_corners=False)


class Last(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x[:, 0])[0])


# All read (1, 3, 8, 8): 192 numbers.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "folded": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)), 36 * 4 * (27 + 2)),
    "not folded": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)), 192 * 2 + 36 * 4 * 27),
    "group norm": (lambda: nn.GroupNorm(3, 3), 192 * 5),
    "layer norm": (lambda: nn.LayerNorm(8), 192 * 5),
    "pool": (lambda: nn.AdaptiveAvgPool2d(1), 192),
    "nearest": (lambda: nn.Upsample(scale_factor=2.0), 192 * 4),
    "bilinear": (lambda: nn.Upsample(scale_factor=2.0, mode="bilinear"), 192 * 4 * 4),
    "bicubic": (lambda: nn.Upsample(scale_factor=2.0, mode="bicubic"), 0),
    "sampled": (Sampled, 192 * 4),
    "same": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.Conv2d(4, 2, 1)), 64 * 4 * 2),
    "recurrent": (Last, 8 * 5 * 2),
    "standardised": (lambda: Standardised(gain=False), 36 * 4 * 27 + 4 * 27 * 4),
    "with gain": (lambda: Standardised(gain=True), 36 * 4 * 27 + 4 * 27 * 5),
    "of constants": (Positions, 64 * 2 * 8),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_are_those_of_fvcore(name: str) -> None:
    make, expected = NETWORKS[name]
    module, image = make().eval(), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    buffer = io.BytesIO()
    torch.onnx.export(module, (image,), buffer, dynamo=False, opset_version=17)
    network = onnx.load_model_from_string(buffer.getvalue())
    graph = read_onnx(network)
    rules = fvcore_rules(network, graph, read_onnx(weights_as_inputs(network)))
    assert graph.macs + sum(rules.values()) == expected
    if importlib.util.find_spec("fvcore"):
        assert counted_by_fvcore(module, image) == expected


def counted_by_fvcore(module: nn.Module, image: Tensor) -> int:
    from fvcore.nn import FlopCountAnalysis

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counter = FlopCountAnalysis(module, image).unsupported_ops_warnings(False)
        return int(counter.uncalled_modules_warnings(False).tracer_warnings("none").total())
