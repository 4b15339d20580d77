"""``aiop inspect --unknown-ops``, and element operations beside MACs and FLOPs."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from cli_cases import RESNET18

TEXT = """<ir_version: 8, opset_import: ["": 17, "com.acme": 1]>
network (float[1,4] x) => (float[1,4] y) {
    a = com.acme.Foo(x) b = com.acme.Foo(a) c = Relu(b) y = com.acme.Bar(c) }"""


@pytest.fixture
def unknown(tmp_path: Path) -> str:
    path = tmp_path / "unknown.onnx"
    onnx.save(onnx.parser.parse_model(TEXT), path)
    return str(path)


def test_unknown_operators_are_listed(aiop_cli, unknown: str) -> None:
    run = aiop_cli("inspect", unknown, "--unknown-ops")
    assert (run.status, run.err) == (0, "")
    lines = [" ".join(line.split()) for line in run.out.splitlines()]
    assert "3 of 4 nodes are of unknown operators (75.0 %)" in lines
    assert "com.acme::Foo 2 50.0 %" in lines
    assert "com.acme::Bar 1 25.0 %" in lines
    assert '@aiop.operator("com.acme", "Foo", canonical="...")' in run.out
    assert '@aiop.operator("com.acme", "Bar", canonical="...")' in run.out


def test_unknown_operators_as_json(aiop_cli, unknown: str) -> None:
    (report,) = aiop_cli("inspect", unknown, "--unknown-ops", "--json").objects()
    assert list(report) == ["network", "nodes", "unknown"]
    assert report["nodes"] == 4
    assert {name: found["count"] for name, found in report["unknown"].items()} == {
        "com.acme::Foo": 2,
        "com.acme::Bar": 1,
    }


def test_a_network_without_unknown_operators(aiop_cli) -> None:
    run = aiop_cli("inspect", RESNET18, "--unknown-ops")
    assert run.status == 0
    assert "every operator of its 69 nodes is known" in run.out


def test_the_report_has_one_note_per_unknown_operator(aiop_cli, unknown: str) -> None:
    out = aiop_cli("inspect", unknown).out
    assert out.count("com.acme::Foo is unknown: 2 nodes (50.0% of the network)") == 1


def test_element_operations_have_a_line_of_their_own(aiop_cli) -> None:
    out = aiop_cli("inspect", RESNET18).out
    (line,) = [line for line in out.splitlines() if line.startswith("  element ops")]
    assert "not in MACs and FLOPs" in line
    (report,) = aiop_cli("inspect", RESNET18, "--json", "--per-op").objects()
    assert report["elementwise"] == sum(node["elementwise"] for node in report["operations"])
    assert report["flops"] == 2 * report["macs"]
    # the ReLUs of a ResNet-18, one comparison per element: 64 x 112 x 112, then 4 x 64 x 56 x 56 and so on
    stages = sum(4 * 64 * 2**i * (56 // 2**i) ** 2 for i in range(4))
    assert report["operators"]["Relu"]["elementwise"] == 64 * 112 * 112 + stages
