"""Forms that a file may have: text, weights beside it, old and new opsets, sparse weights, empty and missing sizes."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hostile import varint
from onnx import TensorProto, helper, numpy_helper

from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph, read_onnx
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise

WEIGHTS = ",".join(["1"] * 108)
TEXT = f"""<ir_version: 8, opset_import: ["": 17]>
net (float[1,3,8,8] x) => (float[1,4,8,8] y) <float[4,3,3,3] w = {{{WEIGHTS}}}> {{
y = Conv<pads=[1,1,1,1]>(x, w) }}"""


def digest(graph: ComputeGraph) -> str:
    return content_hash(canonicalise(graph))


def external(tensor: np.ndarray, name: str, **where: object) -> TensorProto:
    """Return an initialiser whose values are in another file."""
    proto = TensorProto(name=name, dims=tensor.shape, data_type=helper.np_dtype_to_tensor_dtype(tensor.dtype))
    proto.data_location = TensorProto.EXTERNAL
    for key, value in where.items():
        proto.external_data.add(key=key, value=str(value))
    return proto


# -- text


def test_text_is_read_as_the_message_it_stands_for(tmp_path: Path) -> None:
    message = read_onnx(onnx.parser.parse_model(TEXT).SerializeToString())
    assert message.macs == 8 * 8 * 4 * 27
    for number, text in enumerate([TEXT, f"# a comment\n\n {TEXT}", f" \n{TEXT}"]):
        path = tmp_path / f"{number}.txt"
        path.write_text(text)
        for source in (path, str(path), text.encode()):
            found = read_onnx(source)
            assert (found.macs, found.params, digest(found)) == (
                message.macs,
                message.params,
                digest(message),
            )


def test_large_text_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "net.onnxtxt"
    path.write_text(TEXT + "\n# " + "x" * (2 * mmap.PAGESIZE + 65_536))
    assert read_onnx(path).macs == 8 * 8 * 4 * 27


def test_what_the_printer_writes_is_read(network) -> None:
    model = network("(float[2,8] x) => (float y) { a = MatMul(x, w) y = Relu(a) }", w=(8, 4))
    text = onnx.printer.to_text(model).encode()
    assert digest(read_onnx(text)) == digest(read_onnx(model))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (TEXT[:-20], "line 3"),
        (TEXT.replace("Conv<", "Conv<<"), "line 3"),
        (TEXT.encode().replace(b"net", b"\xff\xfe"), "text in UTF-8"),
        ("<", "nor textual ONNX"),
        ("# only a comment", "nor textual ONNX"),
        ("<ir_version: 99999999999999999999999999>" + TEXT, "nor textual ONNX"),
        ('<ir_version: 8, opset_import: ["": 17]> g () => () {}', "no output depends on the inputs"),
        (TEXT + "(" * 100_000, "nested more than 64 deep"),
        (
            TEXT.replace("y = Conv", "y = If<a = g () => (float y) {" * 50_000 + "y = Conv"),
            "nested more than",
        ),
        (
            TEXT.replace("float[1,3,8,8] x", "seq(" * 100_000 + "float" + ")" * 100_000 + " x"),
            "nested more than",
        ),
        (TEXT + " " * (17 << 20), "too many"),
    ],
)
def test_text_that_is_not_understood(text: str | bytes, reason: str) -> None:
    with pytest.raises(AiopError, match=reason) as raised:
        read_onnx(text.encode() if isinstance(text, str) else text, name="net.txt")
    assert str(raised.value).startswith("net.txt: ")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


def test_brackets_in_strings_and_comments_nest_nothing() -> None:
    text = TEXT.replace("Conv<", 'Conv<note = "' + "<({" * 200 + '\\"", ') + " # " + "<({" * 200
    assert read_onnx(text.encode()).macs == 8 * 8 * 4 * 27


# -- files beside the network


@pytest.fixture
def beside(network, tmp_path: Path) -> Path:
    """Return a network that keeps its weights and its sizes in a file beside it."""
    model = network("(float[2,8] x) => (float y) { a = MatMul(x, w) b = Reshape(a, s) y = Mul(b, k) }")
    weights, sizes, scale = np.zeros((8, 6), np.float32), np.array([-1, 3]), np.array(0.5, np.float32)
    data = weights.tobytes() + sizes.tobytes() + scale.tobytes()
    (tmp_path / "net.data").write_bytes(data)
    model.graph.initializer.append(external(weights, "w", location="net.data", offset=0))
    model.graph.initializer.append(external(sizes, "s", location="net.data", offset=weights.nbytes))
    at = weights.nbytes + sizes.nbytes
    model.graph.initializer.append(external(scale, "k", location="net.data", offset=at))
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_sizes_are_read_from_the_file_beside(beside: Path) -> None:
    found = read_onnx(beside)
    assert found.tensors["y"].shape == (4, 3)
    assert (found.macs, found.params) == (2 * 8 * 6, 48)
    assert found.operations[-1].scalars == (0.5,)


def test_weights_beside_are_not_needed(beside: Path, network, tmp_path: Path) -> None:
    model = network("(float[2,8] x) => (float y) { y = MatMul(x, w) }")
    model.graph.initializer.append(external(np.zeros((8, 6), np.float32), "w", location="gone.data"))
    path = tmp_path / "other.onnx"
    path.write_bytes(model.SerializeToString())
    assert read_onnx(path).params == 48


def test_a_missing_file_with_sizes_is_named(beside: Path) -> None:
    (beside.parent / "net.data").unlink()
    with pytest.raises(AiopError, match=r"put its file 'net\.data' beside it"):
        read_onnx(beside)


def test_a_file_that_is_too_short_is_not_read(beside: Path) -> None:
    (beside.parent / "net.data").write_bytes(b"\0" * 196)
    with pytest.raises(AiopError, match=r"net\.data"):
        read_onnx(beside)


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/hostname", "link", "sub/../../secret", "", ".", "\0", "x" * 5_000]
)
def test_nothing_outside_the_folder_is_read(network, tmp_path: Path, location: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    sizes = np.array([3, 4])
    (tmp_path / "secret").write_bytes(sizes.tobytes())
    (folder / "link").symlink_to(tmp_path / "secret")
    model = network("(float[12] x) => (float y) { y = Reshape(x, s) }")
    model.graph.initializer.append(external(sizes, "s", location=location))
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(AiopError, match="is not a known constant"):
        read_onnx(folder / "net.onnx")


@pytest.mark.parametrize("offset", ["-8", "9" * 30, "no number", str(2**63)])
def test_an_absurd_offset_reads_nothing(network, tmp_path: Path, offset: str) -> None:
    (tmp_path / "d").write_bytes(bytes(64))
    model = network("(float[12] x) => (float y) { y = Reshape(x, s) }")
    model.graph.initializer.append(external(np.array([3, 4]), "s", location="d", offset=offset))
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(AiopError, match="is not a known constant"):
        read_onnx(tmp_path / "net.onnx")


def test_a_file_of_more_than_two_gigabytes(network, tmp_path: Path) -> None:
    """protobuf itself reads no more than 2 GB; the hole in this file costs no space."""
    model = network("(float[2,8] x) => (float y) { a = MatMul(x, w) y = Relu(a) }")
    rows = 75_000_000
    size = rows * 8 * 4
    tensor = TensorProto(name="w", dims=[8, rows], data_type=TensorProto.FLOAT).SerializeToString()
    tensor += b"\x4a" + varint(size)  # raw_data, which ends the tensor, the graph and the file
    graph = model.graph.SerializeToString() + b"\x2a" + varint(len(tensor) + size) + tensor
    model.ClearField("graph")
    head = model.SerializeToString() + b"\x3a" + varint(len(graph) + size) + graph
    path = tmp_path / "large.onnx"
    path.write_bytes(head)
    os.truncate(path, len(head) + size)
    assert path.stat().st_size > 2**31
    found = read_onnx(path)
    assert (found.params, found.macs) == (8 * rows, 2 * 8 * rows)


# -- opsets


@pytest.mark.parametrize("opset", range(7, onnx.defs.onnx_opset_version() + 1))
def test_one_network_in_every_opset(network, opset: int) -> None:
    """Written for opset 7 and brought to every newer one by onnx's own converter."""
    model = network(
        """(float[1,3,16,16] x) => (float[1,10] y) {
            a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w) b = BatchNormalization(a, s, u, s, s)
            c = Relu(b) d = MaxPool<kernel_shape=[2,2], strides=[2,2]>(c)
            e = Transpose<perm=[0,2,3,1]>(d) f = ReduceMean<axes=[1,2], keepdims=0>(e)
            g = Unsqueeze<axes=[2]>(f) h = Squeeze<axes=[2]>(g) i = Dropout(h) j = Flatten(i)
            k = Gemm<transB=1>(j, v, t) y = Softmax<axis=1>(k)
        }""",
        7, w=(8, 3, 3, 3), s=(8,), u=(8,), v=(10, 8), t=(10,),
    )  # fmt: skip
    found = read_onnx(onnx.version_converter.convert_version(model, opset))
    assert found.tensors[found.outputs[0]].shape == (1, 10)
    assert found.macs == 16 * 16 * 8 * 27 + 80
    assert found.params == 8 * 27 + 2 * 8 + 80 + 10
    assert digest(found) == digest(read_onnx(model))


