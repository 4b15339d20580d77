"""Files are read without their weights."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx
from aiop.graph_ir.reading import outline as onnx_outline
from aiop.graph_ir.reading import wire
from aiop.graph_ir.reading.wire import LARGEST_VALUE, load_without_weights, parse_without_weights

LAYERS = 12
TEXT = "(float[1,2048] x) => (float y) { %s y = Relu(a12) }"


def deep_network(network) -> onnx.ModelProto:
    """Twelve matrices of 16 MB."""
    nodes = " ".join(f"a{i + 1} = MatMul({'x' if i == 0 else f'a{i}'}, w{i})" for i in range(LAYERS))
    model = network(TEXT % nodes)
    for i in range(LAYERS):
        raw = np.full(2048 * 2048, i, np.float32).tobytes()
        model.graph.initializer.add(name=f"w{i}", data_type=1, dims=[2048, 2048], raw_data=raw)
    return model


@pytest.fixture(scope="module")
def large_file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("wire") / "large.onnx"


def test_a_large_file_costs_what_its_graph_costs(network, large_file: Path) -> None:
    large_file.write_bytes(deep_network(network).SerializeToString())
    assert large_file.stat().st_size > 200e6
    read_onnx(network("(float[1] x) => (float y) { y = Relu(x) }"))  # imports are not what is measured
    tracemalloc.start()
    started = time.perf_counter()
    found = read_onnx(large_file)
    seconds = time.perf_counter() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found.params, found.macs) == (LAYERS * 2048**2, LAYERS * 2048**2)
    assert peak < 2e6
    assert seconds < 1  # reading all of it takes longer than that even from memory
    stripped = load_without_weights(large_file)
    assert stripped.ByteSize() < 10_000
    assert [tuple(tensor.dims) for tensor in stripped.graph.initializer] == [(2048, 2048)] * LAYERS
    assert not any(tensor.HasField("raw_data") for tensor in stripped.graph.initializer)
    large_file.unlink()


@pytest.mark.parametrize("field", ["raw_data", "float_data", "constant", "branch", "sparse"])
def test_values_go_wherever_they_are(network, field: str) -> None:
    values = np.arange(40_000, dtype=np.float32)
    model = network("(float[200] x) => (float y) { y = Relu(x) }")
    if field == "raw_data":
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, "w"))
    elif field == "float_data":
        model.graph.initializer.append(onnx.helper.make_tensor("w", 1, values.shape, values))
    elif field == "constant":
        tensor = onnx.numpy_helper.from_array(values)
        model.graph.node.append(onnx.helper.make_node("Constant", [], ["w"], value=tensor))
    elif field == "sparse":
        indices = onnx.numpy_helper.from_array(np.arange(40_000), "i")
        sparse = onnx.helper.make_sparse_tensor(onnx.numpy_helper.from_array(values, "w"), indices, [50_000])
        model.graph.sparse_initializer.append(sparse)
    else:
        inner = onnx.helper.make_graph([], "branch", [], [], [onnx.numpy_helper.from_array(values, "w")])
        model.graph.node.append(
            onnx.helper.make_node("If", ["c"], ["w"], then_branch=inner, else_branch=inner)
        )
    stripped = parse_without_weights(model.SerializeToString(), "net")
    assert stripped.ByteSize() < 1000
    assert [node.op_type for node in stripped.graph.node] == [node.op_type for node in model.graph.node]


def test_small_values_stay(network) -> None:
    model = network("(float[1,6] x) => (float y) { y = Reshape(x, s) }", s=np.array([2, 3]))
    large = np.zeros(LARGEST_VALUE, np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(large, "unused"))
    stripped = parse_without_weights(model.SerializeToString(), "net")
    assert stripped.graph.initializer[0] == model.graph.initializer[0]
    assert read_onnx(model.SerializeToString()).tensors["y"].shape == (2, 3)


def test_everything_else_is_as_it_was(onnx_light) -> None:
    data = (onnx_light / "light_inception_v2.onnx").read_bytes()
    assert len(data) > LARGEST_VALUE
    assert parse_without_weights(data, "net") == onnx.load_from_string(data)


def test_files_of_weights_are_never_opened(network, tmp_path: Path) -> None:
    for location in ("missing.bin", "../../../etc/passwd", "/dev/zero", str(tmp_path)):
        model = network("(float[1,6] x) => (float y) { a = MatMul(x, w) b = Add(a, v) y = Mul(b, c) }")
        for name, dims in (("w", [6, 4]), ("v", [4])):
            tensor = model.graph.initializer.add(name=name, data_type=1, dims=dims, data_location=1)
            tensor.external_data.add(key="location", value=location)
        constant = model.graph.node.add(op_type="Constant", output=["c"]).attribute.add(name="value", type=4)
        constant.t.CopyFrom(model.graph.initializer[1])
        path = tmp_path / "net.onnx"
        path.write_bytes(model.SerializeToString())
        assert read_onnx(path).params == 24 + 4


def test_path_bytes_and_message_give_the_same(onnx_light) -> None:
    path = onnx_light / "light_squeezenet.onnx"
    graphs = [
        read_onnx(source, name="net") for source in (path, str(path), path.read_bytes(), onnx.load(path))
    ]
    assert all(graph == graphs[0] for graph in graphs)


def test_a_path_that_is_no_network(tmp_path: Path) -> None:
    empty, text, html = tmp_path / "empty.onnx", tmp_path / "text.onnx", tmp_path / "page.onnx"
    empty.touch()
    text.write_text("a network, honestly\n" * 20)
    html.write_text("<!DOCTYPE html><html><body>404</body></html>\n" * 3000)  # more than is parsed at once
    for path, reason in [
        (tmp_path / "missing.onnx", "No such file"),
        (tmp_path, "Is a directory"),
        (empty, "is empty"),
        (text, "not an ONNX network"),
        (html, "not an ONNX network"),
        (text / "inside.onnx", "Not a directory"),
    ]:
        with pytest.raises(AiopError) as raised:
            read_onnx(path)
        assert str(path) in str(raised.value)
        assert reason in str(raised.value)
    with pytest.raises(AiopError, match="cannot be read"):
        read_onnx("net\0work.onnx")


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\x08\x08", onnx.ModelProto(ir_version=8).SerializeToString()]
)
def test_bytes_that_are_no_network(data: bytes) -> None:
    with pytest.raises(AiopError, match="not an ONNX network"):
        read_onnx(data)


@pytest.mark.parametrize("worth_asking", [0, 1 << 22])
def test_more_nodes_than_memory_is_there_for(network, monkeypatch, tmp_path: Path, worth_asking: int) -> None:
    nodes = " ".join(f"a{i + 1} = Relu({'x' if i == 0 else f'a{i}'})" for i in range(4000))
    path = tmp_path / "many.onnx"
    path.write_bytes(network(f"(float[1] x) => (float y) {{ {nodes} y = Relu(a4000) }}").SerializeToString())
    assert path.stat().st_size > LARGEST_VALUE
    monkeypatch.setattr(wire, "_WORTH_ASKING", worth_asking)
    assert len(read_onnx(path).operations) == 4002
    monkeypatch.setattr(wire, "_MOST_PARTS", 4000)
    with pytest.raises(AiopError, match=r"many\.onnx: the file has more than 4,000 nodes"):
        read_onnx(path)


def test_a_large_graph_is_outlined_in_parts(network, monkeypatch) -> None:
    nodes = " ".join(f"a{i + 1} = Relu({'x' if i == 0 else f'a{i}'})" for i in range(10))
    model = network(f"(float[1] x) => (float y) {{ {nodes} y = Relu(a10) }}")
    whole = read_onnx(model)
    monkeypatch.setattr(onnx_outline, "_AT_ONCE", 3)
    assert [node.name or node.output[0] for node in onnx_outline.outline(model.graph)][::5] == [
        "a1",
        "a6",
        "y",
    ]
    assert read_onnx(model).operations == whole.operations
