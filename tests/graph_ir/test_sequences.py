"""Sequences and optionals are followed while a file is read; shapes against onnxruntime, which runs them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph, read_onnx
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise

HEADER = "(float[4,6] x) => (float y)"


def output_shapes(graph: ComputeGraph) -> list[tuple[int, ...]]:
    return [graph.tensors[key].shape for key in graph.outputs]


def computed(model: onnx.ModelProto) -> list[tuple[int, ...]]:
    """Return the shapes that onnxruntime computes, those of the tensors of a sequence one by one."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {
        value.name: np.ones([dim.dim_value for dim in value.type.tensor_type.shape.dim], np.float32)
        for value in model.graph.input
    }
    shapes = []
    for output in session.run(None, feeds):
        shapes += [np.shape(array) for array in (output if isinstance(output, list) else [output])]
    return shapes


# text of the nodes, constants
CASES = [
    ("s = SequenceConstruct(x, x) y = ConcatFromSequence<axis=1>(s)", {}),
    ("s = SequenceConstruct(x, x, x) y = ConcatFromSequence<axis=0, new_axis=1>(s)", {}),
    ("s = SequenceConstruct(x, x, x) y = ConcatFromSequence<axis=-1, new_axis=1>(s)", {}),
    ("a = Relu(x) b = Transpose(x) s = SequenceConstruct(a, b) y = SequenceAt(s, one)", {}),
    ("a = Relu(x) b = Transpose(x) s = SequenceConstruct(a, b) y = SequenceAt(s, minus)", {}),
    ("b = Transpose(x) s = SequenceConstruct(x, x) t = SequenceInsert(s, b) y = SequenceAt(t, two)", {}),
    ("b = Transpose(x) s = SequenceConstruct(x, x) t = SequenceInsert(s, b, one) y = SequenceAt(t, one)", {}),
    ("b = Transpose(x) s = SequenceConstruct(x, x) t = SequenceInsert(s, b, minus) y = SequenceAt(t, one)", {}),
    ("b = Transpose(x) s = SequenceConstruct(b, x) t = SequenceErase(s) y = SequenceAt(t, minus)", {}),
    ("b = Transpose(x) s = SequenceConstruct(b, x) t = SequenceErase(s, zero) y = SequenceAt(t, zero)", {}),
    ("s = SequenceEmpty() t = SequenceInsert(s, x) u = Identity(t) y = SequenceAt(u, zero)", {}),
    ("s = SplitToSequence(x) y = SequenceAt(s, two)", {}),
    ("s = SplitToSequence<keepdims=0>(x) y = SequenceAt(s, two)", {}),
    ("s = SplitToSequence<axis=-1>(x, two) y = SequenceAt(s, minus)", {}),
    ("s = SplitToSequence<axis=1>(x, sizes) y = SequenceAt(s, minus)", {"sizes": np.array([1, 2, 3])}),
    ("s = SplitToSequence<axis=1>(x, four) y = SequenceAt(s, minus)", {"four": np.int64(4)}),
    ("s = SplitToSequence<axis=1>(x, four) y = ConcatFromSequence<axis=1>(s)", {"four": np.int64(4)}),
    ("s = SequenceConstruct(x, x, x) n = SequenceLength(s) f = Cast<to=1>(n) y = Mul(x, f)", {}),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "constants"), CASES, ids=[case[0] for case in CASES])
def test_shapes_are_those_that_onnxruntime_computes(
    network, nodes: str, constants: dict[str, np.ndarray]
) -> None:
    places = {"zero": np.int64(0), "one": np.int64(1), "two": np.int64(2), "minus": np.int64(-1)}
    model = network(f"{HEADER} {{ {nodes} }}", **{k: v for k, v in places.items() if k in nodes}, **constants)
    found = read_onnx(model)
    assert output_shapes(found) == computed(model)
    assert found.notes == ()


def test_a_sequence_leaves_no_operation_behind(graph) -> None:
    found = graph(
        f"{HEADER} {{ a = Relu(x) b = Exp(x) s = SequenceConstruct(a, b) y = ConcatFromSequence<axis=0>(s) }}"
    )
    plain = graph(f"{HEADER} {{ a = Relu(x) b = Exp(x) y = Concat<axis=0>(a, b) }}")
    assert content_hash(canonicalise(found)) == content_hash(canonicalise(plain))


