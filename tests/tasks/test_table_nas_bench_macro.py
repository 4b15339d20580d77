"""NAS-Bench-Macro as its file prints it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from aiop.tasks.tables import Table, load_table

ACCURACY = "classification/nas-bench-macro/cifar10-test-top1"


@pytest.fixture
def table(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    monkeypatch.setenv("AIOP_DATA", str(data_dir))
    return load_table("nas-bench-macro")


def test_values_of_known_rows(table: Table) -> None:
    # The first row, as printed by an independent Parquet reader; the worst network has nothing but identities.
    assert table.networks[0] == "nas-bench-macro:02012100"
    assert (table.macs[0], table.params[0]) == (47_327_744, 890_666)
    accuracy = table.values[ACCURACY]
    assert accuracy[0] == pytest.approx((89.470001 + 88.949997 + 89.169998) / 3, abs=1e-5)
    assert table.networks[int(accuracy.argmin())] == "nas-bench-macro:00000000"
    assert accuracy.min() == pytest.approx(45.36, abs=0.005)


def test_codes_of_one_group_carry_the_same_values(table: Table) -> None:
    rows = defaultdict(set)
    for group, *values in zip(table.groups, table.values[ACCURACY], table.macs, table.params, strict=True):
        rows[group].add(tuple(values))
    assert len(rows) == 3969
    assert all(len(values) == 1 for values in rows.values())


def test_noise_is_the_median_deviation_between_runs(table: Table) -> None:
    assert table.noise == {ACCURACY: pytest.approx(0.14, abs=0.005)}
