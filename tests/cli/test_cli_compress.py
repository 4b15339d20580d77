"""``aiop compress``: files, report and JSON of a small network; what is wrong is said in one line."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from compression_cases import TASK, StubPredictor, network

import aiop
from aiop.search.compression import report


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A network's file, and a predictor that needs no training in the place of the shipped one."""
    monkeypatch.setitem(vars(aiop), "load", lambda path=None: StubPredictor())
    path = tmp_path / "small.onnx"
    onnx.save(network(), path)
    return path


def options(small, *more):
    return ("compress", small, "--task", "pictures/top1", "-o", small.parent / "out", "--trials", 25, *more)


def test_files_report_and_json(aiop_cli, small):
    run = aiop_cli(*options(small, "--keep", 3, "--json"))
    assert (run.status, run.err) == (0, "")
    (printed,) = run.objects()
    out = small.parent / "out"
    document = json.loads((out / "pareto.json").read_text())
    assert printed == document | {"notes": [], "out": str(out)}
    assert document["trials"] == 25
    assert document["settings"]["task"] == TASK
    whole = document["original"]["macs"]
    assert [entry["file"] for entry in document["candidates"]] == [f"candidate-0{i}.onnx" for i in (1, 2, 3)]
    for entry in document["candidates"]:
        data = (out / entry["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
        assert 0.65 <= entry["macs"] / whole == entry["macs_share"] <= 0.7
        assert entry["edits"]
        assert {"value", "low", "high", "in_distribution"} <= entry["predicted"].keys()
    page = (out / "report.html").read_text()
    assert "candidate-01.onnx" in page
    assert "http-equiv" in page
    assert "src=" not in page.split("<script>")[0]
    again = aiop_cli(*options(small, "--keep", 2))
    assert again.status == 0
    assert "candidate-02.onnx" in again.out
    assert not (out / "candidate-03.onnx").exists()


def test_without_plotly_the_rest_is_written(aiop_cli, small, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    run = aiop_cli(*options(small, "--keep", 1))
    assert run.status == 0
    assert report.NEEDS in run.err
    assert {path.suffix for path in (small.parent / "out").glob("[!.]*")} == {".onnx", ".json", ".journal"}


def test_names_in_the_report_are_escaped(aiop_cli, small):
    evil = small.parent / "evil.onnx"
    message = network()
    for node in message.graph.node:
        if node.name == "stem":
            node.name = "</script><b>stem"
    onnx.save(message, evil)
    assert aiop_cli(*options(evil, "--keep", 1)).status == 0
    assert "<b>stem" not in (small.parent / "out" / "report.html").read_text()


def test_a_drop_that_no_candidate_keeps(aiop_cli, small):
    run = aiop_cli(*options(small, "--max-drop", 0, "--mutations", "width"))
    run.is_user_error("no candidate keeps the predicted drop", "the nearest loses")
    run = aiop_cli(*options(small, "--max-drop", 50, "--mutations", "width", "--keep", 2))
    assert run.status == 0


def test_other_settings_in_the_folder(aiop_cli, small):
    assert aiop_cli(*options(small, "--keep", 1)).status == 0
    aiop_cli(*options(small, "--macs", "0.5")).is_user_error("macs was [0.65")


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (("--macs", "0.01", "--mutations", "low-rank"), ["cannot go below 0."]),
        (("--macs", "2"), ["between 0 and 1"]),
        (("--macs", "a"), ['--macs "a"']),
        (("--mutations", "widht"), ['did you mean "width"']),
        (("--calibration", "missing.npz"), ["cannot read calibration file"]),
        (("--latency", "lateness"), ["no task 'lateness'"]),
        (("--head", "my.head"), ["one of --task and --head"]),
        (("--shape", "image"), ["--shape"]),
    ],
)
def test_options_that_do_not_fit(aiop_cli, small, more, parts):
    aiop_cli(*options(small, *more)).is_user_error(*parts)


def test_networks_that_are_none(aiop_cli, small):
    text = small.parent / "text.onnx"
    text.write_text("no network")
    aiop_cli(*options(text)).is_user_error("not an ONNX network")
    aiop_cli(*options(small.parent / "missing.onnx")).is_user_error("cannot read")
    bare = small.parent / "bare.onnx"
    graph = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1,3] x) => (float[1,3] y) { y = Relu(x) }'
    )
    onnx.save(graph, bare)
    aiop_cli(*options(bare)).is_user_error("no multiply-accumulates")


def test_a_folder_that_cannot_be_written(aiop_cli, small):
    (small.parent / "out").write_text("a file")
    aiop_cli(*options(small)).is_user_error("cannot write into")


def test_a_head_of_another_predictor(aiop_cli, small, tmp_path):
    run = aiop_cli("compress", small, "--head", tmp_path / "no.head", "-o", tmp_path / "out")
    run.is_user_error("no.head")


def test_calibration(aiop_cli, small):
    images = small.parent / "images.npz"
    np.savez(images, np.random.default_rng(0).standard_normal((2, 3, 12, 12)).astype(np.float32))
    run = aiop_cli(*options(small, "--keep", 2, "--calibration", images, "--json"))
    assert run.status == 0
    assert all(-1 <= entry["similarity"] <= 1 for entry in run.objects()[0]["candidates"])
    assert Path(run.objects()[0]["out"]) == small.parent / "out"
