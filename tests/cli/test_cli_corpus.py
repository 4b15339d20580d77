"""``aiop corpus``: what it prints, and how it ends when something is wrong or somebody is impatient."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_cases import CODE, RESNET18

from aiop.graph_ir.corpus import Corpus
from aiop.tasks import get_space

BUILD_KEYS = ["table", "graphs", "refused", "seconds", "bytes", "path", "notes"]
LIST_KEYS = ["table", "state", "why", "graphs", "bytes", "path"]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("AIOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AIOP_DATA", str(tmp_path))
    return tmp_path / "cache"


@pytest.fixture
def write_table(tmp_path):
    def write(networks, name="mine.csv"):
        lines = [f'"{network}",{row % 100}\n' for row, network in enumerate(networks)]
        (tmp_path / name).write_text("network,top1\n" + "".join(lines))
        return str(tmp_path / name)

    return write


def test_build_and_list(aiop_cli, write_table, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_text("no network")
    path = write_table([CODE, RESNET18, broken])
    run = aiop_cli("corpus", "build", path, "--json")
    (report,) = run.objects()
    assert (run.status, run.err, list(report)) == (0, "", BUILD_KEYS)
    assert (report["table"], report["graphs"]) == (path, 2)
    assert list(report["refused"]) == [str(broken)]
    assert "ONNX" in report["refused"][str(broken)]
    assert report["bytes"] == Path(report["path"]).stat().st_size
    # torchvision's table of weights: 11,689,512 parameters, 1.81 "GFLOPS" (it counts MACs)
    assert (Corpus(report["path"]).macs[1], Corpus(report["path"]).params[1]) == (1_814_073_344, 11_689_512)

    states = {state["table"]: state for state in aiop_cli("corpus", "list", "--json").objects()}
    assert all(list(state) == LIST_KEYS for state in states.values())
    assert states["nas-bench-201"]["state"] == "missing"
    fresh = {"table": path, "state": "fresh", "why": None, "graphs": 2}
    assert states[path] == fresh | {"bytes": report["bytes"], "path": report["path"]}
    write_table([CODE])
    (state,) = [item for item in aiop_cli("corpus", "list", "--json").objects() if item["table"] == path]
    assert (state["state"], state["why"]) == ("stale", "mine.csv changed")


def test_build_says_what_it_left_out(aiop_cli, write_table, tmp_path):
    names = [f"broken{number}.onnx" for number in range(5)]
    for name in names:
        (tmp_path / name).write_text("no network")
    run = aiop_cli("corpus", "build", write_table([*names, CODE, "nowhere.onnx"]), "--workers", "1")
    first, note, *others = run.out.splitlines()
    assert "nowhere.onnx" in note
    assert "mine.csv: 1 graphs, 5 refused, " in first
    assert first.endswith(".corpus")
    assert [line.partition(":")[0] for line in others[:3]] == [
        f"  refused {tmp_path / name}" for name in names[:3]
    ]
    assert others[3:] == ["  ... and 2 more"]


def test_list_fits_a_narrow_terminal(aiop_cli, write_table, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    aiop_cli("corpus", "build", write_table([CODE], "a" * 50 + ".csv"))
    run = aiop_cli("corpus", "list")
    assert run.status == 0
    assert "fresh" in run.out
    assert "missing" in run.out
    assert max(map(len, run.out.splitlines())) <= 60


def test_without_a_command_helps(aiop_cli):
    run = aiop_cli("corpus")
    assert run.status == 0
    for command in ("build", "list"):
        assert command in run.out


def test_one_bad_table_does_not_stop_the_others(aiop_cli, write_table, tmp_path):
    path = write_table([CODE])
    run = aiop_cli("corpus", "build", "nas-bench-2O1", path, tmp_path / "none.csv", "nas-bench-201", "--json")
    assert run.status == 1
    assert [report["table"] for report in run.objects()] == [path]
    errors = run.err.splitlines()
    assert [("error: " in error) for error in errors] == [True] * 3
    assert 'did you mean "nas-bench-201"' in errors[0]
    assert "none.csv" in errors[1]
    assert "nas_bench_201.parquet" in errors[2]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [(["build", "--workers", "0"], "workers"), (["biuld"], "build"), (["list", "x"], "x")],
)
def test_usage(aiop_cli, arguments, part):
    aiop_cli("corpus", *arguments).is_user_error(part, "--help")


def test_a_cache_that_cannot_be_made(aiop_cli, write_table, monkeypatch, tmp_path):
    path = write_table([CODE])
    monkeypatch.setenv("AIOP_CACHE", path)
    aiop_cli("corpus", "build", path).is_user_error("AIOP_CACHE")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_interrupt_is_one_line_and_what_is_finished_is_kept(write_table, cache):
    space, rng = get_space("nas-bench-201"), np.random.default_rng(0)
    path = write_table(dict.fromkeys(f"nas-bench-201:{space.sample(rng)}" for _ in range(2000)))
    command = [sys.executable, "-m", "aiop", "corpus", "build", path, "--workers", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while process.poll() is None and not list(cache.glob("*/*.corpus")):
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "error: interrupted\n")
    assert list(cache.glob("mine-*.corpus.parts/*.corpus"))
    assert not list(cache.glob("mine-*.corpus"))


def test_missing_tables_are_said_once(aiop_cli, monkeypatch, tmp_path):
    monkeypatch.setenv("AIOP_DATA", str(tmp_path / "nowhere"))
    aiop_cli("corpus", "build").is_user_error("AIOP_DATA", "which is not a folder")
