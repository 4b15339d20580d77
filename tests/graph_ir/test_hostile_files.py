"""Damaged and hostile files give a graph or an `AiopError`, soon, and nothing else."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import onnx
import pytest
from hostile import attempt, varint

from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph, read_onnx
from aiop.graph_ir.reading.wire import LARGEST_VALUE
from benchmarks.mutations import tampered

CONVOLUTIONS = """(float[1,3,16,16] x) => (float[1,4] y) {
    a = Conv<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(x, w, b)
    n = BatchNormalization(a, b, b, b, b)
    s = Sigmoid(n)
    m = Mul(n, s)
    p = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(m)
    r = Resize(p, , f)
    c = Concat<axis=1>(r, a)
    g = GlobalAveragePool(c)
    v = Reshape(g, t)
    y = Gemm<transB=1>(v, d)
}"""
ATTENTION = """(float[2,5,8] x) => (float y) {
    q = MatMul(x, w)
    z = Shape(x)
    l = Gather(z, i)
    k = Unsqueeze(l, o)
    j = Concat<axis=0>(k, h)
    u = Reshape(q, j)
    m, e = Split<axis=2>(u)
    t = Transpose<perm=[0,2,1]>(e)
    a = MatMul(m, t)
    s = Softmax(a)
    n = ReduceMean<axes=[-1]>(s)
    y = Einsum<equation="abc,adc->db">(n, n)
}"""
ARITHMETIC = """(float[2,6] x) => (float y) {
    a = Range(i0, i9, i3)
    b = ConstantOfShape(a)
    c = Expand(b, a)
    d = Slice(x, i0, i1, i1)
    e = Pad(d, p)
    f = Tile(e, r)
    k, n = TopK(f, i1)
    m = CumSum(k, i0)
    y = Where(t, m, h)
}"""


SCHEMAS = sorted({schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""})


@pytest.fixture(scope="module")
def models(network) -> list[onnx.ModelProto]:
    rows = {f"i{i}": np.array([i]) for i in (0, 1, 3, 9)}
    return [
        network(
            CONVOLUTIONS,
            w=(4, 3, 3, 3),
            b=(4,),
            d=(4, 8),
            f=np.array([1, 1, 2, 2], np.float32),
            t=np.array([0, -1]),
        ),
        network(ATTENTION, w=(8, 8), i=np.array(0), o=np.array([0]), h=np.array([5, 8])),
        network(
            ARITHMETIC,
            **rows,
            p=np.array([0, 0, 1, 1]),
            r=np.array([2, 1]),
            t=np.array(True),
            h=np.float32(0),
        ),
    ]


def test_the_networks_themselves_are_read(models) -> None:
    for model in models:
        assert isinstance(attempt(model.SerializeToString()), ComputeGraph), attempt(model)


def test_truncated_files(models) -> None:
    for model in models:
        data = model.SerializeToString()
        whole = attempt(data)
        for end in range(0, len(data), 7):
            cut = attempt(data[:end])
            assert isinstance(cut, AiopError) or cut == whole


def test_truncated_large_files(network, tmp_path) -> None:
    model = network("(float[9,400] x) => (float y) { a = MatMul(x, w) b = MatMul(a, v) y = Relu(b) }",
                    w=(400, 100), v=(100, 400))  # fmt: skip
    data = model.SerializeToString()
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    whole = read_onnx(path)
    for end in range(LARGEST_VALUE + 1, len(data), 9_973):
        path.write_bytes(data[:end])
        with pytest.raises(AiopError, match="not an ONNX"):
            read_onnx(path)
    path.write_bytes(data)
    assert read_onnx(path) == whole


def test_flipped_bits(models) -> None:
    rng = random.Random(1)
    kinds = set()
    for model in models:
        data = model.SerializeToString()
        for _ in range(100):
            damaged = bytearray(data)
            damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            kinds.add(type(attempt(bytes(damaged))))
    assert kinds == {AiopError, ComputeGraph}


def test_random_bytes() -> None:
    rng = random.Random(2)
    for size in (1, 2, 3, 10, 100, 1000):
        for _ in range(20):
            assert isinstance(attempt(rng.randbytes(size)), AiopError)
    for _ in range(5):
        assert isinstance(attempt(rng.randbytes(LARGEST_VALUE + 100)), AiopError)


def test_fields_out_of_place(models) -> None:
    rng = random.Random(3)
    kinds = set()
    for _ in range(600):
        model = onnx.ModelProto()
        model.CopyFrom(rng.choice(models))
        for _ in range(rng.randrange(1, 4)):
            tampered(model, rng)
        kinds.add(type(attempt(model.SerializeToString())))
    assert kinds == {AiopError, ComputeGraph}


def test_every_standard_operator_on_any_inputs(network) -> None:
    rng = random.Random(4)
    for kind in SCHEMAS:
        for _ in range(3):
            inputs = ", ".join(rng.choices(["x", "z", "w", "s", ""], k=rng.randrange(6)))
            outputs = ", ".join("abc"[: rng.randrange(1, 4)])
            model = network(
                "(float[2,3,8,8] x, float z) => (float a) { a = Relu(x) }", w=(4, 3, 3, 3), s=np.array([2])
            )
            model.graph.node[0].op_type = kind
            model.graph.node[0].input[:] = inputs.split(", ")
            model.graph.node[0].output[:] = outputs.split(", ")
            attempt(model.SerializeToString())


@pytest.mark.parametrize(
    "nodes",
    [
        "y = MatMul(x, huge)",
        "y = Add(x, huge)",
        "y = Reshape(x, sizes)",
        "y = Expand(x, sizes)",
        "y = Tile(x, sizes)",
        "y = Pad(x, sizes)",
        "y = ConstantOfShape(sizes)",
        "c = ConstantOfShape(sizes) y = Add(x, c)",
        "y = Resize(x, , , sizes)",
        "y = OneHot(x, limit, x)",
        "r = Range(zero, limit, one) y = Add(x, r)",
        "y = Slice(x, sizes, sizes)",
        "y = Split(x, sizes)",
        "y = Unsqueeze(x, sizes)",
        "y = Conv<kernel_shape=[4611686018427387904, 1], pads=[4611686018427387904, 0, 0, 0]>(x, w)",
        "y = ConvTranspose<strides=[4611686018427387904, 1]>(x, w)",
        "y = MaxPool<kernel_shape=[1, 1], pads=[4611686018427387904, 4611686018427387904, 0, 0]>(x)",
        "y = DepthToSpace<blocksize=4611686018427387904>(x)",
        "y = SpaceToDepth<blocksize=4611686018427387904>(x)",
        "y = Split<num_outputs=4611686018427387904>(x)",
        "y = LSTM<hidden_size=4611686018427387904>(x, w, w)",
    ],
)
def test_absurd_sizes_cost_nothing(network, nodes: str) -> None:
    model = network(
        f"(float[2,3,8,8] x) => (float y) {{ {nodes} }}", 18, w=(3, 3, 1, 1), zero=np.int64(0), one=np.int64(1),
        limit=np.int64(2**62), sizes=np.array([2**62, 2**62]),
    )  # fmt: skip
    model.graph.initializer.add(name="huge", data_type=onnx.TensorProto.FLOAT, dims=[2**30, 8, 8])
    attempt(model.SerializeToString())


def test_a_tensor_of_many_axes(network) -> None:
    axes = ",".join(["1"] * 200)
    attempt(
        network(f"(float[{axes}] x) => (float y) {{ a = Add(x, x) b = Transpose(a) y = Add(b, w) }}", w=(1,))
    )


def nested(depth: int) -> onnx.GraphProto:
    inner = None
    for level in range(depth):
        graph = onnx.GraphProto(name=f"level{level}")
        node = graph.node.add(op_type="If", input=["c"], output=[f"y{level}"])
        if inner is not None:
            for name in ("then_branch", "else_branch")[: 1 + (level % 2)]:
                node.attribute.add(name=name, type=onnx.AttributeProto.GRAPH).g.CopyFrom(inner)
        graph.output.add(name=f"y{level}")
        inner = graph
    assert inner is not None
    return inner


@pytest.mark.parametrize("depth", [2, 10, 28])
@pytest.mark.parametrize("payload", [0, LARGEST_VALUE + 1])
def test_nested_graphs(network, depth: int, payload: int) -> None:
    model = network("(float[2] x) => (float y) { y = Relu(x) }", c=np.array(True))
    model.graph.node[0].op_type = "If"
    model.graph.node[0].input[:] = ["c"]
    model.graph.node[0].attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g.CopyFrom(
        nested(depth)
    )
    model.doc_string = "x" * payload
    assert isinstance(attempt(model.SerializeToString()), AiopError)


@pytest.mark.parametrize("depth", [100, 5_000])
def test_messages_nested_too_deep(depth: int) -> None:
    message = b""
    for level in range(depth):  # graph in attribute in node in graph ...
        number = (1, 5, 6)[level % 3]
        message = bytes([number << 3 | 2]) + varint(len(message)) + message
    graph = message + b"z" * (LARGEST_VALUE + 1)
    for data in (message, graph):
        assert isinstance(attempt(b"\x3a" + varint(len(data)) + data), AiopError)


def with_functions(calls: int, depth: int) -> onnx.ModelProto:
    """A network of functions, each of which calls the next one several times."""
    imports = 'opset_import: ["": 17, "local": 1]'
    texts = [f"<ir_version: 8, {imports}> net (float[4] x) => (float y) {{ y = local.f0(x) }}"]
    for level in range(depth):
        chain = " ".join(f"t{i + 1} = local.f{level + 1}(t{i})" for i in range(calls))
        texts.append(f'<domain: "local", {imports}> f{level} (t0) => (t{calls}) {{ {chain} }}')
    texts.append(f'<domain: "local", {imports}> f{depth} (a) => (b) {{ b = Relu(a) }}')
    return onnx.parser.parse_model("\n".join(texts))


def test_functions_are_inlined() -> None:
    graph = attempt(with_functions(3, 4))
    assert isinstance(graph, ComputeGraph)
    assert [operation.op for operation in graph.operations] == ["Input"] + ["Relu"] * 3**4


def test_functions_that_would_fill_the_memory() -> None:
    assert "1000000 nodes" in str(attempt(with_functions(10, 40)))


def test_functions_that_call_each_other() -> None:
    model = with_functions(2, 3)
    model.functions[-1].node[0].op_type = "f0"
    model.functions[-1].node[0].domain = "local"
    assert "cannot be inlined" in str(attempt(model))


def test_a_long_chain_is_read_in_linear_time(network) -> None:
    count = 20_000
    model = network("(float[4] x) => (float y) { y = Relu(x) }")
    del model.graph.node[:]
    names = ["x", *(f"t{i}" for i in range(count - 1)), "y"]
    for source, target in pairwise(names):
        model.graph.node.add(op_type="Relu", input=[source], output=[target])
    forwards = read_onnx(model)
    backwards = onnx.ModelProto()
    backwards.CopyFrom(model)
    del backwards.graph.node[:]
    backwards.graph.node.extend(reversed(model.graph.node))
    assert len(forwards.operations) == count + 1
    assert read_onnx(backwards).operations == forwards.operations


def test_names_that_are_no_text(models) -> None:
    for model in models:
        data = model.SerializeToString()
        for at, byte in enumerate(data):
            if byte == ord("x"):
                attempt(data[:at] + b"\xff" + data[at + 1 :])


# What `benchmarks.fuzz` found, as short as it gets.


@pytest.mark.parametrize("length", [2**31 - 1, 2**40])
@pytest.mark.parametrize(
    "nodes",
    [
        "y = Expand(x, sizes)",
        "y = Reshape(x, sizes)",
        "y = ConstantOfShape(sizes)",
        "y = Unsqueeze(x, sizes)",
        "y = Squeeze(x, sizes)",
        "y = ReduceSum(x, sizes)",
        "y = Tile(x, sizes)",
        "y = Pad(x, sizes)",
        "y = Slice(x, sizes, sizes)",
        "y = Resize(x, , , sizes)",
    ],
)
def test_as_many_axes_as_an_input_is_long(network, nodes: str, length: int) -> None:
    model = network(f"(float[1,3,1,3] x, int64[{length}] sizes) => (float[3,3,3] y) {{ {nodes} }}", 18)
    assert "axes" in str(attempt(model.SerializeToString()))


@pytest.mark.parametrize(
    "nodes",
    ["y, s, z = DynamicQuantizeLinear(c)", "y, i, j, n = Unique<axis=1>(c)", "y = Softmax<axis=1>(c)"],
)
def test_operators_of_constants_only(network, nodes: str) -> None:
    model = network(f"(float[2] x) => (y) {{ {nodes} }}", 18, c=(2, 3))
    assert isinstance(attempt(model.SerializeToString()), ComputeGraph)
