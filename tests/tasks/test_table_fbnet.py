"""FBNet's latencies as their file prints them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aiop.tasks import get_space, get_task, list_tasks
from aiop.tasks.tables import Table, load_table


@pytest.fixture
def table(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    monkeypatch.setenv("AIOP_DATA", str(data_dir))
    return load_table("fbnet")


def test_values_of_known_rows(table: Table) -> None:
    # The first row, as printed by an independent Parquet reader.
    assert table.networks[0] == "fbnet:7,8,1,8,4,8,8,8,7,4,1,4,7,3,2,7,3,2,4,2,4,5"
    for suffix, latency in (
        ("1080ti-batch1", 10.61535),
        ("2080ti-batch32", 7.598109),
        ("titan-rtx-batch64", 9.651961),
        ("titanx-batch64", 13.478693),
        ("essential-ph-1", 31),
        ("eyeriss", 5.229984),
        ("gold-6226", 111.672249),
        ("raspi4", 30.252861),
        ("silver-4210r", 30.202190),
    ):
        assert table.values[f"latency/fbnet/{suffix}"][0] == pytest.approx(latency, rel=1e-6)


def test_twenty_latencies_of_distinct_networks_without_costs(table: Table) -> None:
    assert list_tasks("*/fbnet/*") == sorted(table.values)
    assert len(table.values) == 20
    assert all(get_task(task).unit == "ms" for task in table.values)
    assert all(np.isfinite(values).all() for values in table.values.values())
    assert len(set(table.groups)) == len(table)  # no two rows are one network with its skips elsewhere
    assert np.isnan(table.macs).all()
    assert np.isnan(table.params).all()


def test_look_up_tables_are_sums_over_layers_and_operations(table: Table) -> None:
    space = get_space("fbnet")
    codes = np.asarray([space.parse(name.partition(":")[2]) for name in table.networks])
    chosen = (codes[:, :, None] == np.arange(9)).reshape(len(codes), -1).astype(float)
    for suffix, exact in (("eyeriss", True), ("raspi4", True), ("pixel3", True), ("gold-6226", False)):
        latency = table.values[f"latency/fbnet/{suffix}"]
        fitted = chosen @ np.linalg.lstsq(chosen, latency, rcond=None)[0]
        assert (np.abs(fitted - latency).max() < 1e-4 * latency.mean()) == exact
