"""One network, many files: every exporter, opset and folding gives the same hash; another network gives another."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from aiop.graph_ir import read_onnx
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise


class Convolutions(nn.Module):
    """Inverted bottlenecks with squeeze-and-excitation, as in MobileNet and EfficientNet."""

    def __init__(
        self, kernel: int = 3, stride: int = 2, squeezed: int = 4, active: type[nn.Module] = nn.SiLU
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.wide = nn.Sequential(nn.Conv2d(8, 24, 1, bias=False), nn.BatchNorm2d(24), active())
        self.deep = nn.Sequential(
            nn.Conv2d(24, 24, kernel, padding=kernel // 2, groups=24, bias=False),
            nn.BatchNorm2d(24),
            active(),
        )
        self.squeeze, self.excite = nn.Conv2d(24, squeezed, 1), nn.Conv2d(squeezed, 24, 1)
        self.narrow = nn.Sequential(nn.Conv2d(24, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.last = nn.Sequential(nn.Conv2d(8, 16, 3, stride, 1), nn.BatchNorm2d(16), nn.ReLU6())
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(16, 10))

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        y = self.deep(self.wide(x))
        gate = self.excite(functional.relu(self.squeeze(y.mean((2, 3), keepdim=True))))
        x = self.last(x + self.narrow(y * gate.sigmoid()))
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Attention(nn.Module):
    """Patches, class token, positions and one block, its attention spelled out or as one operator of torch."""

    def __init__(self, heads: int = 4, fused: bool = False, before: bool = True) -> None:
        super().__init__()
        self.heads, self.fused, self.before = heads, fused, before
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.token, self.places = nn.Parameter(torch.zeros(1, 1, 32)), nn.Parameter(torch.zeros(1, 17, 32))
        self.qkv, self.mix = nn.Linear(32, 96), nn.Linear(32, 32)
        self.norms = nn.ModuleList(nn.LayerNorm(32, eps=1e-6) for _ in range(3))
        self.wide, self.narrow = nn.Linear(32, 64), nn.Linear(64, 32)
        self.scale, self.head = nn.Parameter(torch.zeros(32)), nn.Linear(32, 10)

    def attend(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        if self.fused:
            mixed = functional.scaled_dot_product_attention(query, key, value)
        else:
            scores = (query * (width // self.heads) ** -0.5) @ key.transpose(-2, -1)
            mixed = scores.softmax(-1) @ value
        return self.mix(mixed.transpose(1, 2).reshape(batch, length, width))

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        if self.before:
            x = x + self.attend(self.norms[0](x)) * self.scale
            x = x + self.narrow(functional.gelu(self.wide(self.norms[1](x))))
        else:
            x = self.norms[0](x + self.attend(x) * self.scale)
            x = self.norms[1](x + self.narrow(functional.gelu(self.wide(x))))
        return self.head(self.norms[2](x)[:, 0])


class Norms(nn.Module):
    """A ConvNeXt block, group norms and a resize."""

    def __init__(self, groups: int = 4, size: int = 2) -> None:
        super().__init__()
        self.stem, self.groups = nn.Conv2d(3, 16, 4, 4), nn.GroupNorm(groups, 16)
        self.deep, self.norm = nn.Conv2d(16, 16, 7, padding=3, groups=16), nn.LayerNorm(16, eps=1e-6)
        self.wide, self.narrow = nn.Linear(16, 64), nn.Linear(64, 16)
        self.gamma, self.last = nn.Parameter(torch.zeros(16)), nn.Conv2d(16, 4, 1)
        self.size = size

    def forward(self, image: Tensor) -> Tensor:
        x = functional.mish(self.groups(self.stem(image)))
        y = self.norm(self.deep(x).permute(0, 2, 3, 1))
        y = self.gamma * self.narrow(functional.gelu(self.wide(y)))
        x = x + y.permute(0, 3, 1, 2)
        return self.last(functional.interpolate(x, scale_factor=float(self.size), mode="nearest"))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convolutions": Convolutions,
    "attention": Attention,
    "fused-attention": partial(Attention, fused=True),
    "norms": Norms,
}
OTHERS: dict[str, Callable[[], nn.Module]] = {
    "kernel": partial(Convolutions, kernel=5),
    "stride": partial(Convolutions, stride=1),
    "squeezed": partial(Convolutions, squeezed=6),
    "active": partial(Convolutions, active=nn.ReLU),
    "heads": partial(Attention, heads=2),
    "norm-after": partial(Attention, before=False),
    "groups": partial(Norms, groups=8),
    "size": partial(Norms, size=4),
}
WAYS: dict[str, dict[str, object]] = {
    **{f"opset-{opset}": {"opset_version": opset} for opset in (11, 13, 16, 18, 20)},
    "unfolded": {"opset_version": 17, "do_constant_folding": False},
    "batch-norm": {
        "opset_version": 17,
        "do_constant_folding": False,
        "training": torch.onnx.TrainingMode.PRESERVE,
    },
    "dynamo": {"dynamo": True, "opset_version": 18},
    "dynamo-raw": {"dynamo": True, "opset_version": 18, "optimize": False},
}
LOWEST = {"fused-attention": 14}  # opset of the exporter's spelling


@pytest.fixture(scope="module", autouse=True)
def quiet_torch() -> Iterator[None]:
    """Run on one thread and without the exporters' messages."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
    torch.set_num_threads(threads)


@cache
def hashed(name: str, way: str = "") -> str:
    """Return the hash of a network with random parameters (exporters drop zero biases and share equal ones)."""
    torch.manual_seed(0)
    network = (NETWORKS | OTHERS)[name]().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.0, 0.1)
        for key, statistic in network.named_buffers():
            if key.endswith(("running_mean", "running_var")):
                statistic.uniform_(0.5, 1.5)
    options = {"dynamo": False, "opset_version": 17, "verbose": False} | WAYS.get(way, {})
    buffer: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.randn(1, 3, 32, 32),), buffer, **options)  # type: ignore[arg-type]
    return content_hash(canonicalise(read_onnx(buffer.getvalue())))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NETWORKS)
def test_hash_is_that_of_the_network_not_of_the_file(name: str, way: str) -> None:
    if int(str(WAYS[way]["opset_version"])) < LOWEST.get(name, 0):
        pytest.skip("the exporter has no spelling at this opset")
    assert hashed(name, way) == hashed(name)


def test_attention_is_the_same_spelled_out_or_fused() -> None:
    assert hashed("fused-attention") == hashed("attention")


def test_other_networks_have_other_hashes() -> None:
    hashes = [hashed(name) for name in ("convolutions", "attention", "norms", *OTHERS)]
    assert len(set(hashes)) == len(hashes)