def test_the_parts_of_a_split_are_outputs_of_one_operation(graph) -> None:
    text = "{ s = SplitToSequence<axis=1>(x, n) a = SequenceAt(s, i) b = SequenceAt(s, j) y = Add(a, b) }"
    found = graph(f"{HEADER} {text}", n=np.int64(3), i=np.int64(0), j=np.int64(1))
    plain = graph(f"{HEADER} {{ a, b = Split<axis=1>(x, n) y = Add(a, b) }}", n=np.array([3, 3]))
    assert content_hash(canonicalise(found)) == content_hash(canonicalise(plain))


def test_an_output_may_be_a_sequence(network) -> None:
    model = network("(float[4,6] x) => (seq(float) y) { a = Transpose(x) y = SequenceConstruct(x, a) }")
    assert output_shapes(read_onnx(model)) == computed(model) == [(4, 6), (6, 4)]


def test_a_sequence_of_very_many_tensors(graph) -> None:
    found = graph(
        "(float[1000000000,6] x) => (float y) { s = SplitToSequence(x) y = ConcatFromSequence<axis=1>(s) }"
    )
    assert found.tensors["y"].shape == (1, 6_000_000_000)
    assert len(found.operations) < 5


@pytest.mark.parametrize("count", [3, 1_000])
def test_a_map_runs_its_body_on_every_tensor(network, count: int) -> None:
    text = f"""(float[{count},6] x) => (float y) {{
        s = SplitToSequence(x)
        t = SequenceMap(s) <body = b (float[1,6] e) => (float[1,3] f) {{ f = MatMul(e, w) }}>
        y = ConcatFromSequence<axis=0>(t)
    }}"""
    model = network(text, w=(6, 3))
    found = read_onnx(model)
    assert found.macs == count * 6 * 3
    assert found.params == 18
    assert output_shapes(found) == [(count, 3)]
    assert found.notes == ()


def test_a_map_over_several_sequences_and_a_tensor(graph) -> None:
    text = """(float[4,6] x) => (float y, float z) {
        a = Transpose(x)
        s = SequenceConstruct(x, x, a)
        t = SequenceConstruct(x, x, a)
        p, q = SequenceMap(s, k, t) <body = b (float e, float k2, float g) => (float f, float h) {
            m = Mul(e, k2) f = Add(m, g) h = Transpose(f)
        }>
        y = SequenceAt(p, i) z = SequenceAt(q, i)
    }"""
    found = graph(text, k=np.float32(2), i=np.int64(2))
    assert output_shapes(found) == [(6, 4), (4, 6)]


def test_which_tensor_is_read_depends_on_the_data(graph) -> None:
    text = "(float[4,6] x, int64 i) => (float y) { a = Relu(x) s = SequenceConstruct(x, a) y = SequenceAt(s, i) }"
    found = graph(text)
    assert found.tensors["y"].shape == (4, 6)
    assert found.operations[-1].op == "Sequence"
    assert set(found.operations[-1].inputs) == {"x", "a", "i"}
    (note,) = found.notes
    assert "depends on the data" in note


def test_a_length_that_depends_on_the_data(graph) -> None:
    found = graph("(seq(float[4,6]) s) => (int64 y) { y = SequenceLength(s) }")
    assert found.tensors["y"].shape == ()
    assert found.operations[-1].inputs == ("s",)


# -- what flows in


def test_a_sequence_flows_in(graph) -> None:
    found = graph(
        "(seq(float[4,6]) s, int64 i) => (float y) { a = SequenceAt(s, i) y = MatMul(a, w) }", w=(6, 2)
    )
    assert found.macs == 4 * 6 * 2
    assert found.tensors["s"].shape == (4, 6)
    assert found.notes == ("input 's' is a sequence of unknown length and is read as one tensor",)


