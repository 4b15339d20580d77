from __future__ import annotations

import json
import random
from contextlib import suppress

import networkx
import numpy as np
import pytest

from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph, from_json, read_onnx, to_json, to_networkx
from aiop.graph_ir.features import encode
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise

NETWORK = """(float[1,3,16,16] image) => (float y) {
    a = Conv<strides=[2,2], pads=[1,1,1,1]>(image, w, b)
    r = Relu(a)
    c = Max(r, low, high)
    t = Add(c, a)
    u = LeakyRelu<alpha=0.2>(t)
    y = Softmax<axis=1>(u)
}"""


@pytest.fixture
def small(graph) -> ComputeGraph:
    return graph(NETWORK, w=(8, 3, 3, 3), b=(8,), low=np.float32(-np.inf), high=np.float32(6))


def test_networkx_has_nodes_and_edges(small: ComputeGraph) -> None:
    result = to_networkx(small)
    assert type(result) is networkx.DiGraph
    assert result.number_of_nodes() == 7
    assert sorted(result.edges) == [(0, 1), (1, 2), (1, 4), (2, 3), (3, 4), (4, 5), (5, 6)]
    assert result.nodes[1] == {
        "name": "a", "op": "Conv", "onnx_type": "Conv", "kernel": (3, 3), "stride": (2, 2), "dilation": (1, 1),
        "padding": (1, 1, 1, 1), "groups": 1, "bias": True, "macs": 64 * 8 * 27, "params": 224,
        "output_elements": 512, "elementwise": 512, "shape": (1, 8, 8, 8), "dtype": "float32",
    }  # fmt: skip
    assert result.edges[0, 1] == {"tensor": "image", "shape": (1, 3, 16, 16), "dtype": "float32"}
    assert result.graph["macs"] == small.macs
    assert networkx.is_directed_acyclic_graph(result)
    assert networkx.dag_longest_path_length(result) == 6


def test_networkx_keeps_parallel_edges(graph) -> None:
    twice = to_networkx(graph("(float[4] x) => (float y) { y = Add(x, x) }"))
    assert type(twice) is networkx.MultiDiGraph
    assert twice.number_of_edges(0, 1) == 2
    halves = to_networkx(graph("(float[4] x) => (float y) { a, b = Split<axis=0>(x) y = Sub(a, b) }"))
    assert {data["tensor"] for _, _, data in halves.edges(data=True)} == {"x", "a", "b"}


@pytest.mark.parametrize("name", ["bvlc_alexnet", "inception_v1", "shufflenet"])
def test_json_round_trip(onnx_light, name: str) -> None:
    graph = read_onnx(onnx_light / f"light_{name}.onnx")
    for one in (graph, canonicalise(graph)):
        text = to_json(one)
        again = from_json(text)
        assert again == one
        assert to_json(again) == text
        assert (again.macs, again.params, content_hash(again)) == (one.macs, one.params, content_hash(one))


def test_json_is_plain(small: ComputeGraph) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    data = json.loads(to_json(small), parse_constant=refuse)  # infinity and NaN are no JSON
    assert data["schema"] == "aiop.compute-graph/1"
    assert from_json(to_json(small)) == small
    assert from_json(to_json(small).encode()) == small
    assert from_json(json.dumps(data, indent=2)) == small


def test_numbers_without_a_value_survive(small: ComputeGraph) -> None:
    assert small.operations[3].scalars == (-np.inf, 6.0)
    assert from_json(to_json(small)).operations[3].scalars == (-np.inf, 6.0)


