"""Arithmetic on constants against onnx's reference implementation."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from aiop.graph_ir.reading.folding import fold
from aiop.graph_ir.reading.messages import attribute_value
from aiop.graph_ir.values import LARGEST_FOLDED, Node, Tensor

INTS = np.array([7, -7, 3, 0, 12])
HALVES = np.array([[-1.5, 0.5, 2.5], [3.0, -0.25, 8.0]], np.float32)

CASES = [
    ("y = Add(a, b)", {"a": INTS, "b": np.array([[1], [2]])}),
    ("y = Sub(a, b)", {"a": INTS, "b": np.int64(2)}),
    ("y = Mul(a, b)", {"a": HALVES, "b": np.float32(4)}),
    ("y = Div(a, b)", {"a": INTS, "b": np.array([2, 2, -2, 5, 5])}),
    ("y = Div(a, b)", {"a": HALVES, "b": np.float32(3)}),
    ("y = Mod(a, b)", {"a": INTS, "b": np.array([3, 3, -2, 5, 5])}),
    ("y = Mod<fmod=1>(a, b)", {"a": HALVES, "b": np.float32(2)}),
    ("y = Pow(a, b)", {"a": HALVES, "b": np.float32(2)}),
    ("y = Min(a, b)", {"a": HALVES, "b": np.float32(1)}),
    ("y = Max(a, b, c)", {"a": HALVES, "b": np.float32(1), "c": np.array([0, 1, 9], np.float32)}),
    ("y = Neg(a)", {"a": INTS}),
    ("y = Abs(a)", {"a": HALVES}),
    ("y = Sign(a)", {"a": INTS}),
    ("y = Sqrt(a)", {"a": np.array([4, 2], np.float32)}),
    ("y = Exp(a)", {"a": HALVES}),
    ("y = Log(a)", {"a": np.array([4, 2], np.float32)}),
    ("y = Ceil(a)", {"a": HALVES}),
    ("y = Floor(a)", {"a": HALVES}),
    ("y = Round(a)", {"a": HALVES}),
    ("y = Reciprocal(a)", {"a": HALVES}),
    ("y = Equal(a, b)", {"a": INTS, "b": np.int64(3)}),
    ("y = Greater(a, b)", {"a": INTS, "b": np.int64(3)}),
    ("y = LessOrEqual(a, b)", {"a": INTS, "b": np.int64(3)}),
    ("y = Not(a)", {"a": INTS > 3}),
    ("y = And(a, b)", {"a": INTS > 3, "b": INTS < 9}),
    ("y = Where(a, b, c)", {"a": INTS > 3, "b": INTS, "c": np.int64(-1)}),
    ("y = Concat<axis=0>(a, b)", {"a": INTS, "b": INTS[:2]}),
    ("y = Gather(a, b)", {"a": INTS, "b": np.array([[0, -1]])}),
    ("y = Gather<axis=-1>(a, b)", {"a": HALVES, "b": np.int64(1)}),
    ("y = Slice(a, s, e, x, t)",
     {"a": HALVES, "s": np.array([-1]), "e": np.array([-9]), "x": np.array([1]), "t": np.array([-2])}),
    ("y = Slice(a, s, e)", {"a": INTS, "s": np.array([1]), "e": np.array([2**62])}),
    ("y = Slice(a, s, e, , t)", {"a": INTS, "s": np.array([0]), "e": np.array([4]), "t": np.array([2])}),
    ("y = Reshape(a, s)", {"a": HALVES, "s": np.array([0, -1, 1])}),
    ("y = Squeeze(a, x)", {"a": INTS[None], "x": np.array([0])}),
    ("y = Squeeze(a)", {"a": INTS[None]}),
    ("y = Unsqueeze(a, x)", {"a": INTS, "x": np.array([0, -1])}),
    ("y = Transpose(a)", {"a": HALVES}),
    ("y = Transpose<perm=[1,0]>(a)", {"a": HALVES}),
    ("y = Cast<to=7>(a)", {"a": HALVES}),
    ("y = Cast<to=9>(a)", {"a": HALVES}),
    ("y = Expand(a, s)", {"a": HALVES, "s": np.array([2, 1, 1])}),
    ("y = Tile(a, s)", {"a": HALVES, "s": np.array([2, 1])}),
    ("y = Range(a, b, c)", {"a": np.int64(9), "b": np.int64(-2), "c": np.int64(-3)}),
    ("y = Range(a, b, c)", {"a": np.float32(0), "b": np.float32(1), "c": np.float32(0.3)}),
    ("y = Clip(a, b, c)", {"a": HALVES, "b": np.float32(-1), "c": np.float32(2)}),
    ("y = Clip(a, , c)", {"a": HALVES, "c": np.float32(0)}),
    ("y = CumSum(a, x)", {"a": INTS, "x": np.int64(0)}),
    ("y = ScatterND(a, i, u)", {"a": INTS, "i": np.array([[1], [3]]), "u": np.array([8, 9])}),
    ("y = ReduceProd<keepdims=0>(a)", {"a": INTS[:3]}),
    ("y = ReduceMax<axes=[1]>(a)", {"a": HALVES}),
    ("y = ReduceMin<axes=[-2], keepdims=0>(a)", {"a": HALVES}),
    ("y = ReduceMean<axes=[0]>(a)", {"a": HALVES}),
    ("y = ReduceSum(a, x)", {"a": HALVES, "x": np.array([1])}),
    ("y = ReduceSum<noop_with_empty_axes=1>(a)", {"a": HALVES}),
    ("y = NonZero(a)", {"a": np.array([[1, 0], [1, 1]])}),
    ("y, z = Split<axis=1>(a, s)", {"a": HALVES, "s": np.array([1, 2])}),
    ("y, z, w = Split<axis=1>(a)", {"a": HALVES}),
]  # fmt: skip


def parsed(text: str, constants: dict[str, object], opset: int = 17) -> tuple[onnx.ModelProto, Node]:
    names = [name.strip() for name in text.split("=")[0].split(",")]
    outputs = ", ".join(f"float {name}" for name in names)
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]> net () => ({outputs}) {{ {text} }}'
    )
    tensors = {}
    for name, value in constants.items():
        array = np.asarray(value)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        tensors[name] = tensor = Tensor(name, array.shape, str(array.dtype), constant=True)
        tensor.set_value(array)
    proto = model.graph.node[0]
    attributes = {attribute.name: attribute_value(attribute) for attribute in proto.attribute}
    inputs = [tensors.get(name) for name in proto.input]
    return model, Node("n", proto.op_type, "", attributes, inputs, len(proto.output), opset)


@pytest.mark.parametrize(("text", "constants"), CASES, ids=[case[0] for case in CASES])
def test_values_are_those_of_the_reference(text: str, constants: dict[str, object]) -> None:
    model, node = parsed(text, constants)
    for value, expected in zip(fold(node), ReferenceEvaluator(model).run(None, {}), strict=True):
        assert value is not None
        assert (value.shape, value.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(value, expected, rtol=1e-6)


ROW, COLUMN = np.zeros((1, LARGEST_FOLDED), np.int64), np.zeros((LARGEST_FOLDED, 1), np.int64)
NOT_FOLDED = [
    ("y = Div(a, b)", {"a": INTS, "b": np.int64(0)}),
    ("y = Mod(a, b)", {"a": INTS, "b": np.int64(0)}),
    ("y = Add(a, b)", {"a": INTS, "b": INTS[:2]}),
    ("y = Gather(a, b)", {"a": INTS, "b": np.int64(5)}),
    ("y = Range(a, b, c)", {"a": np.int64(0), "b": np.int64(5), "c": np.int64(0)}),
    ("y = Relu(a)", {"a": HALVES}),  # nothing computes shapes with it
    ("y = CumSum<reverse=1>(a, x)", {"a": INTS, "x": np.int64(0)}),
    # these would be gigabytes
    ("y = Add(a, b)", {"a": ROW, "b": COLUMN}),
    ("y = Div(a, b)", {"a": ROW, "b": COLUMN + 1}),
    ("y = Equal(a, b)", {"a": ROW, "b": COLUMN}),
    ("y = Gather(a, b)", {"a": ROW, "b": ROW}),
    ("y = Expand(a, s)", {"a": INTS, "s": np.array([2**40, 5])}),
    ("y = Tile(a, s)", {"a": INTS, "s": np.array([2**62])}),
    ("y = Range(a, b, c)", {"a": np.int64(-(2**63)), "b": np.int64(2**63 - 1), "c": np.int64(1)}),
    ("y = Range(a, b, c)", {"a": np.float32(0), "b": np.float32(np.nan), "c": np.float32(1)}),
]


@pytest.mark.parametrize(("text", "constants"), NOT_FOLDED, ids=[case[0] for case in NOT_FOLDED])
def test_what_is_wrong_or_large_stays_unknown(text: str, constants: dict[str, object]) -> None:
    _, node = parsed(text, constants)
    assert fold(node) == [None]


def test_an_operator_of_another_domain_is_not_folded() -> None:
    _, node = parsed("y = Add(a, b)", {"a": INTS, "b": INTS})
    node.domain = "com.acme"
    assert fold(node) == [None]
