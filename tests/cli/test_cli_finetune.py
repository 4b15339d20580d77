"""A head of one's own from the command line: fitted, asked, evaluated, and what is refused."""

from __future__ import annotations

import json

import pytest
from cli_cases import RESNET18
from own_labels import codes, write_table

import aiop

NETWORKS = codes(40)
NEW = [name for name in codes(60, seed=1) if name not in NETWORKS]
PREDICTION_KEYS = ["task", "value", "unit", "low", "high", "macs_only", "in_distribution"]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("AIOP_CACHE", str(tmp_path_factory.getbasetemp() / "own-cache"))
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def table(folder):
    return write_table(folder / "cells.csv", NETWORKS)


@pytest.fixture
def head(folder, table, aiop_cli):
    path = folder / "my_task.head"
    if not path.exists():
        assert aiop_cli("finetune", table, "--metric", "top1", "-o", path, "--budget", 20).status == 0
    return path


@pytest.fixture
def write(tmp_path):
    """Write a table of the given columns beside the networks."""

    def write(header, *columns, count=12):
        cells = zip(NETWORKS[:count], *columns, strict=False)
        rows = [",".join(map(str, row)) for row in cells]
        path = tmp_path / "mine.csv"
        path.write_text("\n".join([f"network,{header}", *rows]) + "\n")
        return path

    return write


def test_finetune_prints_scores_beside_costs(aiop_cli, table, tmp_path):
    run = aiop_cli("finetune", table, "--metric", "top1", "-o", tmp_path / "my.head")
    assert (run.status, run.err) == (0, "")
    lines = run.out.splitlines()
    assert lines[0] == "own/cells/top1"
    assert lines[1].startswith("40 labels from ")
    assert "higher is better" in lines[1]
    rows = [line.split()[:2] for line in lines]
    assert ["this", "head"] in rows
    assert ["MACs", "only"] in rows
    assert ["cost", "rank"] in rows
    assert any(line.startswith("Members") for line in lines)
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80
    assert [path.name for path in tmp_path.iterdir()] == ["my.head"]


def test_a_tuned_head_says_so_and_answers(aiop_cli, table, tmp_path):
    path = tmp_path / "tuned.head"
    run = aiop_cli("finetune", table, "--metric", "top1", "-o", path, "--tune", "heads")
    assert run.status == 0
    assert any(line.startswith("networks tuned (heads)") for line in run.out.splitlines())
    (report,) = aiop_cli("predict", NEW[0], "--head", path, "--json").objects()
    assert 0 < report["predictions"][0]["value"] <= 100
    assert aiop_cli("evaluate", path, table).status == 0
    run = aiop_cli("finetune", table, "--metric", "top1", "-o", tmp_path / "x.head", "--tune", "head")
    assert run.status == 1
    assert "did you mean" in run.err
    run = aiop_cli("finetune", table, "--metric", "top1", "-o", path, "--tune", "all", "--budget", 12)
    assert run.status == 1
    assert "12 labels are too few to tune" in run.err


def test_finetune_as_json_agrees_with_python(aiop_cli, table, tmp_path):
    run = aiop_cli("finetune", table, "--metric", "top1", "-o", tmp_path / "a.head", "--budget", 20, "--json")
    (report,) = run.objects()
    assert list(report) == [
        "head", "task", "labels", "low", "high", "seed", "leave_one_out", "members", "sources", "notes"
    ]  # fmt: skip
    head = aiop.fit_head(table, "top1", budget=20)
    assert report["leave_one_out"] == json.loads(json.dumps(head.record.scores))
    assert report["labels"] == 20
    head.save(tmp_path / "b.head")
    assert (tmp_path / "a.head").read_bytes() == (tmp_path / "b.head").read_bytes()


def test_predict_with_a_head(aiop_cli, head):
    (report,) = aiop_cli("predict", NEW[0], "--head", head, "--json").objects()
    assert list(report) == ["network", "macs", "params", "predictions"]
    (entry,) = report["predictions"]
    assert list(entry) == PREDICTION_KEYS
    assert entry["task"] == "own/cells/top1"
    assert entry["low"] <= entry["value"] <= entry["high"]
    expected = aiop.load_head(head).predict(NEW[0]).predictions[0]
    assert entry["value"] == pytest.approx(expected.value, rel=1e-4)
    assert "own/cells/top1" in aiop_cli("predict", NEW[0], "--head", head).out


def test_a_network_from_elsewhere_is_marked(aiop_cli, head):
    (report,) = aiop_cli("predict", RESNET18, "--head", head, "--json").objects()
    assert report["predictions"][0]["in_distribution"] is False


def test_open_intervals_of_too_few_labels_are_null(aiop_cli, write, tmp_path):
    aiop_cli("finetune", write("loss", [1, 2], count=2), "-o", tmp_path / "two.head")
    run = aiop_cli("predict", NEW[0], "--head", tmp_path / "two.head", "--json")
    entry = json.loads(run.out, parse_constant=pytest.fail)["predictions"][0]
    assert (entry["low"], entry["high"]) == (None, None)
    assert "? .. ?" in aiop_cli("predict", NEW[0], "--head", tmp_path / "two.head").out


def test_evaluate_prints_scores_regret_and_coverage(aiop_cli, head, table):
    run = aiop_cli("evaluate", head, table)
    assert run.status == 0
    assert run.err.startswith("note: 20 of the 40 networks are, or compute the same as, those")
    assert "40 labelled networks" in run.out
    assert "top 5 (%)" in run.out
    assert "of 20 new networks" in run.out
    assert max(map(len, run.out.splitlines())) <= 80


