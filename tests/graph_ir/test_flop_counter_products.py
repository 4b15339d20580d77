"""Networks of matrix products, attention and recurrence: MACs are exactly half of what torch's own counter says."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from aiop.graph_ir import read_onnx
from aiop.graph_ir.importers import from_torch
from aiop.graph_ir.passes import canonicalise

pytestmark = pytest.mark.filterwarnings("ignore")  # of the exporters


class Call(nn.Module):
    """A function of the network's layers and its inputs, as a module."""

    def __init__(self, function: Callable[..., Tensor], **layers: nn.Module | Tensor) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, nn.Parameter(layer) if isinstance(layer, Tensor) else layer)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self, *inputs)


def residual(norm: nn.Module, *layers: nn.Module) -> Call:
    return Call(lambda self, x: x + self.layers(self.norm(x)), norm=norm, layers=nn.Sequential(*layers))


def transposed(*layers: nn.Module) -> Call:
    return Call(lambda self, x: self.layers(x.transpose(1, 2)).transpose(1, 2), layers=nn.Sequential(*layers))


def heads(x: Tensor, count: int) -> Tensor:
    """``(batch, length, width)`` -> ``(batch, count, length, width / count)``."""
    return x.unflatten(2, (count, -1)).transpose(1, 2)


def split(x: Tensor, count: int) -> tuple[Tensor, ...]:
    """Queries, keys and values of one projection, in heads."""
    return tuple(heads(each, count) for each in x.chunk(3, -1))


