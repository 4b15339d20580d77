"""``aiop search``: a folder with log, result and network, resuming, a user's own evaluator, and errors."""

from __future__ import annotations

import json
import sys

import onnx
import pytest

TASK = "classification/nats-size/cifar10-test-top1"
COUNT = f"{sys.executable} -c \"print('bytes', len(open(r'{{onnx}}', 'rb').read()))\""


def search(aiop_cli, folder, *more, method="evolution"):
    given = ("--space", "nats-size", "--task", TASK, "--unguided", "--evaluator", COUNT, "-o", folder)
    return aiop_cli("search", method, *given, *more)


def test_the_best_is_written_and_the_same_command_goes_on(aiop_cli, tmp_path):
    out = tmp_path / "out"
    first = search(aiop_cli, out, "--evaluations", 3, "--json")
    assert first.status == 0
    lines = (out / "log.jsonl").read_text().splitlines()
    assert len(lines) == 4
    again = search(aiop_cli, out, "--evaluations", 5, "--json")
    assert (out / "log.jsonl").read_text().splitlines()[:4] == lines
    whole = search(aiop_cli, tmp_path / "other", "--evaluations", 5, "--json")
    document = json.loads(again.out)
    assert document["best"] == json.loads(whole.out)["best"]
    assert json.loads((out / "result.json").read_text())["best"] == document["best"]
    told = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()[1:]]
    assert document["best"]["value"] == max(entry["value"] for entry in told)
    onnx.checker.check_model(str(out / "best.onnx"))


def test_people_read_the_best_first(aiop_cli, tmp_path):
    shown = search(aiop_cli, tmp_path, "--evaluations", 2, method="random").out
    assert shown.startswith("nats-size:")
    assert "measured; the best of 2" in shown


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (("--macs", "1k"), ("no architecture of nats-size", "give a budget between")),
        (("--macs", "2x"), ("--macs", "2.0G")),
        (("--evaluator", "false"), ("status 1", "same command")),
        (("--evaluator", "echo none"), ("no number",)),
        (("--evaluator", "not-a-command-of-any-machine"), ("cannot be run",)),
        (("--evaluator", "'"), ("quotes",)),
        (("--space", "nats-siz"), ('did you mean "nats-size"',)),
        (("--task", "video/*"), ("its tasks are", TASK)),
    ],
)
def test_what_cannot_be_done_is_one_line(aiop_cli, tmp_path, more, parts):
    search(aiop_cli, tmp_path / "out", "--evaluations", 1, *more).is_user_error(*parts)


def test_an_unknown_method_is_said_with_the_nearest(aiop_cli, tmp_path):
    search(aiop_cli, tmp_path, method="evolutoin").is_user_error('did you mean "evolution"', "local")


def test_without_guidance_values_have_to_come_from_somewhere(aiop_cli, tmp_path):
    aiop_cli(
        "search", "random", "--space", "nats-size", "--task", TASK, "-o", tmp_path, "--unguided"
    ).is_user_error("--evaluator")


def test_another_search_is_not_mixed_in(aiop_cli, tmp_path):
    search(aiop_cli, tmp_path, "--evaluations", 1)
    search(aiop_cli, tmp_path, "--evaluations", 2, "--seed", 1).is_user_error("seed was 0, is 1")