def test_evaluate_as_json(aiop_cli, head, folder):
    table = write_table(folder / "new.csv", NEW[:30])
    (report,) = aiop_cli("evaluate", head, table, "--json").objects()
    assert (report["networks"], report["fitted_on"], report["report"]) == (30, 0, None)
    assert set(report["scores"]) == {"head", "macs", "cost-rank"}
    assert set(report["scores"]["head"]) == {
        "n", "srcc", "tau", "mae", "regret5", "regret10", "between", "coverage"
    }  # fmt: skip
    assert report["scores"]["head"]["srcc"] == pytest.approx(
        aiop.load_head(head).evaluate(table).scores["head"]["srcc"]
    )


def test_evaluate_writes_a_page(aiop_cli, head, table, tmp_path):
    pytest.importorskip("plotly")
    run = aiop_cli("evaluate", head, table, "--report", tmp_path / "out.html")
    assert run.out.endswith(f"{tmp_path / 'out.html'} is written\n")
    assert (tmp_path / "out.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_notes_of_bad_rows_go_to_stderr(aiop_cli, write, tmp_path):
    path = write("top1", range(12))
    path.write_text(path.read_text() + "nowhere.onnx,50\nnas-bench-macro:9,51\n")
    run = aiop_cli("finetune", path, "-o", tmp_path / "my.head")
    assert run.status == 0
    notes = run.err.splitlines()
    assert len(notes) == 2
    assert notes[0].startswith('note: line 14 is left out: file "nowhere.onnx" does not exist')
    assert notes[1].startswith("note: line 15 is left out")


def test_many_notes_are_counted(aiop_cli, write, tmp_path):
    path = write("top1", range(12))
    path.write_text(path.read_text() + "".join(f"nowhere{place}.onnx,50\n" for place in range(30)))
    run = aiop_cli("finetune", path, "-o", tmp_path / "my.head")
    assert len(run.err.splitlines()) == 11
    assert run.err.splitlines()[-1] == "note: and 20 more; --json gives all"


@pytest.mark.parametrize(
    ("header", "columns", "parts"),
    [
        ("top1", [[1, 2, "nan"]], ['line 4 has "nan"', "not finite"]),
        ("top1", [[1, 2, "inf"]], ['line 4 has "inf"', "not finite"]),
        ("top1", [["nan", "nan", "nan"]], ["no column of numbers"]),
        ("top1", [[5, 5, 5]], ["all 3 labels", "are 5", "measure networks that differ"]),
        ("top1", [[5]], ["1 usable label", "at least 2"]),
        ("top1", [[5, "", ""]], ["1 usable label"]),
        ("other", [[1, 2, 3]], ['no column of numbers "top1"', "own/mine/other"]),
        ("top1,top5", [[1, 2, 3], ["a", "b", "c"]], []),
    ],
)
def test_labels_that_are_refused(aiop_cli, write, tmp_path, header, columns, parts):
    path = write(header, *columns)
    metric = "top5" if not parts else "top1"
    run = aiop_cli("finetune", path, "--metric", metric, "-o", tmp_path / "my.head")
    run.is_user_error(*parts or ['column "top5" is left out', '"a"'])
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.csv"]


def test_one_network_with_two_values_is_refused(aiop_cli, write, tmp_path):
    path = write("top1", range(12))
    path.write_text(path.read_text() + f"{NETWORKS[3]},77\n")
    run = aiop_cli("finetune", path, "-o", tmp_path / "my.head")
    run.is_user_error(NETWORKS[3], "from 3 to 77")
    assert not (tmp_path / "my.head").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nowhere.csv"], ["nowhere.csv"]),
        (["nas-bench-2001"], ["nas-bench-2001", "did you mean"]),
        (["TABLE", "--metric", "top1", "--budget", "1"], ["budget of 1", "at least 2"]),
        (["TABLE", "--metric", "top1", "--weights", "nowhere"], ["nowhere"]),
    ],
)
def test_what_is_not_there(aiop_cli, table, tmp_path, arguments, parts):
    given = [table if argument == "TABLE" else argument for argument in arguments]
    aiop_cli("finetune", *given, "-o", tmp_path / "my.head").is_user_error(*parts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("output", "part"), [("", "directory"), ("labels.csv", "would overwrite")])
def test_output_that_is_none(aiop_cli, table, tmp_path, output, part):
    aiop_cli("finetune", table, "-o", tmp_path / output).is_user_error(part)
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_written_is_said_before_the_work(aiop_cli, head, table, tmp_path):
    aiop_cli("evaluate", head, table, "--report", tmp_path).is_user_error("directory")
    aiop_cli("evaluate", head, table, "--report", tmp_path / "out.pdf").is_user_error(".html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_files_that_are_no_head(aiop_cli, table, head, tmp_path, command):
    broken = tmp_path / "broken.head"
    broken.write_bytes(head.read_bytes()[:-9])
    for path in (tmp_path / "none.head", broken, table):
        arguments = [path, table] if command == "evaluate" else [NEW[0], "--head", path]
        aiop_cli(command, *arguments).is_user_error(str(path))


def test_a_head_and_tasks_are_not_asked_at_once(aiop_cli, head):
    run = aiop_cli("predict", NEW[0], "--head", head, "--task", "*top1")
    run.is_user_error("one of --task and --head")


def test_a_column_in_another_unit_is_refused(aiop_cli, head, tmp_path):
    table = write_table(tmp_path / "ms.csv", NEW[:5], "top1 [ms]")
    aiop_cli("evaluate", head, table).is_user_error("in %", "in ms", "--metric")
