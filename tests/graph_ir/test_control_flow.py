"""Branches and loops: counted by hand, shapes against onnxruntime, which runs them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest

from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph, read_onnx
from aiop.graph_ir.features import encode
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise

STEP = "(int64 i, bool c, float[2,8] s) => (bool d, float[2,8] o, float[2,8] k)"
LOOP = f"""(float[2,8] x) => (float y, float z) {{ y, z = Loop(n, t, x) <body = b {STEP} {{
    d = Identity(c) m = MatMul(s, w) o = Relu(m) k = Identity(o)
}}> }}"""
ROWS = "(float[2,8] s, float[2,4] e) => (float[2,8] o, float[2,8] k)"
SCAN = f"""(float[7,2,4] x) => (float h, float z) {{ h, z = Scan(h0, x) <num_scan_inputs = 1, body = b {ROWS} {{
    a = MatMul(e, wi) r = MatMul(s, wh) m = Add(a, r) o = Tanh(m) k = Identity(o)
}}> }}"""
IF = """(float[2,8] x, bool c) => (float y) { y = If(c) <
    then_branch = a () => (float p) { p = MatMul(x, w) },
    else_branch = b () => (float p) { q = MatMul(x, w) p = MatMul(q, v) }
> }"""


def kinds(graph: ComputeGraph) -> list[str]:
    return [operation.op for operation in graph.operations]


def digest(graph: ComputeGraph) -> str:
    return content_hash(canonicalise(graph))


def reaches(graph: ComputeGraph, source: str, target: str) -> bool:
    """Return whether data flows from one tensor to another."""
    known = {source}
    for operation in graph.operations:
        if known.intersection(operation.inputs):
            known.update(operation.outputs)
    return target in known


def output_shapes(graph: ComputeGraph) -> list[tuple[int, ...]]:
    return [graph.tensors[key].shape for key in graph.outputs]


def computed(model: onnx.ModelProto, **feeds: np.ndarray) -> list[tuple[int, ...]]:
    """Return the shapes of the outputs that onnxruntime computes."""
    for value in model.graph.input:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        feeds.setdefault(value.name, np.ones(shape, np.float32))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [array.shape for array in session.run(None, feeds)]


# -- Loop


def test_a_loop_of_few_steps_is_unrolled(network, graph) -> None:
    model = network(LOOP, n=np.int64(3), t=np.array(True), w=(8, 8))
    found = read_onnx(model)
    assert found.macs == 3 * 2 * 8 * 8
    assert found.params == 64
    assert output_shapes(found) == computed(model) == [(2, 8), (3, 2, 8)]
    written_out = graph(
        """(float[2,8] x) => (float b, float z) {
            m = MatMul(x, w) a = Relu(m) n = MatMul(a, w) e = Relu(n) o = MatMul(e, w) b = Relu(o)
            ua = Unsqueeze(a, j) ue = Unsqueeze(e, j) ub = Unsqueeze(b, j) z = Concat<axis=0>(ua, ue, ub)
        }""",
        w=(8, 8), j=np.array([0]),
    )  # fmt: skip
    assert digest(found) == digest(written_out)


@pytest.mark.parametrize("steps", [100, 10_000])
def test_a_loop_of_many_steps_is_counted_by_its_trip_count(network, steps: int) -> None:
    model = network(LOOP, n=np.int64(steps), t=np.array(True), w=(8, 8))
    found = read_onnx(model)
    assert found.macs == steps * 2 * 8 * 8
    assert found.params == 64
    assert len(found.operations) < 10
    assert output_shapes(found) == computed(model) == [(2, 8), (steps, 2, 8)]
    assert all(reaches(found, "x", key) for key in found.outputs)
    linear = next(operation for operation in found.operations if operation.op == "Linear")
    assert dict(linear.attributes)["repeat"] == steps
    assert linear.output_elements == steps * 16
    assert found.notes == ()
    encode(found)


def test_the_hash_tells_trip_counts_apart(graph) -> None:
    digests = {digest(graph(LOOP, n=np.int64(n), t=np.array(True), w=(8, 8))) for n in (2, 3, 100, 200)}
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        (LOOP.replace("(float[2,8] x)", "(float[2,8] x, int64 n)"), {"t": np.array(True)}),
        (LOOP.replace("(float[2,8] x)", "(float[2,8] x, bool t)"), {"n": np.int64(9)}),
        (LOOP.replace("Loop(n, t", 'Loop("", t'), {"t": np.array(True)}),
        (LOOP.replace("d = Identity(c)", "u = ReduceMax<keepdims=0>(s) d = Less(u, e)"),
         {"n": np.int64(9), "t": np.array(True), "e": np.float32(3)}),
    ],
    ids=["trip count from data", "first condition from data", "no limit", "condition from data"],
)  # fmt: skip
def test_a_loop_of_unknown_length_is_counted_once_and_noted(
    graph, text: str, weights: dict[str, object]
) -> None:
    found = graph(text, **weights, w=(8, 8))
    assert found.macs == 2 * 8 * 8
    (note,) = found.notes
    assert "is counted once" in note
    assert output_shapes(found) == [(2, 8), (1, 2, 8)]
    assert reaches(found, "x", found.outputs[0])


def test_the_file_may_state_how_many_steps_an_unknown_loop_has(graph) -> None:
    text = LOOP.replace("(float[2,8] x)", "(float[2,8] x, int64 n)").replace("float z)", "float[5,2,8] z)")
    found = graph(text, t=np.array(True), w=(8, 8))
    assert found.macs == 5 * 2 * 8 * 8
    assert output_shapes(found) == [(2, 8), (5, 2, 8)]


@pytest.mark.parametrize("steps", [5, 64, 65, 700])
def test_a_counter_ends_a_loop(network, steps: int) -> None:
    text = """(float[2,8] x) => (float y, float j) { y, j = Loop("", t, x, zero) <body =
        b (int64 i, bool c, float[2,8] s, float r) => (bool d, float[2,8] o, float q) {
            o = MatMul(s, w) q = Add(r, one) d = Less(q, five)
        }> }"""
    numbers = {"zero": np.float32(0), "one": np.float32(1), "five": np.float32(steps)}
    model = network(text, t=np.array(True), w=(8, 8), **numbers)
    found = read_onnx(model)
    assert found.macs == steps * 2 * 8 * 8
    assert output_shapes(found) == computed(model)[:1]
    assert not any("counted once" in note for note in found.notes)


def test_a_loop_without_steps_hands_on_what_it_gets(graph) -> None:
    found = graph(LOOP, n=np.int64(0), t=np.array(True), w=(8, 8))
    assert (found.macs, found.params) == (0, 0)
    assert found.outputs == ("x",)
    assert graph(LOOP, n=np.int64(9), t=np.array(False), w=(8, 8)).macs == 0


@pytest.mark.parametrize(("outer", "inner"), [(3, 4), (3, 100), (100, 4), (100, 200)])
def test_nested_loops_multiply(network, outer: int, inner: int) -> None:
    text = """(float[2,8] x) => (float y) { y = Loop(n, t, x) <body =
        b (int64 i, bool c, float[2,8] s) => (bool d, float[2,8] o) {
            d = Identity(c)
            o = Loop(m, t, s) <body = b (int64 i2, bool c2, float[2,8] s2) => (bool d2, float[2,8] o2) {
                d2 = Identity(c2) p = MatMul(s2, w) o2 = Add(p, x)
            }>
        }> }"""
    model = network(text, n=np.int64(outer), m=np.int64(inner), t=np.array(True), w=(8, 8))
    found = read_onnx(model)
    assert found.macs == outer * inner * 2 * 8 * 8
    assert found.params == 64
    assert output_shapes(found) == computed(model)


def test_what_a_loop_gathers_grows(network) -> None:
    text = """(float[2,8] x) => (float y) { y = Loop(n, t, x) <body =
        b (int64 i, bool c, float[r,8] s) => (bool d, float[q,8] o) { d = Identity(c) o = Concat<axis=0>(s, x) }> }"""
    model = network(text, n=np.int64(5), t=np.array(True))
    assert output_shapes(read_onnx(model)) == computed(model) == [(12, 8)]


def test_what_grows_over_many_steps_is_noted(graph) -> None:
    text = """(float[2,8] x) => (float y) { y = Loop(n, t, x) <body =
        b (int64 i, bool c, float[r,8] s) => (bool d, float[q,8] o) { d = Identity(c) o = Concat<axis=0>(s, x) }> }"""
    found = graph(text, n=np.int64(500), t=np.array(True))
    assert output_shapes(found) == [(4, 8)]
    (note,) = found.notes
    assert "only one step is followed" in note


@pytest.mark.parametrize("steps", [6, 300])
def test_a_sequence_collected_in_a_loop(network, steps: int) -> None:
    text = """(float[2,8] x) => (float y) {
        e = SequenceEmpty()
        q = Loop(n, t, e) <body =
            b (int64 i, bool c, seq(float) s) => (bool d, seq(float) o) {
                d = Identity(c) m = MatMul(x, w) o = SequenceInsert(s, m)
            }>
        y = ConcatFromSequence<axis=1>(q)
    }"""
    model = network(text, n=np.int64(steps), t=np.array(True), w=(8, 8))
    found = read_onnx(model)
    assert found.macs == steps * 2 * 8 * 8
    assert output_shapes(found) == computed(model) == [(2, 8 * steps)]
    assert found.notes == ()


# -- Scan


@pytest.mark.parametrize("length", [7, 500])
def test_a_scan_is_counted_by_the_length_of_what_it_scans(network, length: int) -> None:
    text = SCAN.replace("[7,", f"[{length},")
    model = network(text, h0=np.zeros((2, 8), np.float32), wi=(4, 8), wh=(8, 8))
    found = read_onnx(model)
    assert found.macs == length * (
        2 * 4 * 8 + 2 * 8 * 8
    )  # the zeros to start from are not folded into the first step
    assert found.params == 4 * 8 + 8 * 8
    assert output_shapes(found) == computed(model) == [(2, 8), (length, 2, 8)]
    assert all(reaches(found, "x", key) for key in found.outputs)


@pytest.mark.parametrize("length", [7, 500])
def test_a_scan_along_other_axes_and_backwards(network, length: int) -> None:
    text = SCAN.replace("float[7,2,4]", f"float[2,{length},4]").replace(
        "num_scan_inputs = 1",
        "num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [-1], scan_input_directions = [1], "
        "scan_output_directions = [1]",
    )
    model = network(text, h0=np.zeros((2, 8), np.float32), wi=(4, 8), wh=(8, 8))
    found = read_onnx(model)
    assert output_shapes(found) == computed(model) == [(2, 8), (2, 8, length)]


@pytest.mark.parametrize(("batch", "length"), [(1, 3), (5, 3), (2, 300)])
def test_a_scan_of_opset_8_runs_over_a_batch(network, batch: int, length: int) -> None:
    text = f"""(float[{batch},8] h0, float[{batch},{length},4] x) => (float h, float z) {{
        h, z = Scan("", h0, x) <num_scan_inputs = 1, body = b (float[8] s, float[4] e) => (float[8] o, float[8] k) {{
            a = MatMul(e, w) o = Add(a, s) k = Identity(o)
        }}> }}"""
    model = network(text, 8, w=(4, 8))
    found = read_onnx(model)
    assert found.macs == batch * length * 4 * 8
    assert output_shapes(found) == computed(model) == [(batch, 8), (batch, length, 8)]


# -- If


def test_the_more_costly_branch_is_read(graph) -> None:
    for condition in ("If(c)", "If(u)"):
        text = IF.replace("y = If(c)", f"u = Not(c) y = {condition}")
        found = graph(text, w=(8, 8), v=(8, 8))
        assert found.macs == 2 * (2 * 8 * 8)
        assert found.params == 2 * 64
        (note,) = found.notes
        assert "the more costly one is read" in note
        assert reaches(found, "x", found.outputs[0])


def test_the_other_branch_leaves_nothing_behind(graph, network) -> None:
    found = graph(IF, w=(8, 8), v=(8, 8))
    plain = graph(
        "(float[2,8] x, bool c) => (float p) { q = MatMul(x, w) p = MatMul(q, v) }", w=(8, 8), v=(8, 8)
    )
    assert (found.macs, found.params, digest(found)) == (plain.macs, plain.params, digest(plain))
    # its weights count where they are read again
    text = (
        IF.replace("y = If", "r = If")
        .replace("> }", "> y = MatMul(r, u) }")
        .replace("MatMul(x, w) },", "MatMul(x, u) },")
    )
    assert graph(text, w=(8, 8), v=(8, 8), u=(8, 8)).params == 3 * 64


def test_a_known_condition_takes_its_branch(graph) -> None:
    for taken in (True, False):
        found = graph(IF.replace("If(c)", "If(t)"), w=(8, 8), v=(8, 8), t=np.array(taken))
        assert found.macs == (1 if taken else 2) * 2 * 8 * 8
        assert found.notes == ()


def test_a_branch_that_does_not_fit_the_input_is_left(graph) -> None:
    found = graph(
        IF.replace("q = MatMul(x, w) p = MatMul(q, v)", "p = Squeeze(x, j)"), w=(8, 8), j=np.array([0])
    )
    assert found.macs == 2 * 8 * 8


def test_a_choice_between_constants_depends_on_the_condition(graph) -> None:
    found = graph(
        """(bool c, float[4] x) => (float y) {
            s = If(c) <then_branch = a () => (float p) { p = Identity(k) },
                       else_branch = b () => (float p) { p = Identity(l) }>
            y = Mul(x, s)
        }""",
        k=np.ones(4, np.float32), l=np.zeros(4, np.float32),
    )  # fmt: skip
    assert reaches(found, "c", "y")
    assert "Control" in kinds(found)


def test_a_decision_within_a_loop(graph) -> None:
    text = """(float[2,8] x, bool g) => (float y) { y = Loop(n, t, x) <body =
        b (int64 i, bool c, float[2,8] s) => (bool d, float[2,8] o) {
            d = Identity(c)
            o = If(g) <then_branch = p () => (float r) { r = MatMul(s, w) },
                       else_branch = q () => (float r) { r = Relu(s) }>
        }> }"""
    for steps in (3, 1_000):
        found = graph(text, n=np.int64(steps), t=np.array(True), w=(8, 8))
        assert found.macs == steps * 2 * 8 * 8
        assert reaches(found, "x", found.outputs[0])


# -- scopes


def test_an_inner_name_may_hide_an_outer_one(graph) -> None:
    found = graph(
        """(float[2,8] x) => (float y) {
            a = MatMul(x, w)
            b = If(t) <then_branch = g () => (float a) { a = MatMul(x, v) },
                       else_branch = h () => (float e) { e = Relu(x) }>
            y = Add(a, b)
        }""",
        w=(8, 8), v=(8, 8), t=np.array(True),
    )  # fmt: skip
    assert (found.macs, found.params) == (2 * 2 * 8 * 8, 2 * 64)
    assert len(set(found.tensors)) == len(found.operations)


def test_an_outer_name_like_that_of_an_inner_tensor_is_refused(network) -> None:
    text = IF.replace("y = If(c)", "u = If(t)").replace("> }", "> z = Relu(x) y = Add(z, u) }")
    model = network(text, w=(8, 8), v=(8, 8), t=np.array(True))
    assert read_onnx(model).macs == 2 * 8 * 8
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["a.0/p" if name == "z" else name for name in names]
    with pytest.raises(AiopError, match=r"'a\.0/p' is given twice"):
        read_onnx(model)


def test_weights_of_a_body_count_once(graph) -> None:
    weights = "<float[8,8] w = {" + ",".join(["1"] * 64) + "}>"
    text = LOOP.replace("float[2,8] k) {", f"float[2,8] k) {weights} {{")
    for steps in (5, 1_000):
        found = graph(text, n=np.int64(steps), t=np.array(True))
        assert (found.macs, found.params) == (steps * 2 * 8 * 8, 64)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda node: node.attribute.pop(), "has no body"),
        (lambda node: node.input.pop(), "are not those of the loop"),
        (lambda node: node.output.append("extra"), "are not those of the loop"),
        (lambda node: node.attribute[0].g.output.pop(), "are not those of the loop"),
        (lambda node: node.attribute[0].g.node.pop(0), "computed by no node"),
        (lambda node: node.attribute[0].g.node[1].input.append("lost"), "'lost'"),
    ],
)
def test_what_is_wrong_with_a_loop(network, change: Callable[[onnx.NodeProto], object], reason: str) -> None:
    model = network(LOOP, n=np.int64(3), t=np.array(True), w=(8, 8))
    change(model.graph.node[0])
    with pytest.raises(AiopError, match=reason) as raised:
        read_onnx(model)
    assert "\n" not in str(raised.value)
