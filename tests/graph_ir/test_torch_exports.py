"""Networks exported from torch: MACs against its counter, parameters against its own, shapes against onnxruntime."""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aiop.graph_ir import ComputeGraph, TensorSpec, read_onnx
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise


class Residual(nn.Module):
    """Convolution and depthwise convolution, both normalised, and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.wide, self.norm = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.deep, self.last = nn.Conv2d(16, 16, 5, padding=2, groups=16), nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        x = functional.relu(x + self.last(self.deep(functional.silu(self.norm(self.wide(x))))))
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Vit(nn.Module):
    """Patches, class token, positions, two encoder layers."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, stride=8)
        self.token = nn.Parameter(torch.zeros(1, 1, 32))
        self.positions = nn.Parameter(torch.zeros(1, 17, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu", norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.encoder(x)[:, 0]))


class Multihead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(24, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class ScaledDotProduct(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.project(x).reshape(batch, length, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.out(mixed.reshape(batch, length, width))


class Products(nn.Module):
    """Einsum and batched products, with trained and with computed operands."""

    def __init__(self) -> None:
        super().__init__()
        self.bilinear = nn.Parameter(torch.zeros(6, 8))

    def forward(self, x: Tensor) -> Tensor:
        mixed = torch.einsum("bnc,cd->bnd", x, self.bilinear)
        scores = torch.einsum("bnd,bmd->bnm", mixed, mixed)
        return torch.bmm(scores, mixed) @ self.bilinear.T


class Upsampling(nn.Module):
    """Transposed convolutions (plain, grouped, with output padding) between two resizes."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, 2, 1)
        self.up = nn.ConvTranspose2d(8, 12, 4, 2, 1)
        self.grouped = nn.ConvTranspose2d(12, 6, 3, 2, 1, output_padding=1, groups=3, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.interpolate(self.down(image), scale_factor=2.0, mode="bilinear", align_corners=False)
        return functional.interpolate(self.grouped(self.up(x)), size=(20, 28), mode="nearest")


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 10, num_layers=2, batch_first=True, bidirectional=True)
        self.gru, self.head = nn.GRU(20, 7, batch_first=True), nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(self.lstm(x)[0])[0][:, -1])


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, 64, bias=False), nn.Linear(64, 5)
    )


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 12, (3, 5), stride=(2, 1), padding="valid"), nn.Hardswish(),
        nn.Conv2d(12, 12, 3, dilation=2, padding=(2, 1), groups=3), nn.GELU(),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.Conv2d(12, 24, 1, groups=12), nn.GroupNorm(4, 24),
        nn.AvgPool2d(2), nn.PixelShuffle(2), nn.Conv2d(6, 4, 3, padding="same"),
    )  # fmt: skip


def convolutions_1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(4, 8, 5, stride=2), nn.ELU(), nn.ConvTranspose1d(8, 6, 3, 2), nn.Conv1d(6, 2, 1)
    )


def convolutions_3d() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(2, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.Conv3d(6, 6, 3, 2, groups=2)
    )


pytestmark = pytest.mark.filterwarnings("ignore")  # of the exporters

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutions": (convolutions, (2, 3, 21, 30)),
    "convolutions-1d": (convolutions_1d, (1, 4, 33)),
    "convolutions-3d": (convolutions_3d, (1, 2, 6, 8, 10)),
    "mlp": (mlp, (3, 3, 4, 4)),
    "multihead": (Multihead, (2, 9, 24)),
    "products": (Products, (2, 5, 6)),
    "recurrent": (Recurrent, (3, 7, 6)),
    "residual": (Residual, (1, 3, 32, 32)),
    "scaled-dot-product": (ScaledDotProduct, (2, 11, 32)),
    "upsampling": (Upsampling, (1, 3, 16, 20)),
    "vit": (Vit, (1, 3, 32, 32)),
}


@pytest.fixture(scope="module", autouse=True)
def quiet_torch() -> Iterator[None]:
    """Run on one thread, attention as plain products, and without the exporters' messages."""
    threads, fast = torch.get_num_threads(), torch.backends.mha.get_fastpath_enabled()
    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(False)
    logging.disable(logging.WARNING)
    with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)
    torch.backends.mha.set_fastpath_enabled(fast)
    torch.set_num_threads(threads)


def made(name: str) -> tuple[nn.Module, Tensor]:
    """Return a network with random parameters (exporters drop zero biases and share equal ones) and its input."""
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    module = make().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.1)
        for key, buffer in module.named_buffers():
            if key.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 1.5)
    return module, torch.randn(shape)


@cache
def exported(name: str, exporter: str, opset: int = 17, folding: bool = True) -> bytes:
    module, x = made(name)
    buffer = io.BytesIO()
    if exporter == "dynamo":
        torch.onnx.export(module, (x,), buffer, dynamo=True, verbose=False, optimize=folding)
    else:
        torch.onnx.export(
            module, (x,), buffer, dynamo=False, opset_version=opset, do_constant_folding=folding,
            # where folding is wanted, batch norm is folded into the convolution before it
            training=torch.onnx.TrainingMode.EVAL if folding else torch.onnx.TrainingMode.PRESERVE,
        )  # fmt: skip
    return buffer.getvalue()


def counted_macs(module: nn.Module, x: Tensor) -> int:
    if isinstance(module, Recurrent):  # of whose kernels the counter sees only a part
        batch, steps, _ = x.shape
        lstm = 2 * (4 * 10 * (6 + 10)) + 2 * (4 * 10 * (20 + 10))  # two directions, two layers, four gates
        return batch * steps * (lstm + 3 * 7 * (20 + 7)) + batch * 7 * 4
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(x)
    assert counter.get_total_flops() % 2 == 0
    return int(counter.get_total_flops()) // 2


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("name", NETWORKS)
def test_counts_are_those_of_torch(name: str, exporter: str) -> None:
    module, x = made(name)
    graph = read_onnx(exported(name, exporter, folding=False))
    assert graph.macs == counted_macs(module, x)
    params = sum(parameter.numel() for parameter in module.parameters())
    assert graph.params == params


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_are_those_of_onnxruntime(name: str, exporter: str) -> None:
    data = exported(name, exporter, folding=exporter == "torchscript")
    graph = read_onnx(data)
    found = run_everything(data, graph.inputs[0], made(name)[1].numpy(), list(graph.tensors))
    assert graph.tensors == {key: TensorSpec(value.shape, str(value.dtype)) for key, value in found.items()}


def run_everything(data: bytes, input_name: str, x: np.ndarray, tensors: list[str]) -> dict[str, np.ndarray]:
    """Run a network with all tensors as outputs."""
    network = onnx.load_from_string(data)
    del network.graph.output[:]
    network.graph.output.extend(onnx.ValueInfoProto(name=key) for key in tensors)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        network.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return dict(zip(tensors, session.run(tensors, {input_name: x}), strict=True))


@pytest.mark.parametrize("name", ["residual", "mlp", "convolutions", "vit"])
def test_shapes_are_those_of_onnx(name: str) -> None:
    data = exported(name, "torchscript")
    graph = read_onnx(data)
    inferred = onnx.shape_inference.infer_shapes(
        onnx.load_from_string(data), strict_mode=True, data_prop=True
    )
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*inferred.graph.value_info, *inferred.graph.output)
        if value.type.tensor_type.HasField("shape")
        and all(d.dim_value for d in value.type.tensor_type.shape.dim)
    }
    known = [key for key in graph.tensors if key in shapes]
    assert len(known) > 0.7 * len(graph.operations)
    assert {key: graph.tensors[key].shape for key in known} == {key: shapes[key] for key in known}