def mix(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """Attention spelled out, back in ``(batch, length, width)``."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + bias
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def fused(self: Call, x: Tensor) -> Tensor:
    q, k, v = split(self.qkv(x), 2)
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)


def cross(self: Call, x: Tensor, y: Tensor) -> Tensor:
    return self.attention(x, y, y, need_weights=False)[0]


def grouped(self: Call, x: Tensor) -> Tensor:
    k, v = (heads(each, 2).repeat_interleave(2, 1) for each in self.kv(x).chunk(2, -1))
    return self.out(mix(heads(self.q(x), 4), k, v))


def window(self: Call, x: Tensor) -> Tensor:
    """Shifted windows of 4 x 4 over an image, with a bias per pair of positions."""
    x = torch.roll(x, (-2, -2), (1, 2))
    batch, height, width, channels = x.shape
    x = x.view(batch, height // 4, 4, width // 4, 4, channels).transpose(2, 3).reshape(-1, 16, channels)
    x = self.out(mix(*split(self.qkv(x), 2), self.bias))
    x = x.view(batch, height // 4, width // 4, 4, 4, channels).transpose(2, 3)
    return torch.roll(x.reshape(batch, height, width, channels), (2, 2), (1, 2))


def cross_covariance(self: Call, x: Tensor) -> Tensor:
    q, k, v = (each.transpose(-2, -1) for each in split(self.qkv(x), 2))
    scores = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-2, -1)
    return ((scores * self.temperature).softmax(-1) @ v).transpose(1, 3).flatten(2)


def linear_attention(self: Call, x: Tensor) -> Tensor:
    q, k, v = split(self.qkv(x), 2)
    q, k = functional.elu(q) + 1, functional.elu(k) + 1
    mixed = q @ (k.transpose(-2, -1) @ v) / (q @ k.sum(2, keepdim=True).transpose(-2, -1))
    return mixed.transpose(1, 2).flatten(2)


def axial(self: Call, x: Tensor) -> Tensor:
    for qkv in (self.rows, self.columns):
        q, k, v = split(qkv(x.flatten(0, 1)), 2)
        x = mix(q, k, v).view(x.shape).transpose(1, 2)
    return x


def reduced(self: Call, x: Tensor) -> Tensor:
    """Keys and values of a smaller image (pyramid vision transformer)."""
    image = self.reduce(x.transpose(1, 2).unflatten(2, (6, 6))).flatten(2).transpose(1, 2)
    k, v = (heads(each, 2) for each in self.kv(self.norm(image)).chunk(2, -1))
    return mix(heads(self.q(x), 2), k, v)


def talking(self: Call, x: Tensor) -> Tensor:
    q, k, v = split(self.qkv(x), 2)
    scores = self.before((q @ k.transpose(-2, -1)).permute(0, 2, 3, 1)).softmax(2)
    return (self.after(scores).permute(0, 3, 1, 2) @ v).transpose(1, 2).flatten(2)


def rotary(self: Call, x: Tensor) -> Tensor:
    q, k, v = split(self.qkv(x), 2)
    angles = torch.arange(x.shape[1], device=x.device)[:, None] * 0.1 ** torch.arange(4, device=x.device)
    cosine, sine = angles.cos(), angles.sin()

    def turned(y: Tensor) -> Tensor:
        even, odd = y[..., ::2], y[..., 1::2]
        return torch.cat([even * cosine - odd * sine, even * sine + odd * cosine], -1)

    return mix(turned(q), turned(k), v)


def spatial_gate(self: Call, x: Tensor) -> Tensor:
    u, v = functional.gelu(self.wide(self.norm(x))).chunk(2, -1)
    return x + self.narrow(u * self.mix(self.inner(v).transpose(1, 2)).transpose(1, 2))


def gated(self: Call, x: Tensor) -> Tensor:
    return self.down(functional.silu(self.gate(x)) * self.up(x))


def points(self: Call, x: Tensor) -> Tensor:
    """Points, turned by a matrix that depends on all of them."""
    turn = self.turn(self.first(x).amax(2)).view(-1, 3, 3)
    return self.head(self.second(torch.bmm(turn, x)).amax(2))


def graph_convolution(self: Call, x: Tensor, adjacency: Tensor) -> Tensor:
    degrees = adjacency.sum(-1, keepdim=True).clamp(min=1)
    for layer in (self.first, self.second):
        x = functional.relu(layer((adjacency / degrees) @ x))
    return self.out(x.mean(1))


def graph_attention(self: Call, x: Tensor, adjacency: Tensor) -> Tensor:
    x = self.layer(x)
    scores = functional.leaky_relu(self.source(x) + self.target(x).transpose(1, 2), 0.2)
    return scores.masked_fill(adjacency == 0, -1e9).softmax(-1) @ x


def radiance(self: Call, x: Tensor) -> Tensor:
    """Density and colour at a point, whose code enters again half way."""
    code = torch.cat(
        [function(2.0**power * x) for power in range(3) for function in (torch.sin, torch.cos)], -1
    )
    return self.second(torch.cat([self.first(code), code], -1))


def experts(self: Call, x: Tensor) -> Tensor:
    inner = torch.einsum("bnd,edh->benh", x, self.up).relu()
    return torch.einsum("benh,ehd,bne->bnd", inner, self.down, self.route(x).softmax(-1))


def einsums(self: Call, x: Tensor, y: Tensor) -> Tensor:
    """Forms with broadcasting, transposition, summed and repeated batch axes; x and y are ``(2, 3, 4, 5)``."""
    scores = torch.einsum("bhid,bhjd->bhij", x, y)
    mixed = torch.einsum("bhij,bhjd->bihd", scores, y)
    outer = torch.einsum("bihd,de->beih", mixed, self.weight)
    return torch.einsum("...hw,whk->...k", outer.transpose(2, 3), self.kernel)


def broadcasts(self: Call, x: Tensor) -> Tensor:
    """Products of unequal rank; x is ``(2, 1, 4, 5)``."""
    x = x @ self.several  # (3, 5, 6) -> (2, 3, 4, 6)
    x = self.left @ x  # (7, 4) -> (2, 3, 7, 6)
    return torch.baddbmm(self.bias, x.flatten(0, 1), self.right)  # (6, 6, 8)


def recurrent_cells(self: Call, x: Tensor, hidden: Tensor, second: Tensor) -> Tensor:
    state = hidden
    for step in x.unbind(1):
        hidden, state = self.lstm(step, (hidden, state))
        second = self.gru(hidden, second)
    return self.out(second)


def towers(self: Call, image: Tensor, words: Tensor) -> Tensor:
    """Similarity of all images to all texts."""
    left = functional.normalize(self.image(image), dim=-1)
    right = functional.normalize(self.text(words).mean(1), dim=-1)
    return left @ right.T * self.scale.exp()


def crossing(self: Call, x: Tensor) -> Tensor:
    first = x
    for layer in (self.one, self.two):
        x = first * layer(x) + x
    return self.out(x)


def capsules(self: Call, x: Tensor) -> Tensor:
    votes = (self.weight @ x[:, :, None, :, None]).squeeze(-1)  # (batch, 6 inputs, 3 outputs, 4)
    total = votes.mean(1, keepdim=True)
    return ((votes * total).sum(-1, keepdim=True).softmax(2) * votes).sum(1)


def layer(**options: object) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(16, 2, 24, batch_first=True, **options)


def sequence(*shape: int) -> Tensor:
    return torch.rand(shape)


W = 16  # width of the sequences

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = {
    "axial": (lambda: Call(axial, rows=nn.Linear(W, 48), columns=nn.Linear(W, 48)), (sequence(1, 5, 5, W),)),
    "broadcasts": (lambda: Call(
        broadcasts, several=torch.rand(3, 5, 6), left=torch.rand(7, 4), right=torch.rand(6, 6, 8),
        bias=torch.rand(6, 7, 8),
    ), (sequence(2, 1, 4, 5),)),
    "capsules": (lambda: Call(capsules, weight=torch.rand(6, 3, 4, 5)), (sequence(2, 6, 5),)),
    "conformer": (lambda: nn.Sequential(
        residual(nn.LayerNorm(W), nn.Linear(W, 32), nn.SiLU(), nn.Linear(32, W)), layer(norm_first=True),
        residual(nn.LayerNorm(W), transposed(
            nn.Conv1d(W, 32, 1), nn.GLU(1), nn.Conv1d(W, W, 5, padding=2, groups=W), nn.BatchNorm1d(W),
            nn.SiLU(), nn.Conv1d(W, W, 1))),
    ), (sequence(1, 9, W),)),
    "cross-attention": (lambda: Call(
        cross, attention=nn.MultiheadAttention(W, 4, kdim=10, vdim=10, batch_first=True)
    ), (sequence(2, 5, W), sequence(2, 8, 10))),
    "cross-covariance": (lambda: Call(
        cross_covariance, qkv=nn.Linear(W, 48), temperature=torch.ones(2, 1, 1)
    ), (sequence(2, 9, W),)),
    "cross-network": (lambda: Call(
        crossing, one=nn.Linear(12, 12), two=nn.Linear(12, 12), out=nn.Linear(12, 1)
    ), (sequence(3, 12),)),
    "decoder": (lambda: nn.TransformerDecoder(
        nn.TransformerDecoderLayer(W, 2, 24, batch_first=True, activation="gelu"), 2
    ), (sequence(1, 4, W), sequence(1, 7, W))),
    "einsums": (lambda: Call(
        einsums, weight=torch.rand(5, 6), kernel=torch.rand(4, 3, 7)
    ), (sequence(2, 3, 4, 5), sequence(2, 3, 4, 5))),
    "einsum-chains": (lambda: Call(
        lambda self, x: torch.einsum(
            "bnd,bne,ef->bdf", torch.einsum("bnc,cd,de->bne", x, self.one, self.two), x, self.three
        ), one=torch.rand(4, 5), two=torch.rand(5, 6), three=torch.rand(4, 3),
    ), (sequence(2, 7, 4),)),
    "encoder": (lambda: nn.TransformerEncoder(layer(), 2, enable_nested_tensor=False), (sequence(2, 6, W),)),
    "encoder-decoder": (lambda: nn.Transformer(
        W, 2, 1, 1, 24, batch_first=True
    ), (sequence(1, 6, W), sequence(1, 4, W))),
    "experts": (lambda: Call(
        experts, up=torch.rand(3, W, 8), down=torch.rand(3, 8, W), route=nn.Linear(W, 3)
    ), (sequence(2, 5, W),)),
    "fused-causal": (lambda: Call(fused, qkv=nn.Linear(W, 48)), (sequence(2, 7, W),)),
    "gated": (lambda: Call(
        gated, up=nn.Linear(W, 24, bias=False), gate=nn.Linear(W, 24, bias=False), down=nn.Linear(24, W, bias=False)
    ), (sequence(2, 5, W),)),
    "gmlp": (lambda: Call(
        spatial_gate, norm=nn.LayerNorm(W), wide=nn.Linear(W, 48), inner=nn.LayerNorm(24), mix=nn.Linear(9, 9),
        narrow=nn.Linear(24, W),
    ), (sequence(2, 9, W),)),
    "graph-attention": (lambda: Call(
        graph_attention, layer=nn.Linear(6, 8, bias=False), source=nn.Linear(8, 1), target=nn.Linear(8, 1)
    ), (sequence(1, 10, 6), sequence(1, 10, 10).round())),
    "graph-convolution": (lambda: Call(
        graph_convolution, first=nn.Linear(6, 8), second=nn.Linear(8, 8), out=nn.Linear(8, 3)
    ), (sequence(2, 10, 6), sequence(2, 10, 10).round())),
    "grouped-query": (lambda: Call(
        grouped, q=nn.Linear(W, W), kv=nn.Linear(W, W), out=nn.Linear(W, W)
    ), (sequence(2, 6, W),)),
    "linear-attention": (lambda: Call(linear_attention, qkv=nn.Linear(W, 48)), (sequence(2, 9, W),)),
    "mlp-mixer": (lambda: nn.Sequential(
        nn.Conv2d(3, W, 4, 4), nn.Flatten(2), Call(lambda self, x: x.transpose(1, 2)),
        residual(nn.LayerNorm(W), transposed(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 16))),
        residual(nn.LayerNorm(W), nn.Linear(W, 32), nn.GELU(), nn.Linear(32, W)),
    ), (sequence(1, 3, 16, 16),)),
    "point-net": (lambda: Call(
        points, first=nn.Conv1d(3, 8, 1), turn=nn.Linear(8, 9), second=nn.Conv1d(3, 16, 1), head=nn.Linear(16, 4)
    ), (sequence(2, 3, 30),)),
    "pyramid-vision": (lambda: Call(
        reduced, reduce=nn.Conv2d(W, W, 2, 2), norm=nn.LayerNorm(W), q=nn.Linear(W, W), kv=nn.Linear(W, 32)
    ), (sequence(1, 36, W),)),
    "radiance-field": (lambda: Call(
        radiance, first=nn.Sequential(nn.Linear(18, 16), nn.ReLU()), second=nn.Linear(34, 4)
    ), (sequence(20, 3),)),
    "recurrent-cells": (lambda: Call(
        recurrent_cells, lstm=nn.LSTMCell(4, 6), gru=nn.GRUCell(6, 5), out=nn.Linear(5, 2)
    ), (sequence(2, 3, 4), sequence(2, 6), sequence(2, 5))),
    "rotary": (lambda: Call(rotary, qkv=nn.Linear(W, 48)), (sequence(2, 7, W),)),
    "talking-heads": (lambda: Call(
        talking, qkv=nn.Linear(W, 48), before=nn.Linear(2, 3), after=nn.Linear(3, 2)
    ), (sequence(1, 7, W),)),
    "two-towers": (lambda: Call(
        towers, image=nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Flatten(), nn.Linear(16, 8)),
        text=nn.Sequential(nn.Embedding(20, 6), nn.Linear(6, 8)), scale=torch.zeros(()),
    ), (sequence(2, 3, 8, 8), torch.zeros(3, 5, dtype=torch.long))),
    "window-attention": (lambda: Call(
        window, qkv=nn.Linear(W, 48), out=nn.Linear(W, W), bias=torch.rand(2, 16, 16)
    ), (sequence(1, 8, 12, W),)),
    # recurrent layers, whose loops torch's counter sees when it runs on shapes alone
    "lstm": (lambda: Call(
        lambda self, x: self.head(self.lstm(x)[0]), head=nn.Linear(10, 3),
        lstm=nn.LSTM(6, 5, 2, batch_first=True, bidirectional=True),
    ), (sequence(2, 4, 6),)),
    "gru": (lambda: Call(
        lambda self, x: self.gru(x)[0][:, -1], gru=nn.GRU(6, 5, bidirectional=True)
    ), (sequence(4, 2, 6),)),
    "rnn": (lambda: Call(
        lambda self, x, start: self.rnn(x, start)[1], rnn=nn.RNN(6, 5, 2, nonlinearity="relu")
    ), (sequence(4, 2, 6), sequence(2, 2, 5))),
    "text-image": (lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, (2, 1), 1), nn.ReLU(), nn.Flatten(1, 2), Call(lambda self, x: x.transpose(1, 2)),
        nn.LSTM(16, 6, batch_first=True), Call(lambda self, x: x[0]), nn.Linear(6, 5), nn.LogSoftmax(-1),
    ), (sequence(1, 1, 8, 10),)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_are_half_of_the_flops_of_torch(name: str, torch_macs: Callable[..., int]) -> None:
    make, examples = NETWORKS[name]
    torch.manual_seed(0)
    module = make()
    graph = from_torch(module, examples)
    assert graph.macs == torch_macs(module, *examples) > 0
    assert graph.flops == 2 * graph.macs
    assert canonicalise(graph).macs == graph.macs


@pytest.mark.parametrize("name", list(NETWORKS)[::3])
def test_the_newer_exporter_gives_the_same_macs(name: str, torch_macs: Callable[..., int]) -> None:
    make, examples = NETWORKS[name]
    module, buffer = make().eval(), io.BytesIO()
    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        warnings.simplefilter("ignore")
        torch.onnx.export(module, examples, buffer, dynamo=True, verbose=False)
    assert read_onnx(buffer.getvalue()).macs == torch_macs(module, *examples)


def test_what_depends_on_no_input_is_computed_once() -> None:
    """Products of weights alone are part of the weights: torch's counter, which runs them, counts them."""
    module = Call(lambda self, x: x @ (self.one @ self.two), one=torch.rand(6, 3), two=torch.rand(3, 8))
    assert from_torch(module, sequence(2, 6)).macs == 2 * 6 * 8
