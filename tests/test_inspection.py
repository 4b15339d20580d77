from __future__ import annotations

import json

import pytest
from onnx import TensorProto, helper

import aiop
from aiop.graph_ir import read_onnx


def network(prefix: str = "", *, kernel: int = 3, swap: bool = False) -> bytes:
    """Two convolutions of one image, added; ``prefix`` begins every name, ``swap`` lists them the other way."""

    def weight(name: str, size: int) -> object:
        return helper.make_tensor(
            prefix + name, TensorProto.FLOAT, [4, 3, size, size], [0.0] * (12 * size * size)
        )

    nodes = [
        helper.make_node(
            "Conv", [prefix + "image", prefix + "w1"], [prefix + "a"], prefix + "c1", pads=[kernel // 2] * 4
        ),
        helper.make_node("Conv", [prefix + "image", prefix + "w2"], [prefix + "b"], prefix + "c2"),
    ]
    if swap:
        nodes.reverse()
    nodes.append(helper.make_node("Add", [prefix + "a", prefix + "b"], [prefix + "out"], prefix + "add"))
    graph = helper.make_graph(
        nodes,
        prefix + "network",
        [helper.make_tensor_value_info(prefix + "image", TensorProto.FLOAT, [1, 3, 10, 10])],
        [helper.make_tensor_value_info(prefix + "out", TensorProto.FLOAT, [1, 4, 10, 10])],
        [weight("w1", kernel), weight("w2", 1)],
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def test_costs_by_arithmetic():
    report = aiop.inspect(read_onnx(network(), name="two"))
    assert report.network == "two"
    assert report.nodes == 3  # the input is not a node
    assert report.macs == 100 * 4 * 3 * 9 + 100 * 4 * 3
    assert report.flops == 2 * report.macs
    assert report.params == 4 * 3 * 9 + 4 * 3
    assert report.activations == 2 * 400  # what the convolutions write; the sum has no MACs
    assert report.operators["Conv"] == {
        "count": 2,
        "macs": report.macs,
        "elementwise": 0,
        "params": report.params,
        "activations": 800,
    }
    assert report.operators["Add"] == {
        "count": 1, "macs": 0, "elementwise": 400, "params": 0, "activations": 0,
    }  # fmt: skip
    assert report.elementwise == 400


def test_is_a_mapping():
    report = aiop.inspect(read_onnx(network()))
    assert dict(report) == report.to_dict()
    assert report["macs"] == report.macs
    assert len(report) == len(report.to_dict())
    assert "graph" not in report
    with pytest.raises(KeyError):
        report["mac"]
    assert json.loads(json.dumps(report.to_dict(per_op=True)))["operations"] == report.operations


def test_path_and_code_give_their_name(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(network())
    assert aiop.inspect(path)["network"] == str(path)
    code = "nas-bench-201:" + "|".join(
        ["", "none~0", "+", "none~0", "none~1", "+", "none~0", "none~1", "none~2", ""]
    )
    assert aiop.inspect(code)["network"] == code


def test_hash_ignores_names_and_order():
    reference = aiop.inspect(read_onnx(network())).hash
    assert aiop.inspect(read_onnx(network("other/"))).hash == reference
    assert aiop.inspect(read_onnx(network(swap=True))).hash == reference


def test_hash_sees_what_is_computed():
    assert aiop.inspect(read_onnx(network())).hash != aiop.inspect(read_onnx(network(kernel=5))).hash