def canonical(name: str, **how: object) -> ComputeGraph:
    return canonicalise(read_onnx(exported(name, "torchscript", **how)))


@pytest.mark.parametrize("name", ["convolutions", "mlp", "residual", "vit"])
def test_hash_is_that_of_the_network_not_of_the_export(name: str) -> None:
    lowest = 11 if name != "vit" else 17  # before, LayerNorm was written as nine operations
    hashes = {
        (opset, folding): content_hash(canonical(name, opset=opset, folding=folding))
        for opset in {lowest, max(lowest, 14), 17, 18, 20}
        for folding in (True, False)
    }
    assert len(set(hashes.values())) == 1, hashes


@pytest.mark.parametrize("name", ["convolutions-1d", "mlp", "residual"])
def test_hash_is_that_of_the_network_not_of_the_exporter(name: str) -> None:
    dynamo = canonicalise(read_onnx(exported(name, "dynamo")))
    assert content_hash(dynamo) == content_hash(canonical(name))


def test_folded_batch_norm_is_counted_as_in_the_file() -> None:
    torch_params = sum(parameter.numel() for parameter in made("residual")[0].parameters())
    assert read_onnx(exported("residual", "torchscript", folding=False)).params == torch_params
    # per channel of the first: a bias in the place of scale and shift; of the second: the bias there was
    assert read_onnx(exported("residual", "torchscript")).params == torch_params - 16 - 32


def test_a_batch_of_unknown_size_is_read_as_one() -> None:
    module, x = made("residual")
    buffer = io.BytesIO()
    torch.onnx.export(
        module, (torch.cat([x, x]),), buffer, dynamo=False, opset_version=17, input_names=["image"],
        dynamic_axes={"image": {0: "batch"}},
    )  # fmt: skip
    one, four = (read_onnx(buffer.getvalue(), shapes=shapes) for shapes in ({}, {"image": (4, 3, 32, 32)}))
    assert one.tensors["image"].shape == (1, 3, 32, 32)
    assert four.macs == 4 * one.macs == 4 * counted_macs(module, x)
    assert math.prod(four.tensors[four.outputs[0]].shape) == 40
