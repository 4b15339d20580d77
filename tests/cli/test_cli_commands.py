"""What the commands print: JSON with exactly the documented keys, tables that fit 80 columns."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from cli_cases import CODE, RESNET18
from safetensors.numpy import save_file

import aiop
from aiop.pretrain.card import SHIPPED, WEIGHTS, read_card

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


TASK_KEYS = (
    "task domain space form metric dataset unit direction transform rows noise source licence "
    "labels held_out".split()
)


def test_tasks_json(aiop_cli):
    run = aiop_cli("tasks", "classification/nas-bench-201/*", "--json")
    assert (run.status, run.err) == (0, "")
    reports = run.objects()
    assert [list(report) for report in reports] == [TASK_KEYS] * 4
    (report,) = (report for report in reports if report["task"].endswith("cifar10-test-top1"))
    assert (report["domain"], report["space"], report["form"]) == (
        "classification",
        "nas-bench-201",
        "cifar10",
    )
    assert (report["unit"], report["direction"], report["rows"], report["labels"]) == ("%", "max", 6466, 4290)
    assert report["noise"] == pytest.approx(0.17, abs=0.005)
    assert report["held_out"]["srcc"] > 0.95


def test_tasks_that_a_predictor_does_not_predict(aiop_cli, tmp_path):
    few_tasks(tmp_path, "nas-bench-201")
    everything, predicted = (
        aiop_cli("tasks", "--weights", tmp_path, *flags, "--json").objects()
        for flags in ([], ["--predicted"])
    )
    assert len(everything) >= 90
    assert [report["task"] for report in everything] == sorted(report["task"] for report in everything)
    assert [report for report in everything if report["labels"] is not None] == predicted
    assert {report["space"] for report in predicted} == {"nas-bench-201"}
    (unseen,) = aiop_cli("tasks", "latency/fbnet/pixel3", "--weights", tmp_path, "--json").objects()
    assert (unseen["rows"], unseen["labels"], unseen["held_out"]) == (5000, None, None)
    aiop_cli("tasks", "latency/fbnet/*", "--predicted", "--weights", tmp_path).is_user_error(
        "none of the 20 tasks", "--predicted"
    )


def few_tasks(folder, space):
    """Write a card with the tasks of one space, as of a predictor that was trained on nothing else."""
    card = read_card(SHIPPED)
    card["tasks"] = [task for task in card["tasks"] if task["name"].split("/")[1] == space]
    save_file({"none": np.zeros(1, np.float32)}, folder / WEIGHTS, {"card": json.dumps(card)})


def test_tasks_in_a_terminal_are_grouped(aiop_cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = [line.rstrip() for line in aiop_cli("tasks", "*/nas-bench-201/*").out.splitlines()]
    assert lines[0].split() == "Task Unit Better Networks Noise SRCC".split()
    headings = [f"{domain}/nas-bench-201/" for domain in ("classification", "energy", "latency")]
    assert [line for line in lines[1:] if not line.startswith(" ")] == headings
    assert lines[2].split()[:5] == ["cifar10-test-top1", "%", "higher", "6,466", "0.166"]
    assert lines[headings.index("energy/nas-bench-201/") + 6].split()[:4] == "edgegpu mJ lower 6,466".split()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_tasks_table_fits(aiop_cli, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert max(map(len, aiop_cli("tasks").out.splitlines())) <= columns


def test_tasks_in_a_pipe_are_whole_lines(aiop_cli):
    _, *lines = aiop_cli("tasks").out.splitlines()
    names = [report["task"] for report in aiop_cli("tasks", "--json").objects()]
    assert [line.split()[0] for line in lines] == names


def test_tasks_of_a_predictor_of_ones_own(aiop_cli, tmp_path):
    """Of a task that only the predictor's card knows, the card says what there is to say."""
    card = read_card(SHIPPED)
    known, other = card["tasks"][:2]
    card["tasks"] = [known, other | {"name": "own/mine/loss", "unit": "nat", "direction": "min"}]
    save_file({"none": np.zeros(1, np.float32)}, tmp_path / WEIGHTS, {"card": json.dumps(card)})
    listed = aiop_cli("tasks", "--weights", tmp_path, "--predicted", "--json").objects()
    assert [report["task"] for report in listed] == [known["name"], "own/mine/loss"]
    own = listed[1]
    assert (own["domain"], own["space"], own["unit"], own["direction"]) == ("own", "mine", "nat", "min")
    assert (own["rows"], own["noise"], own["labels"]) == (0, None, other["extra"]["labels"])
    assert f"{own['labels']:,}" in aiop_cli("tasks", "own/*", "--weights", tmp_path).out
    assert aiop_cli("tasks", "own/*").status == 1
    del card["tasks"][1]["extra"]
    save_file({"none": np.zeros(1, np.float32)}, tmp_path / WEIGHTS, {"card": json.dumps(card)})
    aiop_cli("tasks", "--weights", tmp_path).is_user_error("lacks its fields ('extra')", "aiop pretrain")


def test_tasks_loads_no_torch():
    program = (
        "import sys\n"
        "from aiop.cli.main import app\n"
        "try:\n    app(['tasks'])\n"
        "finally:\n    print(sorted({'torch', 'scipy', 'pyarrow', 'pandas'} & sys.modules.keys()))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


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
