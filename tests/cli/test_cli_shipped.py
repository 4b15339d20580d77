"""The commands on the predictor that comes with the package."""

from __future__ import annotations

import pytest
from cli_cases import CODE, RESNET18

import aiop


def test_code_and_built_file_are_predicted_alike(aiop_cli, tmp_path):
    path = tmp_path / "net.onnx"
    assert aiop_cli("build", CODE, "-o", path).status == 0
    from_code, from_file = aiop_cli("predict", CODE, path, "--json").objects()
    assert (from_code.pop("network"), from_file.pop("network")) == (CODE, str(path))
    assert from_code == from_file


def test_command_and_python_agree(aiop_cli):
    (report,) = aiop_cli("predict", RESNET18, "--json").objects()
    prediction = aiop.load().predict(RESNET18)
    assert report["macs"] == prediction.macs == aiop.inspect(RESNET18).macs
    for printed, returned in zip(report["predictions"], prediction.predictions, strict=True):
        assert printed["task"] == returned.task
        assert printed["value"] == pytest.approx(returned.value, rel=1e-5)


def test_intervals_hold_their_values(aiop_cli):
    (report,) = aiop_cli("predict", CODE, "--json").objects()
    for entry in report["predictions"]:
        assert entry["low"] <= entry["value"] <= entry["high"], entry["task"]


def test_every_task_listed_as_predicted_is_predicted(aiop_cli):
    listed = [report["task"] for report in aiop_cli("tasks", "--predicted", "--json").objects()]
    (report,) = aiop_cli("predict", RESNET18, "--json").objects()
    assert [entry["task"] for entry in report["predictions"]] == listed
    for space in ("nas-bench-201", "nas-bench-mr", "timm"):
        assert any(name.split("/")[1] == space for name in listed)


@pytest.mark.parametrize("command", [["tasks"], ["predict", RESNET18]])
def test_tables_fit_80_columns(aiop_cli, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    lines = aiop_cli(*command).out.splitlines()
    assert max(len(line) for line in lines if line != RESNET18) <= 80
