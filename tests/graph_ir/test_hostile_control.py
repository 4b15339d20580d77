"""Branches, loops and sequences meant to exhaust a reader give a graph or an `AiopError`, soon, and nothing else."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np
import onnx
import pytest
from hostile import attempt

from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph

CONTROL = """(float[2,8] x, int64 n, bool g) => (float y, float z, float v) {
    a, z = Loop(k, t, x) <body = b (int64 i, bool c, float[2,8] s) => (bool d, float[2,8] o, float[2,8] q) {
        d = Identity(c)
        m = If(g) <then_branch = p () => (float r) { r = MatMul(s, w) },
                   else_branch = e () => (float r) { r = Relu(s) }>
        o = Add(m, x) q = Identity(o)
    }>
    y, u = Scan(x, z) <num_scan_inputs = 1, body = h (float[2,8] s, float[2,8] f) => (float[2,8] o, float[2,8] q) {
        o = Add(s, f) q = MatMul(o, w)
    }>
    l = SplitToSequence<axis=0>(u, j)
    f = SequenceInsert(l, u, j)
    r = SequenceMap(f) <body = o (float e1) => (float e2) { e2 = Tanh(e1) }>
    e = SequenceAt(r, n)
    v = ConcatFromSequence<axis=0>(r)
}"""
NUMBERS = [0, 1, -1, 2, 7, -5, 100, 65_536, 2**31, 2**62, 2**63 - 1, -(2**63)]


@pytest.fixture(scope="module")
def control(network) -> onnx.ModelProto:
    model: onnx.ModelProto = network(CONTROL, k=np.int64(4), t=np.array(True), j=np.int64(1), w=(8, 8))
    assert isinstance(attempt(model.SerializeToString()), ComputeGraph)
    return model


def loops(depth: int, inner: str = "o0 = MatMul(s0, w)") -> str:
    """Return the text of loops within loops, each of ``k`` steps."""
    text = inner
    for level in range(1, depth + 1):
        low = level - 1
        body = f"(int64 i{low}, bool c{low}, float[2,8] s{low}) => (bool d{low}, float[2,8] o{low})"
        text = f"o{level} = Loop(k, t, s{level}) <body = b {body} {{ d{low} = Identity(c{low}) {text} }}>"
    return f"(float[2,8] s{depth}) => (float o{depth}) {{ {text} }}"


@pytest.mark.parametrize(("depth", "steps"), [(2, 64), (4, 60), (12, 2), (12, 30), (25, 2), (25, 3)])
def test_loops_in_loops(network, depth: int, steps: int) -> None:
    result = attempt(network(loops(depth), k=np.int64(steps), t=np.array(True), w=(8, 8)))
    if isinstance(result, ComputeGraph):
        assert result.macs == steps**depth * 128
        assert result.params == 64
    else:
        assert steps**depth * 128 > 2**62
        assert "MACs" in str(result)


@pytest.mark.parametrize("steps", [10**18, 2**63 - 1, 2**62])
def test_trip_counts_that_no_machine_would_finish(network, steps: int) -> None:
    result = attempt(network(loops(1), k=np.int64(steps), t=np.array(True), w=(8, 8)))
    if steps == 2**63 - 1:  # how exporters write that there is no limit
        assert isinstance(result, ComputeGraph)
        assert "counted once" in result.notes[0]
    else:
        assert "MACs" in str(result)
    stacked = """(float[2,8] x) => (float y) { a, y = Loop(k, t, x) <body =
        b (int64 i, bool c, float[2,8] s) => (bool d, float[2,8] o, float[2,8] q) {
            d = Identity(c) o = Relu(s) q = Identity(o) }> }"""
    attempt(network(stacked, k=np.int64(steps), t=np.array(True)))


def test_a_loop_that_never_ends(network) -> None:
    text = """(float[2,8] x) => (float y, float j) { y, j = Loop("", t, x, zero) <body =
        b (int64 i, bool c, float[2,8] s, float r) => (bool d, float[2,8] o, float q) {
            o = MatMul(s, w) q = Mul(r, r) d = Less(q, one)
        }> }"""
    model = network(text, t=np.array(True), w=(8, 8), zero=np.float32(0), one=np.float32(1))
    result = attempt(model)
    assert isinstance(result, ComputeGraph)
    assert "counted once" in result.notes[0]


def test_a_negative_trip_count(network) -> None:
    result = attempt(network(loops(1), k=np.int64(-5), t=np.array(True), w=(8, 8)))
    assert isinstance(result, ComputeGraph)
    assert result.macs == 0


@pytest.mark.parametrize(
    "body",
    [
        "o0 = Add(s0, o1)",  # its own result
        "o0 = Relu(o0)",
        "o0 = Relu(later)",
        "later = Relu(o0) o0 = Relu(later)",
        "s0 = Relu(s1)",
        "d0 = Relu(s0) o0 = Relu(s0)",
    ],
)
def test_a_body_that_reads_itself(network, body: str) -> None:
    result = attempt(network(loops(1, body), k=np.int64(3), t=np.array(True)))
    assert isinstance(result, AiopError)


def test_a_body_whose_output_is_its_input(network) -> None:
    text = loops(1, "").replace("float[2,8] o0)", "float[2,8] s0)")
    for steps in (3, 1_000):
        result = attempt(network(text, k=np.int64(steps), t=np.array(True)))
        assert isinstance(result, ComputeGraph)
        assert result.outputs == ("s1",)


def test_branches_in_branches(network) -> None:
    text = "y0 = MatMul(x, w)"
    for level in range(1, 10):
        low = level - 1
        sides = f"then_branch = a () => (float y{low}) {{ {text} }}, else_branch = b () => (float y{low}) {{ {text} }}"
        text = f"y{level} = If(g) <{sides}>"
    result = attempt(network(f"(float[2,8] x, bool g) => (float y9) {{ {text} }}", w=(8, 8)))
    assert isinstance(result, ComputeGraph)
    assert (result.macs, result.params) == (128, 64)


def test_thousands_of_branches_side_by_side(network) -> None:
    count = 2_000
    text = " ".join(
        f"x{i + 1} = If(g) <then_branch = a () => (float p) {{ p = Relu(x{i}) }}, "
        f"else_branch = b () => (float q) {{ q = Tanh(x{i}) }}>"
        for i in range(count)
    )
    result = attempt(network(f"(float[2,8] x0, bool g) => (float x{count}) {{ {text} }}"), 10)
    assert isinstance(result, ComputeGraph)
    assert len(result.operations) == count + 2


@pytest.mark.parametrize("kind", ["If", "Loop"])
@pytest.mark.parametrize("depth", [80, 2_000])
def test_subgraphs_nested_deeper_than_files_can_be(network, depth: int, kind: str) -> None:
    model = network("(bool g) => (bool y) { y = Not(g) }", k=np.int64(2))
    graph = model.graph
    for _ in range(depth):
        node = graph.node.add(op_type=kind, input=["k", "g"] if kind == "Loop" else ["g"], output=["y"])
        graph = node.attribute.add(
            name="body" if kind == "Loop" else "then_branch", type=onnx.AttributeProto.GRAPH
        ).g
        graph.output.add(name="y")
        if kind == "Loop":
            graph.input.add(name="i")
            graph.input.add(name="c")
    del model.graph.node[0]
    assert isinstance(attempt(model), AiopError)


def test_many_subgraphs_come_to_an_end(network) -> None:
    relus = " ".join(f"p{i + 1} = Relu(p{i})" for i in range(900))
    loop = f"""o = Loop(k, t, s) <body = b (int64 i, bool c, float[2,8] p0) => (bool d, float[2,8] p900) {{
        d = Identity(c) {relus} }}>"""
    text = " ".join(loop.replace("o =", f"s{n + 1} =").replace(", s)", f", s{n})") for n in range(8))
    result = attempt(
        network(f"(float[2,8] s0) => (float s8) {{ {text} }}", k=np.int64(2), t=np.array(True)), 20
    )
    assert isinstance(result, ComputeGraph)


# -- sequences


def test_a_sequence_that_doubles_in_a_loop(network) -> None:
    text = """(float[2,8] x) => (float y) {
        e = SequenceConstruct(x)
        q = Loop(k, t, e) <body = b (int64 i, bool c, seq(float) s) => (bool d, seq(float) o) {
            d = Identity(c) m = ConcatFromSequence<axis=0>(s) o = SequenceInsert(s, m)
        }>
        y = ConcatFromSequence<axis=0>(q)
    }"""
    for steps in (3, 50, 64, 10**6, 10**17):
        result = attempt(network(text, k=np.int64(steps), t=np.array(True)))
        if steps == 3:
            assert isinstance(result, ComputeGraph)
            assert result.tensors["y"].shape == (2 * 2**3, 8)


@pytest.mark.parametrize("size", [10**9, 10**12, 2**40])
def test_a_split_into_a_billion_tensors(network, size: int) -> None:
    tracemalloc.start()
    text = f"""(float[{size}] x) => (float y) {{
        s = SplitToSequence(x) m = SequenceMap(s) <body = b (float e) => (float f) {{ f = Relu(e) }}>
        y = ConcatFromSequence<axis=0>(m) }}"""
    result = attempt(network(text))
    assert isinstance(result, ComputeGraph)
    assert result.tensors[result.outputs[0]].shape == (size,)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_maps_in_maps(network) -> None:
    text, count = "q0 = Relu(e0)", 9
    for level in range(1, count):
        low = level - 1
        text = (
            f"a{level} = SequenceConstruct(e{level}, e{level}, k) b{level} = SequenceMap(a{level}) "
            f"<body = b (float e{low}) => (float q{low}) {{ {text} }}> q{level} = ConcatFromSequence<axis=0>(b{level})"
        )
    attempt(
        network(f"(float[8] e{count - 1}) => (float q{count - 1}) {{ {text} }}", k=np.ones(8, np.float32)), 20
    )


def test_thousands_of_insertions(network) -> None:
    inserts = " ".join(f"r{i} = Relu(x) q{i + 1} = SequenceInsert(q{i}, r{i})" for i in range(800))
    text = (
        f"(float[2] x) => (float y) {{ q0 = SequenceEmpty() {inserts} y = ConcatFromSequence<axis=0>(q800) }}"
    )
    result = attempt(network(text), 20)
    assert isinstance(result, ComputeGraph)
    assert result.tensors["y"].shape == (1_600,)


# -- damage


def graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    inner = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    return [graph, *(other for one in inner for other in graphs(one))]


def mutate(model: onnx.ModelProto, rng: random.Random) -> onnx.ModelProto:
    """Return a network with one field of one of its graphs changed to something it may hold, but should not."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    every = [graph for graph in graphs(result.graph) if graph.node]
    graph = rng.choice(every)
    node = rng.choice(graph.node)
    names = [name for one in every for other in one.node for name in (*other.input, *other.output)]
    match rng.randrange(12):
        case 0:
            node.input[:] = rng.sample(names, rng.randrange(4))
        case 1:
            node.output[:] = rng.sample(names, rng.randrange(3))
        case 2 if node.attribute:
            del node.attribute[rng.randrange(len(node.attribute))]
        case 3 if graph.input:
            del graph.input[rng.randrange(len(graph.input))]
        case 4 if graph.output:
            del graph.output[rng.randrange(len(graph.output))]
        case 5:
            graph.output.add(name=rng.choice(names))
        case 6:
            graph.input.add(name=rng.choice(names))
        case 7:
            node.op_type = rng.choice(
                ["If", "Loop", "Scan", "SequenceAt", "SequenceMap", "Identity", "Optional", "Add"]
            )
        case 8:
            copy = rng.choice(every).SerializeToString()
            node.attribute.add(name="body", type=onnx.AttributeProto.GRAPH).g.ParseFromString(copy)
        case 9:
            result.graph.initializer[0].CopyFrom(
                onnx.numpy_helper.from_array(np.int64(rng.choice(NUMBERS)), result.graph.initializer[0].name)
            )
        case 10:
            node.attribute.add(
                name=rng.choice(["num_scan_inputs", "axis", "new_axis"]), type=2, i=rng.choice(NUMBERS)
            )
        case _:
            del graph.node[rng.randrange(len(graph.node))]
    return result


def test_fields_out_of_place(control) -> None:
    rng = random.Random(5)
    kinds = set()
    for _ in range(250):
        model = control
        for _ in range(rng.randrange(1, 4)):
            model = mutate(model, rng)
        kinds.add(type(attempt(model.SerializeToString())))
    assert kinds == {AiopError, ComputeGraph}


def test_flipped_bits(control) -> None:
    rng = random.Random(6)
    data = control.SerializeToString()
    for _ in range(200):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        attempt(bytes(damaged))