@pytest.mark.parametrize(
    ("opset", "nodes", "shape"),
    [
        (1, "y = Reshape<shape=[0,-1]>(x)", (2, 12)),
        (1, "y = Pad<paddings=[0,0,1,0,0,2]>(x)", (2, 3, 7)),
        (2, "y = Pad<pads=[0,0,1,0,0,2]>(x)", (2, 3, 7)),
        (1, "y = Add<broadcast=1, axis=1>(x, c)", (2, 3, 4)),
        (6, "y = Mul<broadcast=1, axis=0>(x, b)", (2, 3, 4)),
        (1, "y = Clip<max=6.0, min=0.0, consumed_inputs=[0]>(x)", (2, 3, 4)),
        (1, "y = Split<axis=2, split=[1,3]>(x)", (2, 3, 1)),
        (1, "y = Slice<axes=[2], starts=[1], ends=[3]>(x)", (2, 3, 2)),
        (1, "a, b = TopK<axis=1, k=2>(x) y = Relu(a)", (2, 2, 4)),
        (1, "a = Dropout<is_test=1>(x) y = Relu(a)", (2, 3, 4)),
        (1, "y = Concat(x, x)", (2, 6, 4)),
        (5, "y = Tile(x, r)", (4, 3, 8)),
        (1, "y = Cast<to=\"FLOAT16\">(x)", (2, 3, 4)),
    ],
)  # fmt: skip
def test_forms_of_old_opsets(graph, opset: int, nodes: str, shape: tuple[int, ...]) -> None:
    if "Split" in nodes:
        nodes = nodes.replace("y =", "y, z =")
    constants = {"c": (3,), "b": (2,), "r": np.array([2, 1, 2])}
    used = {key: value for key, value in constants.items() if f", {key})" in nodes}
    found = graph(f"(float[2,3,4] x) => (float y) {{ {nodes} }}", opset, **used)
    assert found.tensors["y"].shape == shape


