"""NATS-Bench size as its file prints it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aiop.tasks import get_space
from aiop.tasks.tables import Table, load_table

ACCURACY = "classification/nats-size/cifar10-test-top1"


@pytest.fixture
def table(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    monkeypatch.setenv("AIOP_DATA", str(data_dir))
    return load_table("nats-size")


def test_values_of_known_rows(table: Table) -> None:
    # The first row and the range, as printed by an independent Parquet reader.
    assert table.networks[0] == "nats-size:16:16:16:16:16"
    accuracy = table.values[ACCURACY]
    assert (accuracy[0], accuracy.min(), accuracy.max()) == (87.59, 79.79, 93.65)
    assert table.networks[int(accuracy.argmax())] == "nats-size:64:64:56:64:24"
    assert len(np.unique(accuracy)) == 833


def test_the_table_is_the_whole_space_and_has_no_costs(table: Table) -> None:
    assert len(set(table.groups)) == len(table) == 8**5
    assert np.isnan(table.macs).all()
    assert np.isnan(table.params).all()
    assert table.noise == {}
    space = get_space("nats-size")
    assert all(space.validate(code) == code for code in table.groups[::100])
