from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from aiop.tasks import get_space, get_task, list_tasks
from aiop.tasks.tables import Table, load_table

TOP1, TOP5 = (f"classification/accel-nasbench/imagenet-top{k}" for k in (1, 5))
TIME = "training-time/accel-nasbench/imagenet-16-epochs"


@pytest.fixture(scope="module")
def table(data_dir: Path) -> Table:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIOP_DATA", str(data_dir))
        return load_table("accel-nasbench")


def test_tasks() -> None:
    throughputs = [f"throughput/accel-nasbench/{device}" for device in ("3090", "a100", "tpuv2", "tpuv3")]
    assert list_tasks("*/accel-nasbench/*") == [TOP1, TOP5, *throughputs, TIME]
    assert (get_task(TOP1).unit, get_task(TOP1).direction) == ("%", "max")
    assert (get_task(TIME).unit, get_task(TIME).direction) == ("s", "min")
    assert get_task(throughputs[0]).direction == "max"


def test_rows_of_one_code_are_merged(table: Table) -> None:
    assert len(table) == 5125  # of 5,138 rows
    # Rows 0 and 3813 have the same code; their columns as another Parquet reader prints them.
    assert table.networks[0] == "accel-nasbench:6/3/1/0/4/5/2/0/6/3/3/0/6/5/3/0/6/5/2/0/1/3/2/0/1/3/2/0"
    assert (table.macs[0], table.params[0]) == (415_361_072, 2_501_160)
    assert table.values[TOP1][0] == pytest.approx((59.368 + 59.248) / 2)
    assert table.values[TOP5][0] == pytest.approx((82.636 + 82.608) / 2)
    # Row 3 is the only one of its code.
    assert table.networks[3] == "accel-nasbench:4/5/2/0/6/3/3/0/6/5/1/0/6/5/1/0/6/3/1/0/4/3/1/0/1/3/1/0"
    assert table.values[TOP1][3] == pytest.approx(55.612)
    assert table.values[TIME][3] == pytest.approx(2225.70309)
    assert table.values["throughput/accel-nasbench/tpuv3"][3] == pytest.approx(1078.78274)


def test_columns_that_were_not_measured_everywhere(table: Table) -> None:
    # The file misses 0, 3, 37 and 44 values; none of the rows without one is a repeated row.
    missing = dict.fromkeys(table.values, 0) | {
        "throughput/accel-nasbench/3090": 3,
        "throughput/accel-nasbench/tpuv2": 37,
        "throughput/accel-nasbench/tpuv3": 44,
    }
    assert {name: int(np.isnan(values).sum()) for name, values in table.values.items()} == missing


def test_noise_is_that_between_repeated_rows_and_runs(table: Table) -> None:
    assert table.noise[TOP1] == pytest.approx(0.06, abs=0.005)
    assert set(table.noise) == set(table.values)
    # Medians of the __std columns.
    for device, spread in (("a100", 3.229), ("3090", 1.451), ("tpuv2", 4.623), ("tpuv3", 10.710)):
        assert table.noise[f"throughput/accel-nasbench/{device}"] == pytest.approx(spread, abs=1e-3)


def test_every_code_is_one_of_the_space_and_its_own_group(table: Table) -> None:
    space = get_space("accel-nasbench")
    for network, group in zip(table.networks, table.groups, strict=True):
        code = network.removeprefix("accel-nasbench:")
        assert space.validate(code) == code == group
    assert max(Counter(table.groups).values()) == 1