def edited(graph: ComputeGraph, *path: object, value: object = None, remove: bool = False) -> str:
    data = json.loads(to_json(graph))
    at = data
    for key in path[:-1]:
        at = at[key]
    if remove:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("schema",), "aiop.compute-graph/2", "schema"),
        (("name",), 7, "'name' of graph"),
        (("operations",), {}, "'operations'"),
        (("operations", 1), 3, "operation 1 is a int"),
        (("operations", 1, "op"), "Convolution", "unknown kind 'Convolution'"),
        (("operations", 1, "inputs"), ["nowhere"], "reads 'nowhere'"),
        (("operations", 1, "inputs"), ["y"], "no operation before it"),  # a cycle
        (("operations", 1, "outputs"), ["r"], "twice"),
        (("operations", 1, "outputs"), [], "computes nothing"),
        (("operations", 1, "outputs"), ["new"], "not among the tensors"),
        (("operations", 1, "kernel"), [3, "3"], "'kernel' of operation 1"),
        (("operations", 1, "macs"), -1, "'macs'"),
        (("operations", 1, "macs"), 1.5, "'macs'"),
        (("operations", 1, "macs"), True, "'macs'"),
        (("operations", 1, "macs"), 10**30, "'macs'"),
        (("operations", 1, "bias"), 1, "'bias'"),
        (("operations", 1, "weights"), [[8, 3]], "operation 1"),
        (("operations", 3, "scalars"), ["6"], "'scalars'"),
        (("operations", 3, "scalars"), [{"float": "six"}], "'attributes'"),
        (("operations", 5, "attributes"), {"alpha": {"a": 1}}, "'attributes'"),
        (("operations", 5, "attributes"), [1], "'attributes'"),
        (("tensors", "a", "shape"), [1, -8], "'shape'"),
        (("tensors", "a", "shape"), [2**40, 2**40], "'shape'"),
        (("tensors", "a"), None, "tensor 'a'"),
        (("inputs",), [], "inputs"),
        (("inputs",), ["image", "more"], "inputs"),
        (("outputs",), ["nowhere"], "'nowhere'"),
        (("opset",), "17", "'opset'"),
    ],
)
def test_json_that_is_no_graph_is_refused(small: ComputeGraph, path, value, reason: str) -> None:
    with pytest.raises(AiopError) as raised:
        from_json(edited(small, *path, value=value))
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 100_000, '{"schema": 1}', b"\xff\xfe", "1" * 10_000]
)
def test_text_that_is_no_graph_is_refused(text: str | bytes) -> None:
    with pytest.raises(AiopError):
        from_json(text)


def test_every_field_is_asked_for(small: ComputeGraph) -> None:
    data = json.loads(to_json(small))
    fields = [(key,) for key in data] + [("operations", 1, key) for key in data["operations"][1]]
    for path in fields:
        with pytest.raises(AiopError):
            from_json(edited(small, *path, remove=True))


def test_damaged_json_is_refused_or_a_graph(small: ComputeGraph) -> None:
    text = to_json(small)
    rng = random.Random(0)
    for _ in range(500):
        at = rng.randrange(len(text))
        try:
            result = from_json(text[:at] + rng.choice('{}[]",:0-9ae') + text[at + rng.randrange(2) :])
        except AiopError:
            continue
        assert isinstance(result, ComputeGraph)
        canonicalise(result)


@pytest.mark.parametrize("value", ["text", 7, [7], ["a", "b"], [1, 0, 9], [], 1.5, [[2, 2]]])
@pytest.mark.parametrize(
    "nodes",
    [
        "y = Transpose<perm=[1,0,2]>(x)",
        "y = Slice(x, one, two, one)",
        "y = Softmax<axis=1>(x)",
        "a, b = Split<axis=2>(x) y = Concat<axis=1>(b, a)",
        "y = Gather<axis=2>(x, one)",
        "y = ReduceMean<axes=[1]>(x)",
        "t = Transpose<perm=[0,2,1]>(x) p = MatMul(x, t) s = Softmax(p) y = MatMul(s, x)",
    ],
)
def test_settings_of_the_wrong_kind_are_refused_or_harmless(graph, nodes: str, value: object) -> None:
    network = graph(f"(float[2,4,6] x) => (float y) {{ {nodes} }}", one=np.array([1]), two=np.array([2]))
    data = json.loads(to_json(network))
    for operation in data["operations"]:
        for name, saved in list(operation["attributes"].items()):
            operation["attributes"][name] = value
            with suppress(AiopError):
                encode(from_json(json.dumps(data)))
            operation["attributes"][name] = saved
