"""How files become graphs, beyond shapes and counts."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from aiop.graph_ir import ComputeGraph, Operation, TensorSpec, read_onnx


def kinds(graph: ComputeGraph) -> list[str]:
    return [operation.op for operation in graph.operations]


def test_a_convolution_is_described(graph) -> None:
    found = graph(
        "(float[2,4,9,9] x) => (float y) { [head] y = Conv<group=4, strides=[2,1], pads=[1,0,1,0]>(x, w, b) }",
        w=(8, 1, 3, 3), b=(8,),
    )  # fmt: skip
    assert found.inputs == ("x",)
    assert found.outputs == ("y",)
    assert found.opset == 17
    assert found.operations[0] == Operation("x", "Input", "Input", (), ("x",), output_elements=648)
    assert found.operations[1] == Operation(
        "head", "DepthwiseConv", "Conv", ("x",), ("y",), kernel=(3, 3), stride=(2, 1), dilation=(1, 1),
        padding=(1, 0, 1, 0), groups=4, bias=True, weights=(TensorSpec((8, 1, 3, 3)), TensorSpec((8,))),
        macs=2 * 8 * 35 * 9, params=80, output_elements=2 * 8 * 35, elementwise=2 * 8 * 35,
    )  # fmt: skip


def test_same_padding_is_resolved(graph) -> None:
    found = graph(
        '(float[1,4,10,9] x) => (float y) { y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)}',
        w=(4, 4, 3, 3),
    )
    assert found.operations[1].padding == (0, 1, 1, 1)  # (5 - 1) * 2 + 3 - 10 = 1 and (5 - 1) * 2 + 3 - 9 = 2


@pytest.mark.parametrize(
    ("node", "kind"),
    [
        ("y = Gemm(f, w)", "Linear"),
        ("y = MatMul(f, w)", "Linear"),
        ("y = MatMul(w, g)", "Linear"),
        ('y = Einsum<equation="ab,bc->ac">(f, w)', "Linear"),
        ("y = MatMul(f, g)", "MatMul"),
        ("y = Gemm<transB=1>(f, f)", "MatMul"),
        ("y = Div(c, x)", "Reciprocal"),
        ("y = Div(x, c)", "Div"),
        ("y = AveragePool<kernel_shape=[4,4]>(x)", "GlobalAvgPool"),
        ("y = AveragePool<kernel_shape=[2,2]>(x)", "AvgPool"),
        ("y = AveragePool<kernel_shape=[4,4], pads=[1,1,1,1]>(x)", "AvgPool"),
        ("y = ReduceMean<axes=[2,3]>(x)", "GlobalAvgPool"),
        ("y = ReduceMean<axes=[-1,-2]>(x)", "GlobalAvgPool"),
        ("y = ReduceMean<axes=[1]>(x)", "ReduceMean"),
        ("y = GlobalAveragePool(x)", "GlobalAvgPool"),
        ("i = Cast<to=7>(x) y = Gather(w, i)", "Embedding"),
        ("y = Conv<group=4>(x, d)", "DepthwiseConv"),
        ("y = Conv<group=2>(x, h)", "Conv"),
    ],
)
def test_operators_that_a_file_writes_alike_are_told_apart(graph, node: str, kind: str) -> None:
    found = graph(
        f"(float[1,4,4,4] x, float[3,8] f, float[8,2] g) => (float y) {{ {node} }}", w=(8, 8), c=np.float32(1),
        d=(8, 1, 1, 1), h=(8, 2, 1, 1),
    )  # fmt: skip
    assert found.operations[-1].op == kind


def test_shape_arithmetic_leaves_no_operation(graph) -> None:
    found = graph(
        """(float[2,3,4,5] x) => (float y) {
            s = Shape(x)  n = Gather(s, zero)  row = Unsqueeze(n, axis)  target = Concat<axis=0>(row, rest)
            e = Size(x)  o = Cast<to=1>(e)  r = Sqrt(o)
            a = Reshape(x, target)  y = Div(a, r) }""",
        zero=np.int64(0), axis=np.array([0]), rest=np.array([-1]),
    )  # fmt: skip
    assert kinds(found) == ["Input", "Reshape", "Div"]
    assert found.tensors["y"].shape == (2, 60)
    assert found.operations[2].scalars == pytest.approx([np.sqrt(120)])


def test_identity_and_dropout_leave_no_operation(graph) -> None:
    found = graph(
        "(float[2,3] x) => (float y) { a = Identity(x) b, mask = Dropout(a) c = Relu(b) y = Identity(c) }"
    )
    assert kinds(found) == ["Input", "Relu"]
    assert found.operations[1].inputs == ("x",)
    assert found.outputs == ("c",)


def test_an_output_that_does_not_depend_on_the_input_is_left_out(graph) -> None:
    found = graph("(float[2,3] x) => (float y, int64[2] s) { y = Relu(x) s = Shape(x) }")
    assert found.outputs == ("y",)
    assert found.notes == ("output 's' does not depend on the inputs and is left out",)


def test_nodes_in_any_order(network) -> None:
    model = network(
        "(float[2,3] x) => (float y) { a = Relu(x) b = Exp(a) c = Tanh(a) d = Add(b, c) y = Mul(d, b) }"
    )
    nodes = list(model.graph.node)
    expected = kinds(read_onnx(model))
    for order in ([4, 3, 2, 1, 0], [1, 0, 3, 2, 4], [2, 4, 0, 1, 3]):
        del model.graph.node[:]
        model.graph.node.extend(nodes[i] for i in order)
        found = read_onnx(model)
        assert sorted(kinds(found)) == sorted(expected)
        assert all(edge.source < edge.target for edge in found.edges())


@pytest.mark.parametrize("taken", [True, False])
def test_a_branch_of_a_constant_condition_is_inlined(network, taken: bool) -> None:
    outer = network("(float[2,3] x) => (float y) { a = Relu(x) }", c=np.array([taken]))
    yes = helper.make_graph(
        [helper.make_node("Exp", ["a"], ["p"])], "yes", [], [onnx.ValueInfoProto(name="p")]
    )
    no = helper.make_graph([], "no", [], [onnx.ValueInfoProto(name="a")])
    outer.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=yes, else_branch=no))
    found = read_onnx(outer)
    assert kinds(found) == (["Input", "Relu", "Exp"] if taken else ["Input", "Relu"])
    assert found.outputs == (("yes.0/p",) if taken else ("a",))


def test_functions_of_the_file_are_inlined() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17, "mine": 1]>
        net (float[2,3] x) => (float y) { y = mine.Swish<scale=2.0>(x) }
        <domain: "mine", opset_import: ["": 17]> Swish <scale> (a) => (b) {
            k = Constant<value_float: float = @scale>() m = Mul(a, k) s = Sigmoid(m) b = Mul(a, s) }""")
    found = read_onnx(model)
    assert kinds(found) == ["Input", "Mul", "Sigmoid", "Mul"]
    assert found.operations[1].scalars == (2.0,)


