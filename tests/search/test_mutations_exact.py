"""Mutations where the exact answer is known: what goes computes nothing, or what stays computes all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import Decision, NotApplicableError, Refusal, get_mutation
from aiop.search.mutations.factors import per_channel, two_factors
from aiop.search.mutations.following import follow
from aiop.search.mutations.low_rank import replace_by_rank
from aiop.search.mutations.regrouping import groups, regroup
from aiop.search.mutations.sequence import mutate

Array = npt.NDArray[np.float32]


def build(
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, npt.NDArray[np.generic]],
    shape: Sequence[int | str] = (1, 6, 12, 12),
    output: str = "y",
    rank: int = 4,
    opset: int = 20,
) -> EditableNetwork:
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return EditableNetwork.read(model, name="small")


def run(network: EditableNetwork, x: Array) -> Array:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(network.check().SerializeToString(), options)
    return np.asarray(session.run(None, {"x": x})[0])


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def changed(network: EditableNetwork, mutation: str, where: str, amount: float = 0.0) -> EditableNetwork:
    copy = network.clone()
    get_mutation(mutation).apply(copy, where, amount)
    return copy


def rim_of_zeros(side: int, kept: int, *shape: int) -> Array:
    weight = np.zeros((*shape, side, side), np.float32)
    cut = (side - kept) // 2
    weight[..., cut : cut + kept, cut : cut + kept] = drawn(*shape, kept, kept)
    return weight


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "plain": ((8, 6), {"pads": [2, 2, 2, 2]}),
    "strided": ((8, 6), {"pads": [2, 2, 2, 2], "strides": [2, 2]}),
    "dilated": ((8, 6), {"pads": [4, 4, 4, 4], "dilations": [2, 2]}),
    "grouped": ((8, 3), {"pads": [2, 2, 2, 2], "group": 2}),
    "depthwise": ((6, 1), {"pads": [2, 2, 2, 2], "group": 6}),
    "padded more": ((8, 6), {"pads": [3, 2, 4, 5]}),
    "same": ((8, 6), {"auto_pad": "SAME_UPPER"}),
    "same and strided": ((8, 6), {"auto_pad": "SAME_LOWER", "strides": [3, 3]}),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("kept", [3, 1])
def test_a_kernel_whose_rim_is_zero_gives_the_same(kind: str, kept: int) -> None:
    channels, attributes = CONVOLUTIONS[kind]
    weights = {"w": rim_of_zeros(5, kept, *channels), "b": drawn(channels[0])}
    network = build([helper.make_node("Conv", ["x", "w", "b"], ["y"], name="c", **attributes)], weights)
    x = drawn(1, 6, 12, 12, seed=1)
    if (kind, kept) == ("same and strided", 1):  # pads 2 rows in all, where 4 would have to go
        assert get_mutation("kernel").sites(network)[0].amounts == (3 / 5,)
        return
    smaller = changed(network, "kernel", "c", kept / 5)
    weight = smaller.value("w")
    assert smaller.shape(weight) == (*channels, kept, kept)
    np.testing.assert_array_equal(run(smaller, x).shape, run(network, x).shape)
    np.testing.assert_allclose(run(smaller, x), run(network, x), rtol=1e-5, atol=1e-5)


def test_a_transposed_convolution_is_cropped_too() -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="c", strides=[2, 2], pads=[1, 1, 1, 1])
    network = build([node], {"w": rim_of_zeros(4, 2, 6, 8)})
    x = drawn(1, 6, 12, 12)
    np.testing.assert_allclose(
        run(changed(network, "kernel", "c", 0.5), x), run(network, x), rtol=1e-5, atol=1e-5
    )


def test_kernels_of_unequal_sides() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="c", pads=[0, 3, 0, 3])
    network = build([node], {"w": drawn(8, 6, 1, 7)})
    assert get_mutation("kernel").sites(network)[0].amounts == (5 / 7, 3 / 7, 1 / 7)
    smaller = changed(network, "kernel", "c", 3 / 7)
    assert smaller.shape(smaller.value("w")) == (8, 6, 1, 3)
    assert smaller.node("c").attributes["pads"].as_ints() == (0, 1, 0, 1)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("attributes", "side", "reason"),
    [
        ({}, 3, "padding 0 and 0"),
        ({"pads": [0, 0, 1, 1], "strides": [2, 2]}, 3, "padding 0 and 1"),
        ({"pads": [1, 1, 1, 1]}, 2, "no centre"),
    ],
)
def test_kernels_that_cannot_keep_their_output_stay(
    attributes: dict[str, Any], side: int, reason: str
) -> None:
    network = build(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="c", **attributes)], {"w": drawn(8, 6, side, side)}
    )
    assert get_mutation("kernel").sites(network) == []
    assert reason in get_mutation("kernel").refusals(network)[0].reason


@pytest.mark.parametrize("kind", ["plain", "strided", "dilated", "padded more", "same"])
def test_a_separable_kernel_gives_the_same(kind: str) -> None:
    channels, attributes = CONVOLUTIONS[kind]
    spatial, mixing = drawn(channels[1], 5, 5), drawn(*channels, seed=1)
    weight = np.einsum("oc,chw->ochw", mixing, spatial)
    network = build(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="c", **attributes)],
        {"w": weight, "b": drawn(channels[0])},
    )
    x = drawn(1, 6, 12, 12, seed=2)
    separate = changed(network, "separable", "c")
    assert [(node.name, node.op_type) for node in separate.graph] == [
        ("c.depthwise", "Conv"),
        ("c.pointwise", "Conv"),
    ]
    assert network.macs / separate.macs == pytest.approx(8 * 6 * 25 / (6 * 25 + 6 * 8))
    np.testing.assert_allclose(run(separate, x), run(network, x), rtol=1e-4, atol=1e-4)


def test_the_nearest_separable_kernel_is_that_of_the_singular_values() -> None:
    weight = drawn(7, 3, 3, 3)
    spatial, mixing = per_channel(numpy_tensor(weight))
    for channel in range(3):
        u, s, v = np.linalg.svd(weight[:, channel].reshape(7, 9).astype(np.float64))
        nearest = s[0] * np.outer(u[:, 0], v[0])
        np.testing.assert_allclose(
            np.outer(mixing[:, channel], spatial[channel]), nearest, rtol=1e-4, atol=1e-5
        )


def numpy_tensor(values: Array) -> ir.TensorProtocol:
    return ir.Tensor(values)


@pytest.mark.parametrize(("rows", "columns"), [(5, 12), (12, 5), (6, 6)])
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_two_factors_are_those_of_the_singular_values(rows: int, columns: int, rank: int) -> None:
    matrix = drawn(rows, columns)
    left = two_factors(numpy_tensor(matrix), "matrix", lambda array: array)[:, :rank]
    u, s, v = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    np.testing.assert_allclose(
        left @ (left.T @ matrix), (u[:, :rank] * s[:rank]) @ v[:rank], rtol=1e-4, atol=1e-4
    )


def test_two_factors_of_a_deficient_matrix() -> None:
    matrix = np.outer(drawn(9), drawn(4, seed=1)).astype(np.float32)
    left = two_factors(numpy_tensor(matrix), "matrix", lambda array: array)
    assert np.isfinite(left).all()
    np.testing.assert_allclose(left[:, :1] @ (left[:, :1].T @ matrix), matrix, rtol=1e-4, atol=1e-5)


PRODUCTS: dict[str, tuple[onnx.NodeProto, tuple[int, ...], tuple[int, ...], int]] = {
    "convolution": (
        helper.make_node("Conv", ["x", "w", "b"], ["y"], name="p", pads=[1, 1, 1, 1], strides=[2, 2]),
        (9, 6, 3, 3),
        (1, 6, 12, 12),
        9,
    ),
    "pointwise": (helper.make_node("Conv", ["x", "w", "b"], ["y"], name="p"), (9, 6, 1, 1), (1, 6, 4, 4), 6),
    "gemm": (
        helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="p", transB=1, alpha=0.5, beta=2.0),
        (9, 6),
        (4, 6),
        6,
    ),
    "gemm, inputs first": (helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="p"), (6, 9), (4, 6), 6),
    "matmul": (helper.make_node("MatMul", ["x", "w"], ["y"], name="p"), (6, 9), (2, 3, 6), 6),
}


@pytest.mark.parametrize("kind", PRODUCTS)
def test_the_full_rank_gives_the_same(kind: str) -> None:
    node, weight, shape, full = PRODUCTS[kind]
    weights = {"w": drawn(*weight), "b": drawn(9)} if len(node.input) > 2 else {"w": drawn(*weight)}
    network = build([node], weights, shape, rank=len(shape))
    x = drawn(*shape, seed=3)
    same = network.clone()
    found = same.node("p")
    assert found is not None
    replace_by_rank(same, found, full)
    same.infer()
    assert [node.name for node in same.graph] == ["p.reduce", "p.restore"]
    np.testing.assert_allclose(run(same, x), run(network, x), rtol=1e-4, atol=1e-4)
    # and a lower one costs at most the share asked for
    lower = changed(network, "low-rank", "p", 0.5)
    assert lower.macs <= 0.5 * network.macs
    assert run(lower, x).shape == run(network, x).shape


def residual(scale: float) -> EditableNetwork:
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], name="stem"),
        helper.make_node("Conv", ["a", "w1"], ["b1"], name="one", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["b1"], ["b2"], name="act"),
        helper.make_node("GlobalAveragePool", ["b2"], ["g1"], name="pool"),
        helper.make_node("Conv", ["g1", "w2"], ["g2"], name="gate"),
        helper.make_node("Sigmoid", ["g2"], ["g3"], name="sigmoid"),
        helper.make_node("Mul", ["b2", "g3"], ["b3"], name="gated"),
        helper.make_node("Mul", ["b3", "gamma"], ["b4"], name="scale"),
        helper.make_node("Add", ["b4", "a"], ["y"], name="sum"),
    ]
    weights = {
        "w0": drawn(8, 6, 1, 1),
        "w1": drawn(8, 8, 3, 3),
        "w2": drawn(8, 8, 1, 1),
        "gamma": np.full((1, 8, 1, 1), scale, np.float32),
    }
    return build(nodes, weights)


def test_a_block_whose_branch_is_zero_goes_without_a_trace() -> None:
    network, x = residual(0.0), drawn(1, 6, 12, 12)
    shorter = changed(network, "block", "sum")
    assert [node.op_type for node in shorter.graph] == ["Conv"]  # it takes the name of the output
    np.testing.assert_array_equal(run(shorter, x), run(network, x))
    assert not np.allclose(run(shorter, x), run(residual(1.0), x))


def test_layers_inside_a_residual_branch_go_with_it_only() -> None:
    network = residual(1.0)
    assert [site.where for site in get_mutation("block").sites(network)] == ["sum"]
    with pytest.raises(NotApplicableError, match="part of a residual branch"):
        get_mutation("block").apply(network, "one", 0.0)


def test_a_branch_that_is_read_elsewhere_stays() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], name="stem"),
        helper.make_node("Conv", ["a", "w1"], ["b"], name="one"),
        helper.make_node("Conv", ["b", "w1"], ["c"], name="two"),
        helper.make_node("Add", ["a", "c"], ["d"], name="sum"),
        helper.make_node("Add", ["d", "b"], ["y"], name="last"),
    ]
    network = build(nodes, {"w0": drawn(8, 6, 1, 1), "w1": drawn(8, 8, 1, 1)})
    reasons = {refusal.where: refusal.reason for refusal in get_mutation("block").refusals(network)}
    assert "read elsewhere" in reasons["sum"]


CURVES: dict[str, tuple[list[onnx.NodeProto], dict[str, float], str]] = {
    "silu": (
        [helper.make_node("Sigmoid", ["c"], ["s"], name="a"), helper.make_node("Mul", ["c", "s"], ["y"])],
        {},
        "SiLU",
    ),
    "mish": (
        [
            helper.make_node("Softplus", ["c"], ["s"], name="a"),
            helper.make_node("Tanh", ["s"], ["t"]),
            helper.make_node("Mul", ["t", "c"], ["y"]),
        ],
        {},
        "Mish",
    ),
    "gelu": (
        [
            helper.make_node("Div", ["c", "root"], ["s"]),
            helper.make_node("Erf", ["s"], ["t"], name="a"),
            helper.make_node("Add", ["t", "one"], ["u"]),
            helper.make_node("Mul", ["c", "u"], ["v"]),
            helper.make_node("Mul", ["v", "half"], ["y"]),
        ],
        {"root": 2**0.5, "one": 1.0, "half": 0.5},
        "GELU",
    ),
    "hard": (
        [
            helper.make_node("Add", ["c", "three"], ["s"]),
            helper.make_node("Clip", ["s", "zero", "six"], ["t"], name="a"),
            helper.make_node("Div", ["t", "six"], ["u"]),
            helper.make_node("Mul", ["u", "c"], ["y"]),
        ],
        {"three": 3.0, "zero": 0.0, "six": 6.0},
        "HardSwish",
    ),
    "whole": ([helper.make_node("Gelu", ["c"], ["y"], name="a")], {}, "Gelu"),
    "elu": ([helper.make_node("Elu", ["c"], ["y"], name="a")], {}, "Elu"),
}


@pytest.mark.parametrize("kind", CURVES)
def test_an_activation_gives_the_same_where_both_agree(kind: str) -> None:
    nodes, numbers, name = CURVES[kind]
    weights: dict[str, npt.NDArray[np.generic]] = {"w": np.eye(6, dtype=np.float32)[:, :, None, None]}
    weights |= {key: np.array(value, np.float32) for key, value in numbers.items()}
    network = build([helper.make_node("Conv", ["x", "w"], ["c"], name="conv"), *nodes], weights)
    cheap = changed(network, "activation", "a")
    assert [node.op_type for node in cheap.graph] == ["Conv", "Relu"]
    assert name in mutate(network, [Decision("activation", "a", 0.0)])[1][0].text
    far = np.abs(drawn(1, 6, 12, 12)) + 25  # identity there, and zero on the other side for all but Elu
    np.testing.assert_allclose(run(cheap, far), run(network, far), rtol=1e-5)
    if kind != "elu":
        np.testing.assert_allclose(run(network, -far), 0, atol=1e-6)
    np.testing.assert_array_equal(run(cheap, -far), 0)


def test_a_gate_becomes_a_hard_one_and_an_output_stays() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Sigmoid", ["c"], ["s"], name="gate"),
        helper.make_node("Mul", ["x", "s"], ["m"]),
        helper.make_node("Sigmoid", ["m"], ["n"], name="last"),
        helper.make_node("Flatten", ["n"], ["y"]),
    ]
    network = build(nodes, {"w": drawn(6, 6, 1, 1)}, rank=2)
    step = get_mutation("activation")
    assert [site.where for site in step.sites(network)] == ["gate"]
    assert step.refusals(network) == [Refusal("activation", "last", "it gives an output of the network")]
    hard = changed(network, "activation", "gate")
    x = np.zeros((1, 6, 12, 12), np.float32)  # sigmoid(0) is 1/2 in both
    np.testing.assert_allclose(run(hard, x), run(network, x))
    assert "HardSigmoid" in [node.op_type for node in hard.graph]


@pytest.mark.parametrize(
    ("source", "target", "changes", "expected"),
    [
        ((1, 8, 14, 14), (1, 8, 196), (1, 8, 12, 12), (1, 8, 144)),
        ((1, 196, 24), (1, 196, 3, 8), (1, 144, 24), (1, 144, 3, 8)),
        ((1, 32, 16, 16), (1, 4, 2048), (1, 32, 8, 8), (1, 4, 512)),  # groups of channels
        ((1, 3, 64, 64), (1, 3, 16, 4, 16, 4), (1, 3, 32, 32), (1, 3, 8, 4, 8, 4)),  # pixels to channels
        ((1, 56, 56, 8), (1, 8, 7, 8, 7, 8), (1, 48, 48, 8), None),  # windows
        ((1, 196, 8), (1, 14, 14, 8), (1, 144, 8), None),  # rows that nobody knows of
        ((None, 8, 4, 4), (None, 128), (None, 8, 2, 2), (None, 32)),
    ],
)
def test_regrouping(
    source: tuple[int | None, ...],
    target: tuple[int | None, ...],
    changes: tuple[int | None, ...],
    expected: tuple[int | None, ...] | None,
) -> None:
    assert regroup(source, target, changes, {}, lambda old, new: None) == expected


def test_regrouping_remembers_rows() -> None:
    known = {(14, 14): (12, 12)}
    found = regroup((1, 196, 8), (1, 14, 14, 8), (1, 144, 8), known, lambda old, new: None)  # type: ignore[arg-type]
    assert found == (1, 12, 12, 8)
    assert groups((2, 3), (7,)) is None


def sized(
    tail: Callable[[], tuple[list[onnx.NodeProto], dict[str, npt.NDArray[np.generic]]]],
) -> EditableNetwork:
    nodes, weights = tail()
    first = helper.make_node("Conv", ["x", "w"], ["c"], name="conv", strides=[2, 2], pads=[1, 1, 1, 1])
    return build([first, *nodes], {"w": drawn(4, 3, 3, 3), **weights}, (1, 3, 32, 32))


def test_resolution_follows_into_constants() -> None:
    def tail() -> tuple[list[onnx.NodeProto], dict[str, npt.NDArray[np.generic]]]:
        return [
            helper.make_node("Reshape", ["c", "tokens"], ["t"], name="flatten"),
            helper.make_node("Softmax", ["t"], ["s"]),
            helper.make_node("Reshape", ["s", "map"], ["m"], name="unflatten"),
            helper.make_node("Resize", ["m", "", "", "sizes"], ["y"], name="up", mode="nearest"),
        ], {
            "tokens": np.array([1, 4, 256]),
            "map": np.array([1, 4, 16, 16]),
            "sizes": np.array([1, 4, 32, 32]),
        }

    network = sized(tail)
    smaller = changed(network, "resolution", "x", 0.5)
    assert run(smaller, drawn(1, 3, 16, 16)).shape == (1, 4, 16, 16)
    assert get_mutation("resolution").sites(network)[0].amounts == (0.875, 0.75, 0.625, 0.5)
    assert smaller.macs * 4 == network.macs
    plan = follow(network, {"x": (1, 3, 16, 16)})
    assert {change.node: change.values.tolist() for change in plan.constants} == {
        "flatten": [1, 4, 64],
        "unflatten": [1, 4, 8, 8],
        "up": [1, 4, 16, 16],
    }


def test_resolution_leaves_positions_alone() -> None:
    def tail() -> tuple[list[onnx.NodeProto], dict[str, npt.NDArray[np.generic]]]:
        return [helper.make_node("Add", ["c", "positions"], ["y"], name="add")], {
            "positions": drawn(1, 4, 16, 16)
        }

    network = sized(tail)
    (refusal,) = get_mutation("resolution").refusals(network)
    assert "position constant positions of 1x4x16x16" in refusal.reason
    with pytest.raises(NotApplicableError):
        get_mutation("resolution").apply(network, "x", 0.5)


def test_shared_weights_are_changed_for_one_node_only() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="one", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w"], ["y"], name="two", pads=[1, 1, 1, 1]),
    ]
    weight = rim_of_zeros(3, 1, 6, 6)
    network = build(nodes, {"w": weight})
    smaller = changed(network, "kernel", "two", 1 / 3)
    one, two = smaller.node("one"), smaller.node("two")
    assert one is not None
    assert two is not None
    assert smaller.shape(one.inputs[1]) == (6, 6, 3, 3)
    assert smaller.shape(two.inputs[1]) == (6, 6, 1, 1)
    x = drawn(1, 6, 12, 12)
    np.testing.assert_allclose(run(smaller, x), run(network, x), rtol=1e-5, atol=1e-5)


def test_nodes_that_are_left_alone_have_a_reason() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale"], ["w"], name="weights"),
        helper.make_node("Conv", ["x", "w"], ["y"], name="quantised", pads=[1, 1, 1, 1]),
    ]
    weights: dict[str, npt.NDArray[np.generic]] = {
        "q": np.ones((8, 6, 3, 3), np.int8),
        "scale": np.array(0.1, np.float32),
    }
    network = build(nodes, weights)
    for name in ("kernel", "separable", "low-rank"):
        (refusal,) = get_mutation(name).refusals(network)
        assert refusal.where == "quantised"
        assert "DequantizeLinear" in refusal.reason