def test_a_map_over_a_sequence_of_unknown_length(graph) -> None:
    text = """(seq(float[4,6]) s, float[4,6] x) => (float y) {
        t = SequenceConstruct(x, x, x)
        m = SequenceMap(s, t) <body = b (float e, float f) => (float g) { h = Add(e, f) g = MatMul(h, w) }>
        y = ConcatFromSequence<axis=0>(m)
    }"""
    found = graph(text, w=(6, 2))
    assert found.macs == 3 * 4 * 6 * 2
    assert found.tensors["y"].shape == (12, 2)
    assert any("depends on the data" in note for note in found.notes)


def test_a_sparse_tensor_flows_in(network) -> None:
    model = network("(float[4,6] x) => (float y) { y = MatMul(x, w) }", w=(6, 2))
    kind = model.graph.input[0].type
    shape = onnx.TensorShapeProto()
    shape.CopyFrom(kind.tensor_type.shape)
    kind.sparse_tensor_type.elem_type = onnx.TensorProto.FLOAT
    kind.sparse_tensor_type.shape.CopyFrom(shape)
    assert read_onnx(model).macs == 4 * 6 * 2


def test_an_optional_flows_in(graph) -> None:
    text = "(optional(float[4,6]) o) => (float y) { h = OptionalHasElement(o) a = OptionalGetElement(o) y = Relu(a) }"
    found = graph(text, 18)
    assert [operation.op for operation in found.operations] == ["Input", "Relu"]
    assert found.notes == ("input 'o' is optional and is read as given",)


def test_an_open_size_of_a_sequence_asks_for_a_shape(network) -> None:
    model = network("(seq(float[n,m]) s, int64 i) => (float y) { a = SequenceAt(s, i) y = Relu(a) }")
    with pytest.raises(
        AiopError, match=r"input 's' has no fixed size on axis 1 \('m'\); give it: --shape s=1,224"
    ):
        read_onnx(model)
    assert read_onnx(model, shapes={"s": (3, 5)}).tensors["y"].shape == (3, 5)


def test_an_optional_that_holds_nothing(graph) -> None:
    text = """(float[4,6] x) => (float y) {
        o = Optional<type = float[4,6]>()
        h = OptionalHasElement(o)
        y = If(h) <then_branch = a () => (float p) { p = OptionalGetElement(o) },
                   else_branch = b () => (float p) { p = Relu(x) }>
    }"""
    try:
        found = graph(text, 18)
    except onnx.parser.ParseError:  # the textual form of a type as an attribute is young
        pytest.skip("this onnx does not parse a type as an attribute")
    assert [operation.op for operation in found.operations] == ["Input", "Relu"]


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("s = SequenceConstruct(x) y = Relu(s)", "'s' is a sequence where a tensor is needed"),
        ("s = SequenceConstruct(x) y = Add(s, x)", "'s' is a sequence where a tensor is needed"),
        ("s = SequenceConstruct(x) y = SequenceAt(s, i)", "position 5 of a sequence of 1"),
        (
            "s = SequenceConstruct(x) t = SequenceInsert(s, x, i) y = SequenceAt(t, i)",
            "position 5 of a sequence",
        ),
        ("s = SequenceEmpty() y = ConcatFromSequence<axis=0>(s)", "concatenates an empty sequence"),
        ("s = SequenceEmpty() y = SequenceErase(s)", "erases from an empty sequence"),
        ("y = SequenceAt(x, i)", "reads no sequence"),
        ("s = SplitToSequence<axis=3>(x) y = SequenceAt(s, i)", "axis 3 of a tensor of 2 axes"),
        ("s = SplitToSequence(x, j) y = SequenceAt(s, i)", "splits 4 elements otherwise"),
        ("t = SequenceConstruct(x) s = SequenceConstruct(x, t) y = Relu(x)", "lacks a tensor"),
        ("o = Optional() y = OptionalGetElement(o)", "holds nothing"),
    ],
)
def test_what_is_wrong_is_said(network, nodes: str, reason: str) -> None:
    model = network(f"{HEADER} {{ {nodes} }}", 18, i=np.int64(5), j=np.array([3, 3]))
    with pytest.raises(AiopError, match=reason) as raised:
        read_onnx(model)
    assert "\n" not in str(raised.value)
