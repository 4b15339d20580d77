"""What is known of a node's form changes how fast a network is read, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph, read_onnx
from aiop.graph_ir.graph import Operation
from aiop.graph_ir.reading.forms import FORMS, Form, Forms
from aiop.graph_ir.values import Tensor

RNG = np.random.default_rng(0)
BLOCKS = """(float[1,8,16,16] x) => (float y) {
    a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w, b)
    r = Relu(a)
    c = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(r, v, b)
    s = Relu(c)
    d = Add(s, x)
    n, e, f = BatchNormalization<training_mode=1>(d, b, b, b, b)
    m = BatchNormalization(n, b, b, b, b)
    k = Clip(m, zero, six)
    l = Clip(k, zero, one)
    y = GlobalAveragePool(l)
}"""
SHAPES = """(float[1,6,4] x) => (float y, float z) {
    s = Shape(x)
    i = Gather(s, one)
    j = Gather(s, two)
    k = Mul(i, j)
    u = Unsqueeze(k, first)
    v = Reshape(x, u)
    t = Concat<axis=0>(minus, u)
    w = Reshape(v, t)
    a = Slice(x, first, four, one_)
    b = Slice(x, one_, five, one_)
    c = Add(a, b)
    y = Gather<axis=1>(w, indices)
    d = Gather<axis=1>(w, others)
    z = Add(y, d)
}"""
BRANCH = """(float[1,4] x) => (float y) {
    a = If(c) <then_branch = t () => (float p) { p = Relu(x) }, else_branch = e () => (float q) { q = Neg(x) }>
    b = If(n) <then_branch = t () => (float p) { p = Relu(x) }, else_branch = e () => (float q) { q = Neg(x) }>
    d = If(c) <then_branch = t () => (float p) { p = Relu(a) }, else_branch = e () => (float q) { q = Neg(a) }>
    y = Sum(a, b, d)
}"""


@pytest.fixture(autouse=True)
def nothing_known():
    FORMS.forget()
    yield
    FORMS.forget()


def networks(network) -> dict[str, onnx.ModelProto]:
    shared = np.ones(8, np.float32)
    numbers = {"first": [0], "one_": [1], "four": [4], "five": [5], "minus": [1], "one": 1, "two": 2}
    indices = {"indices": RNG.integers(0, 24, 100), "others": RNG.integers(0, 24, 100)}
    limits = {"zero": np.float32(0), "six": np.float32(6), "one": np.float32(1)}
    return {
        "shared bias": network(BLOCKS, w=(8, 8, 3, 3), v=(8, 8, 3, 3), b=shared, **limits),
        "other bias": network(BLOCKS, w=(8, 8, 3, 3), v=(8, 8, 3, 3), b=(8,), **limits),
        "shapes": network(SHAPES, **{key: np.array(value) for key, value in {**numbers, **indices}.items()}),
        "branches": network(BRANCH, c=np.array(True), n=np.array(False)),
        "softmax 11": network("(float[2,3,4] x) => (float y) { a = Softmax(x) y = Softmax(a) }", opset=11),
        "softmax 13": network("(float[2,3,4] x) => (float y) { a = Softmax(x) y = Softmax(a) }", opset=13),
    }


def contents(graph: ComputeGraph) -> tuple[object, ...]:
    return graph.operations, graph.tensors, graph.inputs, graph.outputs, graph.notes


def test_a_network_is_read_the_same_whatever_was_read_before(network, monkeypatch) -> None:
    models = networks(network)
    with monkeypatch.context() as patch:
        patch.setattr(FORMS, "most", 0)
        plain = {name: contents(read_onnx(model)) for name, model in models.items()}
        assert not FORMS.known
    for _ in range(2):
        for name, model in models.items():
            assert contents(read_onnx(model)) == plain[name], name
    assert FORMS.known


def test_forms_are_met_again(network, monkeypatch) -> None:
    read_onnx(networks(network)["other bias"])
    count = len(FORMS.known)
    read_onnx(networks(network)["other bias"])
    assert len(FORMS.known) == count > 5


def test_what_is_written_may_be_shuffled(network) -> None:
    model = networks(network)["shapes"]
    expected = {operation.name: operation for operation in read_onnx(model).operations}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes[::-1])
    for _ in range(2):
        assert {operation.name: operation for operation in read_onnx(model).operations} == expected


def test_values_that_matter_tell_forms_apart(network) -> None:
    """Gather of 100 indices, and of 100 others: their attributes keep which elements are read."""
    graph = read_onnx(networks(network)["shapes"])
    first, second = (
        operation for operation in graph.operations if operation.op == "Gather" and operation.inputs == ("w",)
    )
    assert first.attributes != second.attributes


def test_a_fixed_filter_is_told_from_a_trained_one(network) -> None:
    """A depthwise convolution of stride 2 whose filters are all the same is a blur, of which nothing was trained."""
    text = "(float[1,8,16,16] x) => (float y) { y = Conv<group=8, strides=[2,2]>(x, w) }"
    blur = np.broadcast_to(np.outer([1, 2, 1], [1, 2, 1]), (8, 1, 3, 3)).astype(np.float32)
    for _ in range(2):
        assert read_onnx(network(text, w=blur)).params == 0
        assert read_onnx(network(text, w=(8, 1, 3, 3))).params == 8 * 9


def test_parameters_of_a_known_form_count_once_each(network) -> None:
    text = "(float[1,8] x) => (float y) { a = MatMul(x, w) b = MatMul(a, w) c = MatMul(b, v) y = Add(c, a) }"
    for _ in range(2):
        assert read_onnx(network(text, w=(8, 8), v=(8, 8))).params == 2 * 64


@pytest.mark.parametrize("name", ["a", "x"])
def test_a_name_given_twice_by_a_known_form(network, name: str) -> None:
    model = network("(float[1,8] x) => (float c) { a = Relu(x) b = Relu(a) c = Relu(b) }")
    model.graph.node[1].output[0] = name
    read_onnx(network("(float[1,8] x) => (float y) { y = Relu(x) }"))
    with pytest.raises(AiopError, match="given twice"):
        read_onnx(model)


def test_a_constant_in_another_file_is_not_known_by_its_node(network, tmp_path: Path) -> None:
    """The same node reads other sizes where its file is another one."""
    model = network(
        "(float[2,6] x) => (float y) { s = Constant<value = int64[2] {4, 3}>() y = Reshape(x, s) }"
    )
    size = model.graph.node[0].attribute[0].t
    size.ClearField("int64_data")
    size.ClearField("raw_data")
    size.data_location = onnx.TensorProto.EXTERNAL
    size.external_data.add(key="location", value="sizes")
    path = tmp_path / "network.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(AiopError):
        read_onnx(path)
    for shape in ((4, 3), (3, 4), (12, 1)):
        (tmp_path / "sizes").write_bytes(np.array(shape, np.int64).tobytes())
        assert read_onnx(path).tensors["y"].shape == shape


def test_a_name_that_is_no_text_on_a_known_form(network) -> None:
    model = network("(float[1,8] x) => (float c) { a = Relu(x) b = Relu(a) c = Relu(b) }")
    for node in model.graph.node:
        node.name = "name"
    data = model.SerializeToString()
    at = data.rindex(b"name")
    with pytest.raises(AiopError, match="not text"):
        read_onnx(data[:at] + b"na\xffe" + data[at + 4 :])


def test_looking_at_values_that_a_kind_leaves_out() -> None:
    forms = Forms()
    weights = [Tensor(name, (100,), "float32", constant=True) for name in "ab"]
    for tensor in weights:
        tensor.set_value(RNG.standard_normal(100))
        tensor.kind = forms.kind(tensor)
    assert weights[0].kind == weights[1].kind < 0
    assert weights[0].value is not None
    assert weights[0].kind == 0 > weights[1].kind


def test_few_values_are_part_of_a_kind() -> None:
    forms = Forms()
    kinds = []
    for number in (1, 2, 1):
        tensor = Tensor("a", (2,), "int64", constant=True)
        tensor.set_value(np.array([0, number]))
        kinds.append(forms.kind(tensor))
    flowing = Tensor("a", (2,), "int64")
    assert kinds[0] == kinds[2] != kinds[1]
    assert len({*kinds, forms.kind(flowing)}) == 3
    assert min(kinds) > 0


def test_what_is_kept_is_bounded() -> None:
    forms = Forms(most=4)
    seen = set()
    for size in range(100):
        kind = forms.kind(Tensor("a", (size,), "float32"))
        assert kind not in seen
        seen.add(kind)
        forms.keep(("Relu", kind), Form("Relu", ()))
        assert len(forms.known) <= 4
        assert len(forms._kinds) <= 16


def test_operations_are_not_shared(network) -> None:
    """A known form hands out operations of their own: changing one leaves the other."""
    graph = read_onnx(network("(float[1,8] x) => (float c) { a = Relu(x) b = Relu(a) c = Relu(b) }"))
    operations: list[Operation] = graph.operations
    operations[2].macs = 7
    assert operations[3].macs == operations[1].macs == 0
