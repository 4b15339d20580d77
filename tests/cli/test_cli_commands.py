"""What the commands print: JSON with exactly the documented keys, tables that fit 80 columns."""

from __future__ import annotations

import json
import subprocess
import sys

import onnx
import pytest
from cli_cases import CODE, RESNET18

import aiop

INSPECT_KEYS = (
    "network nodes macs flops elementwise params activations precision inputs outputs hash operators unknown opset "
    "producer notes".split()
)
PREDICTION_KEYS = ["task", "value", "unit", "low", "high", "macs_only", "in_distribution"]


def test_version(aiop_cli):
    assert aiop_cli("--version").out == f"aiop {aiop.__version__}\n"


def test_without_a_command_helps(aiop_cli):
    run = aiop_cli()
    assert run.status == 0
    for command in ("inspect", "predict", "build", "tasks", "pretrain"):
        assert command in run.out


def test_inspect_json(aiop_cli):
    run = aiop_cli("inspect", RESNET18, "--json")
    assert (run.status, run.err) == (0, "")
    (report,) = run.objects()
    assert list(report) == INSPECT_KEYS
    assert report["network"] == RESNET18
    # torchvision's table of weights: 11,689,512 parameters, 1.81 "GFLOPS" (it counts MACs)
    assert report["params"] == 11_689_512
    assert report["macs"] == 1_814_073_344
    assert report["flops"] == 2 * report["macs"]
    assert report["inputs"] == {"image": {"shape": [1, 3, 224, 224], "dtype": "float32"}}
    assert report["outputs"] == {"logits": {"shape": [1, 1000], "dtype": "float32"}}
    assert report["operators"]["Conv"]["count"] == 20
    for key in ("macs", "params", "activations"):
        assert sum(total[key] for total in report["operators"].values()) == report[key]


def test_inspect_json_per_operation(aiop_cli):
    (report,) = aiop_cli("inspect", RESNET18, "--json", "--per-op").objects()
    assert list(report) == [*INSPECT_KEYS, "operations"]
    first = report["operations"][0]
    assert (first["op"], first["kernel"], first["stride"], first["groups"]) == ("Conv", [7, 7], [2, 2], 1)
    assert (first["inputs"], first["outputs"]) == ([[1, 3, 224, 224]], [[1, 64, 112, 112]])
    assert (first["weights"], first["params"]) == ([[64, 3, 7, 7]], 64 * 3 * 49)
    assert first["macs"] == 112 * 112 * 64 * 3 * 49


def test_inspect_table(aiop_cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    run = aiop_cli("inspect", RESNET18, "--per-op")
    assert run.status == 0
    for text in ("1.81 G", "1,814,073,344", "FLOPs = 2 x MACs", "11,689,512", "1x3x224x224", "7x7 /2"):
        assert text in run.out
    assert max(len(line) for line in run.out.splitlines() if RESNET18 not in line) <= 80


def test_inspect_many(aiop_cli, write_network, tmp_path):
    paths = [write_network(name, [1, 3, 8, 8]) for name in ("b.onnx", "a.onnx")]
    for many in (tmp_path, tmp_path / "*.onnx"):
        run = aiop_cli("inspect", many, "--json")
        assert [report["network"] for report in run.objects()] == sorted(map(str, paths))


def test_inspect_names_that_look_like_markup(aiop_cli, write_network):
    path = write_network("[bold] :smile:.onnx", [1, 3, 8, 8])
    assert str(path) in aiop_cli("inspect", path).out


def test_shape_is_used(aiop_cli, write_network):
    path = write_network("dynamic.onnx", ["batch", 3, "height", "width"])
    (report,) = aiop_cli("inspect", path, "--shape", "image=1,3,16,20", "--json").objects()
    assert report["inputs"]["image"]["shape"] == [1, 3, 16, 20]
    assert report["macs"] == 16 * 20 * 4 * 3 * 9


def test_predict_json(aiop_cli, stub_predictor):
    run = aiop_cli("predict", RESNET18, CODE, "--json", "--task", "latency/*")
    assert (run.status, run.err) == (0, "")
    reports = run.objects()
    assert [report["network"] for report in reports] == [RESNET18, CODE]
    for report in reports:
        assert list(report) == ["network", "macs", "params", "predictions"]
        assert [list(entry) for entry in report["predictions"]] == [PREDICTION_KEYS]
        assert report["predictions"][0]["value"] == report["macs"] / 1e6


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_predict_table(aiop_cli, stub_predictor, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    run = aiop_cli("predict", RESNET18, CODE)
    lines = run.out.splitlines()
    assert max(len(line) for line in lines if line not in (RESNET18, CODE)) <= columns
    assert "1.81 G MACs, 11.7 M parameters" in lines
    assert "1,814 %" in run.out
    assert "1,813 .. 1,815" in run.out
    assert "907.04" in run.out
    assert run.out.count("OUT") == 2  # ResNet-18 in both tasks


def test_tasks_json(aiop_cli, stub_predictor):
    run = aiop_cli("tasks", "classification/*", "--json")
    (report,) = run.objects()
    assert report["task"] == "classification/nas-bench-201/cifar10-test-top1"
    assert (report["unit"], report["direction"], report["labels"]) == ("%", "max", 12000)
    assert report["held_out"]["srcc"] == 0.9871


def test_tasks_table(aiop_cli, stub_predictor, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    run = aiop_cli("tasks")
    assert "12,000" in run.out
    assert "0.987" in run.out
    assert "lower" in run.out
    assert max(map(len, run.out.splitlines())) <= 80


def test_build_writes_a_network(aiop_cli, tmp_path):
    path = tmp_path / "net.onnx"
    run = aiop_cli("build", CODE, "-o", path, "--json")
    (report,) = run.objects()
    # 100 classes at 32 x 32, closed form of the space: what stem and head cost, and every 3x3 edge of the cell
    assert report == {
        "network": CODE,
        "path": str(path),
        "macs": 7_788_800 + 2 * 35_389_440,
        "params": 79_156 + 2 * 243_040,
    }
    onnx.checker.check_model(path, full_check=True)
    assert list(tmp_path.iterdir()) == [path]


def test_build_replaces_a_file(aiop_cli, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_text("old")
    assert aiop_cli("build", CODE, "-o", path).status == 0
    onnx.checker.check_model(path)


def test_built_file_and_code_are_inspected_alike(aiop_cli, tmp_path):
    path = tmp_path / "net.onnx"
    aiop_cli("build", CODE, "-o", path, "--weights", "random", "--seed", "3")
    from_file, from_code = aiop_cli("inspect", path, CODE, "--json").objects()
    assert from_file.pop("network") == str(path)
    assert from_code.pop("network") == CODE
    assert from_file == from_code


def test_inspect_loads_no_torch():
    program = (
        "import sys\nfrom aiop.cli.main import app\n"
        "try:\n    app(['inspect', sys.argv[1], '--json'])\n"
        "finally:\n    print(sorted({'torch', 'dgl'} & set(sys.modules)), file=sys.stderr)\n"
    )
    run = subprocess.run([sys.executable, "-c", program, RESNET18], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "[]\n")
    assert json.loads(run.stdout)["network"] == RESNET18
