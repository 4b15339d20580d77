"""Rows and noise of every task, as written down, against the tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aiop.tasks import get_task, list_tasks
from aiop.tasks.tables import Table, list_tables, load_table
from aiop.tasks.task import MEASURED
from benchmarks.measured import as_text, measured


def make_table(values: dict[str, list[float]], noise: dict[str, float]) -> Table:
    count = len(next(iter(values.values())))
    return Table(
        "t", [""] * count, {task: np.array(column) for task, column in values.items()}, [""] * count,
        np.zeros(count), np.zeros(count), {}, "", noise,
    )  # fmt: skip


def test_what_counts_as_measured() -> None:
    table = make_table({"a": [1.0, np.nan, np.inf], "b": [1.0, 2.0, 3.0]}, {"b": 0.123456, "a": np.nan})
    facts = measured(table)
    assert facts == {"a": {"rows": 1}, "b": {"rows": 3, "noise": 0.123}}
    assert as_text(facts) == '{\n"a": {"rows": 1},\n"b": {"rows": 3, "noise": 0.123}\n}\n'


def test_every_task_is_written_down_in_order() -> None:
    facts = json.loads(MEASURED.read_text("utf-8"))
    assert list(facts) == list_tasks()
    assert MEASURED.read_text("utf-8") == as_text(facts)


@pytest.mark.parametrize("name", list_tables())
def test_written_down_as_counted(name: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOP_DATA", str(data_dir))
    written = {
        task: {"rows": get_task(task).rows} | ({"noise": noise} if (noise := get_task(task).noise) else {})
        for task in list_tasks(f"*/{name}/*")
    }
    assert written == measured(load_table(name)), "run `python -m benchmarks.measured --write`"


def test_noise_of_nas_bench_201(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOP_DATA", str(data_dir))
    noise = load_table("nas-bench-201").noise
    # the medians that were published with the collection of the table
    for suffix, expected in (
        ("cifar10-test", 0.17),
        ("cifar10-val", 0.30),
        ("cifar100-val", 0.48),
        ("imagenet16-120-val", 0.58),
    ):
        assert noise[f"classification/nas-bench-201/{suffix}-top1"] == pytest.approx(expected, abs=0.005)
    # a simulator has none; two runs of one network on a GPU differ by less than the networks do
    assert "latency/nas-bench-201/eyeriss" not in noise
    assert 0 < noise["latency/nas-bench-201/1080ti-batch256"] < 0.1
