"""What a user can get wrong: one line that names the thing, the cause and the next step."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest
from onnx import TensorProto, helper

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx

RELU = "(float[1,3,8,8] image) => (float y) { y = Relu(image) }"


def message(source: onnx.ModelProto, **options: object) -> str:
    with pytest.raises(AiopError) as raised:
        read_onnx(source, name="net.onnx", **options)
    text = str(raised.value)
    assert text.startswith("net.onnx: ")
    assert text.count("net.onnx") == 1
    assert "\n" not in text
    return text


def with_input(shape: list[object] | None, elem_type: int = TensorProto.FLOAT) -> onnx.ModelProto:
    value = helper.make_tensor_value_info("image", elem_type, shape)
    graph = helper.make_graph(
        [helper.make_node("Relu", ["image"], ["y"])], "g", [value], [helper.make_empty_tensor_value_info("y")]
    )
    return helper.make_model(graph)


@pytest.mark.parametrize(
    ("shape", "axis", "hint"),
    [
        (["batch", 3, "height", "width"], "axis 2 ('height')", "--shape image=1,3,224,224"),
        ([None, 3, 224, None], "axis 3", "--shape image=1,3,224,224"),
        ([8, None, 64, 48], "axis 1", "--shape image=8,3,64,48"),
        ([1, 0, 0, 0], "axis 1", "--shape image=1,3,224,224"),  # what old exporters write
        ([1, -1, 32, 32], "axis 1", "--shape image=1,3,32,32"),
        (["n", "tokens", 768], "axis 1 ('tokens')", "--shape image=1,224,768"),
    ],
)
def test_an_open_size_asks_for_a_shape(shape: list[object], axis: str, hint: str) -> None:
    text = message(with_input(shape))
    assert f"input 'image' has no fixed size on {axis}" in text
    assert text.endswith(hint)


def test_the_hint_works() -> None:
    model = with_input(["batch", 3, "height", "width"])
    assert read_onnx(model, shapes={"image": (1, 3, 224, 224)}).tensors["image"].shape == (1, 3, 224, 224)
    assert read_onnx(with_input(["batch", 3, 8, 8])).tensors["image"].shape == (
        1,
        3,
        8,
        8,
    )  # a batch needs none


def test_an_input_without_a_shape_asks_for_one() -> None:
    assert message(with_input(None)).endswith("--shape image=1,3,224,224")
    assert read_onnx(with_input(None), shapes={"image": [2, 5]}).tensors["y"].shape == (2, 5)


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({"imgae": (1, 3, 8, 8)}, "has no input 'imgae' to give a shape to (did you mean \"image\"?)"),
        ({"zzz": (1, 3, 8, 8)}, "its inputs are image"),
        ({"image": (1, 3, 8)}, "has 3 axes where the file has 4; give it as --shape image=1,3,8,8"),
        ({"image": (1, 3, 8, 0)}, "needs sizes of 1 or more"),
        ({"image": (1, -3, 8, 8)}, "needs sizes of 1 or more"),
        ({"image": ()}, "needs sizes of 1 or more"),
        ({"image": (1, 3, 2**30, 2**30)}, "is too large"),
    ],
)
def test_a_shape_that_does_not_fit(network, shapes: dict[str, tuple[int, ...]], reason: str) -> None:
    assert reason in message(network(RELU), shapes=shapes)


def test_a_weight_is_no_input(network) -> None:
    model = network("(float[2,4] x, float[4,4] w) => (float y) { y = MatMul(x, w) }", w=(4, 4))
    assert "has no input 'w'" in message(model, shapes={"w": (4, 4)})
    assert read_onnx(model).inputs == ("x",)


def test_other_sizes_reach_a_node_that_cannot_take_them(network) -> None:
    model = network("(float[1,3,8,8] x) => (float y) { y = Conv(x, w) }", w=(4, 3, 3, 3))
    text = message(model, shapes={"x": (1, 4, 8, 8)})
    assert "node 'y' (Conv)" in text
    assert "--shape" in text


BROKEN: list[tuple[str, Callable[[onnx.GraphProto], object], str]] = [
    ("no inputs", lambda g: g.ClearField("input"), "node 'first' reads 'x', which nothing"),
    ("no outputs", lambda g: g.ClearField("output"), "no output depends on the inputs"),
    (
        "dangling input",
        lambda g: g.node[1].input.__setitem__(0, "lost"),
        "node 'second' reads 'lost', which nothing",
    ),
    (
        "dangling output",
        lambda g: setattr(g.output[0], "name", "lost"),
        "output 'lost' is computed by no node",
    ),
    ("cycle", lambda g: g.node[0].input.__setitem__(0, "y"), "the graph has a cycle"),
    ("self-loop", lambda g: g.node[0].input.__setitem__(0, "a"), "the graph has a cycle"),
    ("duplicate output", lambda g: g.node[1].output.__setitem__(0, "a"), "the name 'a' is given twice"),
    (
        "output called as the input",
        lambda g: g.node[1].output.__setitem__(0, "x"),
        "the name 'x' is given twice",
    ),
    ("duplicate input", lambda g: g.input.append(g.input[0]), "the name 'x' is given twice"),
    ("duplicate constant", lambda g: g.initializer.append(g.initializer[0]), "the name 'w' is given twice"),
    (
        "negative constant",
        lambda g: g.initializer[0].dims.__setitem__(0, -4),
        "'w' has a negative size [-4, 4]",
    ),
    ("absurd constant", lambda g: g.initializer[0].dims.__setitem__(0, 2**60), "'w' of shape"),
    (
        "weights that do not fit",
        lambda g: g.initializer[0].dims.__setitem__(0, 5),
        "node 'first' (MatMul) multiplies",
    ),
    ("a missing weight", lambda g: g.node[0].input.pop(), "node 'first' (MatMul)"),
    ("too many outputs", lambda g: g.node[0].output.append("b"), "has 2 outputs where the operator gives 1"),
    (
        "sequence",
        lambda g: g.input[0].type.sequence_type.SetInParent(),
        "is a value without a type, not a tensor",
    ),
    ("no type", lambda g: g.input[0].ClearField("type"), "is a value without a type, not a tensor"),
    ("no opset", lambda g: setattr(g.node[0], "op_type", "Frobnicate"), "cannot be known"),
    ("constant without a value", lambda g: g.node.add(op_type="Constant", output=["c"]), "has no value"),
]


@pytest.mark.parametrize(
    ("damage", "reason"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN]
)
def test_broken_graphs(network, damage: Callable[[onnx.GraphProto], object], reason: str) -> None:
    model = network("(float[2,4] x) => (float y) { [first] a = MatMul(x, w) [second] y = Relu(a) }", w=(4, 4))
    damage(model.graph)
    assert reason in message(model)


def test_opsets_that_do_not_exist(network) -> None:
    model = network(RELU)
    model.opset_import[0].version = 0
    assert "opset 0 does not exist" in message(model)


def test_a_size_computed_from_data(network) -> None:
    text = message(network("(float[4] x, int64[2] s) => (float y) { y = Reshape(x, s) }"))
    assert "node 'y' (Reshape)" in text
    assert "not a known constant" in text
    assert "fold the network's constants" in text


def test_a_sequence_where_a_tensor_is_needed(network) -> None:
    text = message(network("(float[4,6] x) => (float y) { s = SplitToSequence(x) y = Relu(s) }"))
    assert "'s' is a sequence where a tensor is needed" in text


def test_errors_name_the_file(tmp_path, network) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(
        network("(float[2,4] x) => (float y) { y = MatMul(x, w) }", w=(5, 4)).SerializeToString()
    )
    with pytest.raises(AiopError, match=r"broken\.onnx"):
        read_onnx(path)
    with pytest.raises(AiopError, match=r"^mine: "):
        read_onnx(path, name="mine")