def test_a_cast_of_opset_1_names_its_type(graph) -> None:
    assert (
        graph('(float[2] x) => (float16 y) { y = Cast<to="FLOAT16">(x) }', 1).tensors["y"].dtype == "float16"
    )


# -- what else a file may hold


def test_training_information_is_left_aside(network, tmp_path: Path) -> None:
    model = network("(float[2,8] x) => (float y) { a = MatMul(x, w) y = Relu(a) }", w=(8, 4))
    plain = read_onnx(model)
    info = model.training_info.add()
    info.algorithm.CopyFrom(model.graph)
    info.algorithm.initializer.append(numpy_helper.from_array(np.zeros(100_000, np.float32), "moment"))
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    found = read_onnx(path)
    assert (found.params, digest(found)) == (plain.params, digest(plain))


def test_sparse_weights_count_as_the_dense_ones_they_stand_for(network) -> None:
    model = network("(float[2,8] x) => (float y) { y = MatMul(x, w) }")
    values = numpy_helper.from_array(np.ones(3, np.float32), "w")
    indices = numpy_helper.from_array(np.array([1, 9, 40]), "w_indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [8, 6]))
    found = read_onnx(model)
    assert found.tensors["y"].shape == (2, 6)
    assert (found.macs, found.params) == (2 * 8 * 6, 48)


def test_several_inputs_and_outputs(graph) -> None:
    found = graph(
        "(float[2,8] x, float[n,8] z) => (float y, float v, float u) { y = Add(x, z) v = Mul(x, z) u = Relu(v) }"
    )
    assert found.inputs == ("x", "z")
    assert found.outputs == ("y", "v", "u")
    assert found.tensors["z"].shape == (1, 8)


def test_a_network_without_inputs_that_makes_data(graph) -> None:
    found = graph("() => (float y) { x = RandomNormal<shape=[2,8]>() y = MatMul(x, w) }", w=(8, 4))
    assert (found.inputs, found.macs) == ((), 2 * 8 * 4)
    digest(found)


def test_a_network_of_constants_is_operations_that_give_them(graph) -> None:
    found = graph("(float[4] x) => (float y) { y = Add(a, a) }", a=np.ones(3, np.float32))
    assert found.tensors["y"].shape == (3,)
    assert [operation.op for operation in found.operations] == ["Input", "Expand"]
    assert found.notes == ("output 'y' does not depend on the inputs",)
    digest(found)


# -- sizes


def test_a_size_of_0_is_believed_where_the_outputs_follow_from_it(network) -> None:
    model = network("(float[2,0,4] x) => (float[2,1,4] y) { y = ReduceSum<axes=[1]>(x) }", 11)
    assert read_onnx(model).tensors["x"].shape == (2, 0, 4)
    for change in ("float[2,1,5] y", "float y", "float[2,0,4] y"):
        text = f"(float[2,0,4] x) => ({change}) {{ y = ReduceSum<axes=[1]>(x) }}"
        with pytest.raises(AiopError, match="no fixed size on axis 1"):
            read_onnx(network(text, 11))


def test_a_size_of_0_in_an_old_file_is_open(network) -> None:
    model = network("(float[1,0,4] x) => (float[1,0,4] y) { y = Relu(x) }", 8)
    with pytest.raises(AiopError, match="no fixed size on axis 1"):
        read_onnx(model)
    assert read_onnx(model, shapes={"x": (1, 3, 4)}).tensors["y"].shape == (1, 3, 4)


@pytest.mark.parametrize(
    ("text", "constants", "shape"),
    [
        ("(float[4,6] x, int64[2] s, int64[2] e) => (float y) { y = Slice(x, s, e) }", {}, (4, 6)),
        ("(float[4,6] x, int64[4] p) => (float y) { y = Pad(x, p) }", {}, (4, 6)),
        ("(float[4,6] x, int64[1] k) => (float y) { y, i = TopK(x, k) }", {}, (4, 6)),
        ("(float[1,2,4,6] x, int64[4] s) => (float y) { y = Resize(x, , , s) }", {}, (1, 2, 4, 6)),
        ("(float[4,6] x, int64[3] s) => (float y) { y = Expand(x, s) }", {}, (1, 4, 6)),
        ("(float[4,6] x) => (int64 y) { y = NonZero(x) }", {}, (2, 24)),
        ("(float[4,6] x) => (float y) { y, i = Unique(x) }", {}, (24,)),
        ("(float[4,6] x, bool[4] c) => (float y) { y = Compress<axis=0>(x, c) }", {}, (4, 6)),
        ("(int64[3] s) => (float y) { y = ConstantOfShape(s) }", {}, (1, 1, 1)),
        ("(float[1,50,4] x, float[1,3,50] s) => (int64 y) { y = NonMaxSuppression(x, s, m) }",
         {"m": np.array([20])}, (60, 3)),
        ("(float[1,50,4] x, float[1,3,50] s) => (int64 y) { y = NonMaxSuppression(x, s, m) }",
         {"m": np.array([2**62])}, (150, 3)),
        ("(float[4,6] x, int64[1] a) => (float[] y) { y = ReduceSum<keepdims=0>(x, a) }", {}, (4,)),
        ("(float[4,6] x, int64[k] a) => (float[] y) { y = ReduceSum<keepdims=0>(x, a) }", {}, (4,)),
    ],
)  # fmt: skip
def test_a_shape_that_depends_on_data_is_read_at_its_largest(
    graph, text: str, constants: dict[str, np.ndarray], shape: tuple[int, ...]
) -> None:
    found = graph(text, **constants)
    assert found.tensors["y"].shape == shape
    assert any("depends on the data and is read as" in note for note in found.notes)


def test_what_the_file_declares_comes_first(network) -> None:
    model = network("(float[4,6] x) => (int64[2,5] y) { y = NonZero(x) }")
    found = read_onnx(model)
    assert found.tensors["y"].shape == (2, 5)
    assert found.notes == ()