def test_an_unknown_operator_is_kept_and_noted(network) -> None:
    model = network("(float[2,3] x) => (float y) { a = com.acme.Foo(x) y = Relu(a) }")
    model.opset_import.add(domain="com.acme", version=1)
    found = read_onnx(model)
    assert kinds(found) == ["Input", "Unknown", "Relu"]
    assert found.tensors["a"].shape == (2, 3)
    assert found.macs == 0
    assert any(note.startswith("operator com.acme::Foo is unknown: 1 node (50.0%") for note in found.notes)


def test_an_unknown_operator_has_the_shape_the_file_declares(network) -> None:
    model = network("(float[2,3] x) => (float y) { a = com.acme.Foo(x) y = Relu(a) }")
    model.graph.value_info.append(helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, [2, 7]))
    assert read_onnx(model).tensors["y"].shape == (2, 7)


def test_an_expand_of_a_constant_that_cannot_be_is_left_out(graph) -> None:
    # a class token expanded to 3 where -1 was meant: what follows proves the shape it has
    def tokens(sizes: str) -> ComputeGraph:
        text = f"s = Constant<value_ints=[{sizes}]>() t = Expand(token, s) y = Concat<axis=1>(t, x)"
        return graph(f"(float[1,5,8] x) => (float y) {{ {text} }}", token=(1, 1, 8))

    found = tokens("1, 3, 3")
    assert found.tensors["y"].shape == (1, 6, 8)
    assert found.params == 8
    assert found.notes == ("node 't' (Expand) cannot expand [1, 1, 8] to [1, 3, 3] and is left out",)
    assert tokens("1, 3, 1").tensors["y"].shape == (1, 8, 8)
    assert tokens("1, 3, 1").notes == ()


def test_a_size_that_depends_on_the_data_is_noted(graph) -> None:
    found = graph("(float[4,6] x) => (int64 y) { y = NonZero(x) }")
    assert found.tensors["y"].shape == (2, 24)  # at most, every element
    assert found.notes == ("the shape of node 'y' (NonZero) depends on the data and is read as [2, 24]",)


def test_a_shape_that_the_file_declares_is_taken(network) -> None:
    model = network("(float[4,6] x, int64[2] s) => (float y) { a = Reshape(x, s) y = Relu(a) }")
    model.graph.value_info.append(helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, [3, 8]))
    assert read_onnx(model).tensors["y"].shape == (3, 8)


def test_a_result_nobody_named(network) -> None:
    model = network(
        "(float[5,2,8] x) => (float y) { a, y, c = LSTM<hidden_size=3>(x, w, r) }", w=(1, 12, 8), r=(1, 12, 3)
    )
    model.graph.node[0].output[:] = ["", "y"]
    found = read_onnx(model)
    assert found.operations[1].outputs == ("y",)
    assert found.operations[1].output_elements == 2 * 3
    assert found.operations[1].name == "y"
    assert found.tensors["y"].shape == (1, 2, 3)


def test_a_node_without_outputs_is_no_operation(network) -> None:
    model = network("(float[5,2,8] x) => (float y) { y = Relu(x) }")
    model.graph.node.add(op_type="Exp", input=["x"])
    model.graph.node.add(op_type="Exp", input=["x"], output=[""])
    assert kinds(read_onnx(model)) == ["Input", "Relu"]


def test_a_name_may_be_given(network) -> None:
    model = network("(float[2] x) => (float y) { y = Relu(x) }")
    model.graph.name = "inner"
    assert read_onnx(model).name == "inner"
    assert read_onnx(model, name="outer").name == "outer"
    assert read_onnx(model.SerializeToString()).name == "network"


def test_the_producer_is_kept(network) -> None:
    model = network("(float[2] x) => (float y) { y = Relu(x) }")
    model.producer_name, model.producer_version = "pytorch", "2.13"
    assert read_onnx(model).producer == "pytorch 2.13"
