"""Element operations: by arithmetic, and against fvcore where it counts the same."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest

from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph, read_onnx

IMAGE = "(float[2,6,8,10] x) => (float y)"
ELEMENTS = 2 * 6 * 8 * 10
CHANNELS = np.ones(6, np.float32)

CASES = [
    ("y = Relu(x)", {}, ELEMENTS),
    ("y = Sigmoid(x)", {}, 4 * ELEMENTS),  # 1 / (1 + exp(-x))
    ("y = HardSwish(x)", {}, 4 * ELEMENTS),
    ("y = Softmax(x)", {}, 5 * ELEMENTS),  # largest, difference, exp, sum, division
    ("y = Add(x, x)", {}, ELEMENTS),
    ("y = Sum(x, x, x)", {}, 2 * ELEMENTS),
    ("y = Sum(x)", {}, 0),
    ("y = Mul(x, w)", {"w": (6, 1, 1)}, ELEMENTS),
    ("y = BatchNormalization(x, w, w, w, w)", {"w": CHANNELS}, 2 * ELEMENTS),
    ("y = InstanceNormalization(x, w, w)", {"w": CHANNELS}, 5 * ELEMENTS),
    ("y = LayerNormalization(x, w)", {"w": (10,)}, 5 * ELEMENTS),
    ("y = MeanVarianceNormalization(x)", {}, 4 * ELEMENTS),
    ("y = LRN<size=5>(x)", {}, 8 * ELEMENTS),
    ("y = LpNormalization<axis=1>(x)", {}, 2 * ELEMENTS),
    # windows and reductions
    ("y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)", {}, 9 * 2 * 6 * 4 * 5),
    ("y = AveragePool<kernel_shape=[2,2], strides=[2,2]>(x)", {}, 4 * 2 * 6 * 4 * 5),
    ("y = GlobalAveragePool(x)", {}, ELEMENTS),
    ("y = ReduceMean<axes=[2,3]>(x)", {}, ELEMENTS),
    ("y = ReduceMax<axes=[1], keepdims=0>(x)", {}, ELEMENTS),
    ("y = ReduceL2<axes=[1]>(x)", {}, 2 * ELEMENTS),
    ("y = ArgMax<axis=1>(x)", {}, ELEMENTS),
    # interpolation: source elements that one is weighed of
    ('y = Resize<mode="nearest">(x, , s)', {"s": np.array([1, 1, 2, 2], np.float32)}, 4 * ELEMENTS),
    ('y = Resize<mode="linear">(x, , s)', {"s": np.array([1, 1, 2, 2], np.float32)}, 4 * 4 * ELEMENTS),
    ('y = Resize<mode="cubic">(x, , s)', {"s": np.array([1, 1, 2, 2], np.float32)}, 16 * 4 * ELEMENTS),
    ('y = Resize<mode="linear">(x, , s)', {"s": np.array([1, 1, 1, 2], np.float32)}, 2 * 2 * ELEMENTS),
    # bias
    ("y = Conv(x, w)", {"w": (4, 6, 1, 1)}, 0),
    ("y = Conv(x, w, b)", {"w": (4, 6, 1, 1), "b": (4,)}, 2 * 4 * 8 * 10),
    ("y = MatMul(x, w)", {"w": (10, 3)}, 0),
    # none
    ("y = Transpose(x)", {}, 0),
    ("y = Concat<axis=1>(x, x)", {}, 0),
    ("y = Reshape(x, s)", {"s": np.array([2, -1])}, 0),
    ("y = Slice(x, a, b)", {"a": np.array([0]), "b": np.array([1])}, 0),
    ("y = Pad(x, p)", {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}, 0),
    ("y = Expand(x, s)", {"s": np.array([3, 2, 6, 8, 10])}, 0),
    ("y = Cast<to=10>(x)", {}, 0),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "weights", "count"), CASES, ids=[case[0][:50] for case in CASES])
def test_counts(graph, nodes: str, weights: dict[str, object], count: int) -> None:
    found = graph(f"{IMAGE} {{ {nodes} }}", **weights)
    assert found.elementwise == count
    assert found.elementwise == sum(operation.elementwise for operation in found.operations)


def test_attention_counts_its_softmax(graph) -> None:
    # 7 queries, 9 keys, 4 heads: scale and softmax of every score
    found = graph(
        "(float[2,4,7,5] q, float[2,4,9,5] k, float[2,4,9,6] v) => (float y) { y = Attention(q, k, v) }", 23
    )
    assert found.elementwise == 2 * 4 * 7 * 9 * 6


def test_element_operations_are_not_in_the_macs(graph) -> None:
    found = graph(f"{IMAGE} {{ a = Conv(x, w) b = Relu(a) y = Add(b, b) }}", w=(4, 6, 1, 1))
    assert found.macs == 2 * 80 * 4 * 6
    assert found.flops == 2 * found.macs
    assert found.elementwise == 2 * (2 * 80 * 4)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_counts_alike_in_one_piece_and_in_several(graph, approximate: str) -> None:
    whole = graph(f'(float[4,8] x) => (float y) {{ y = Gelu<approximate="{approximate}">(x) }}', 20)
    text = (
        "(float[4,8] x) => (float y) { a = Div(x, r) e = Erf(a) p = Add(e, o) m = Mul(x, p) y = Mul(m, h) }"
    )
    pieces = graph(text, r=np.float32(np.sqrt(2)), o=np.float32(1), h=np.float32(0.5))
    assert whole.elementwise == pieces.elementwise == 5 * 32


# -- against fvcore


def exported(module, *inputs) -> ComputeGraph:
    import torch

    buffer = io.BytesIO()
    torch.onnx.export(
        module.eval(), inputs, buffer, opset_version=17, dynamo=False, do_constant_folding=False
    )
    return read_onnx(buffer.getvalue())


LAYERS: dict[str, Callable[..., object]] = {
    "batch norm": lambda nn: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(6)),
    "layer norm": lambda nn: nn.LayerNorm((8, 10)),
    "layer norm without weights": lambda nn: nn.LayerNorm((8, 10), elementwise_affine=False),
    "instance norm": lambda nn: nn.InstanceNorm2d(6, affine=True),
    "bilinear": lambda nn: nn.Upsample(scale_factor=2, mode="bilinear"),
    "nearest": lambda nn: nn.Upsample(scale_factor=2, mode="nearest"),
    "adaptive pool": lambda nn: nn.AdaptiveAvgPool2d(1),
}
FVCORE = {
    "batch_norm",
    "layer_norm",
    "instance_norm",
    "upsample_bilinear2d",
    "upsample_nearest2d",
    "adaptive_avg_pool2d",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LAYERS)
def test_norms_and_interpolation_count_as_in_fvcore(name: str) -> None:
    torch = pytest.importorskip("torch")
    fvcore = pytest.importorskip("fvcore.nn")
    module, x = LAYERS[name](torch.nn).eval(), torch.randn(2, 6, 8, 10)
    counted = fvcore.FlopCountAnalysis(module, x)
    counted.unsupported_ops_warnings(False)
    expected = sum(count for operator, count in counted.by_operator().items() if operator in FVCORE)
    assert expected > 0
    found = exported(module, x)
    relu = ELEMENTS if name == "batch norm" else 0
    if name == "layer norm without weights":  # exported with ones and zeros in their place
        expected += ELEMENTS
    assert found.elementwise - relu == expected


def test_an_absurd_count_is_a_fault_of_the_file(graph) -> None:
    with pytest.raises(AiopError, match="element operations; check its attributes"):
        graph(f"{IMAGE} {{ y = LRN<size={1 << 60}>(x) }}")
    assert graph(f"{IMAGE} {{ y = LRN<size=-5>(x) }}").elementwise == 4 * ELEMENTS
