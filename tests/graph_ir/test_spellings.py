from __future__ import annotations

import math

import numpy as np
import pytest

from aiop.graph_ir.reading.spellings import runs

FLOW = "(float[1,4,8,8] x) => (float y)"


@pytest.mark.parametrize(
    ("shape", "axes", "wanted"),
    [
        ((1, 64, 7, 7), {2, 3}, (64, 49)),
        ((64, 49), {1}, (64, 49)),
        ((1, 7, 7, 64), {1, 2}, (1, 49, 64)),
        ((1, 49, 64), {2}, (49, 64)),
        ((2, 3, 4, 5), {1, 3}, (2, 3, 4, 5)),
        ((6,), {0}, (1, 6)),
        ((6, 1), {1}, (6,)),  # nothing is reduced
        ((), set(), (1,)),
    ],
)
def test_runs_do_not_see_how_axes_are_grouped(shape, axes, wanted) -> None:
    assert runs(shape, axes) == wanted


@pytest.mark.parametrize(
    ("nodes", "opset", "op", "scalars"),
    [
        ("y = Clip(x, low, high)", 17, "Clip", (-1.0, 6.0)),
        ("y = Clip(x, low)", 17, "Clip", (-1.0, math.inf)),
        ("y = Clip(x, , high)", 17, "Clip", (-math.inf, 6.0)),
        ("y = Clip<min=-1.0, max=6.0>(x)", 6, "Clip", (-1.0, 6.0)),
        ("y = Clip<min=0.0>(x)", 6, "Relu", ()),
        ("y = Clip(x, zero, most)", 17, "Relu", ()),
    ],
)
def test_limits(graph, nodes: str, opset: int, op: str, scalars: tuple[float, ...]) -> None:
    numbers = {"low": -1, "high": 6, "zero": 0, "most": np.finfo(np.float32).max}
    given = {name: np.float32(value) for name, value in numbers.items()}
    found = graph(f"{FLOW} {{ {nodes} }}", opset, **given).operations[1]
    assert (found.op, found.scalars) == (op, scalars)


@pytest.mark.parametrize(
    ("nodes", "opset", "padding", "scalars"),
    [
        ("y = Pad(x, p)", 17, (0, 1, 2, 3), ()),
        ("y = Pad<pads=[0,0,0,1,0,0,2,3], value=0.5>(x)", 10, (0, 1, 2, 3), (0.5,)),
        ("y = Pad(x, q, half, axes)", 18, (0, 1, 2, 3), (0.5,)),
        ("y = Pad(x, p, least)", 17, (0, 1, 2, 3), (-math.inf,)),
        ("y = Pad(x, c)", 17, (0, 1, 0, 0, 0, 0, 0, 0), ()),  # of channels: all axes
    ],
)
def test_pads(graph, nodes: str, opset: int, padding: tuple[int, ...], scalars: tuple[float, ...]) -> None:
    given = {
        "p": np.array([0, 0, 0, 1, 0, 0, 2, 3]), "q": np.array([1, 0, 3, 2]), "axes": np.array([-1, 2]),
        "c": np.array([0, 1, 0, 0, 0, 0, 0, 0]), "half": np.float32(0.5), "least": np.float32(-3.4028235e38),
    }  # fmt: skip
    found = graph(f"{FLOW} {{ {nodes} }}", opset, **given).operations[1]
    assert (found.padding, found.scalars) == (padding, scalars)


@pytest.mark.parametrize(
    ("node", "attributes"),
    [
        ("y = LeakyRelu<alpha=0.01>(x)", {}),
        ("y = LeakyRelu<alpha=0.1>(x)", {"alpha": 0.1}),
        ("y = Elu<alpha=1.0>(x)", {}),
        ("y = HardSigmoid<alpha=0.16666667>(x)", {"alpha": 0.1667}),
        ("y = ReduceMean<axes=[-1], keepdims=0>(x)", {"span": (32, 8)}),
        ("y = ReduceMin<axes=[-1]>(x)", {"span": (32, 8), "kind": "ReduceMin"}),
        ("y = Selu(x)", {"kind": "Selu"}),
        ("y = AveragePool<kernel_shape=[3,3], count_include_pad=1>(x)", {}),
        (
            "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x)",
            {"count_include_pad": 1},
        ),
    ],
)
def test_attributes_have_one_spelling(graph, node: str, attributes: dict[str, object]) -> None:
    assert dict(graph(f"{FLOW} {{ {node} }}").operations[1].attributes) == attributes
