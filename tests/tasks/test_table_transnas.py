"""TransNAS-Bench-101 as its file prints it, and against published counts of its cells."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from aiop.tasks import get_space, get_task
from aiop.tasks.networks import parse_code
from aiop.tasks.tables import Table, load_table

SUFFIXES = (
    "classification/{}/class_scene-top1",
    "classification/{}/class_object-top1",
    "self-supervision/{}/jigsaw-top1",
    "self-supervision/{}/autoencoder-ssim",
    "layout/{}/room_layout-negative-loss",
)


@pytest.fixture(params=["micro", "macro"])
def table(request: pytest.FixtureRequest, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    monkeypatch.setenv("AIOP_DATA", str(data_dir))
    return load_table(f"transnas-{request.param}")


@pytest.fixture
def micro(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    monkeypatch.setenv("AIOP_DATA", str(data_dir))
    return load_table("transnas-micro")


def test_values_of_known_rows(table: Table) -> None:
    # The first macro row and the last micro row, as printed by an independent Parquet reader.
    index, code, values, macs, params = {
        "transnas-macro": (
            0,
            "64-111114-basic",
            (51.049961, 44.521297, 94.247612, 0.617168, -0.671739),
            3_666_362_368,
            1_293_023,
        ),
        "transnas-micro": (
            4095,
            "64-41414-3_33_333",
            (53.672375, 42.137741, 85.907646, 0.459855, -0.734443),
            8_488_067_072,
            41_443_935,
        ),
    }[table.name]
    assert table.networks[index] == f"{table.name}:{code}"
    for suffix, value in zip(SUFFIXES, values, strict=True):
        assert table.values[suffix.format(table.name)][index] == pytest.approx(value, abs=1e-6)
    assert (table.macs[index], table.params[index]) == (macs, params)
    assert (
        np.isfinite(table.macs).sum() == np.isfinite(table.params).sum() == {4096: 711, 3256: 662}[len(table)]
    )


def test_tasks_name_the_form_that_was_measured(table: Table) -> None:
    forms = [get_task(name).form for name in table.values]
    assert forms == ["", "class_object", "jigsaw", "autoencoder", "room_layout"]
    for name in table.values:
        assert get_task(name).direction == "max"
        get_space(table.name).form(get_task(name).form or None)


def test_groups_are_the_functional_classes(table: Table) -> None:
    # Macro networks all differ; cells are 1,229 functions, the zero function among them 169 times.
    classes = {"transnas-macro": 3256, "transnas-micro": 1229}[table.name]
    assert len(set(table.groups)) == classes
    if table.name == "transnas-micro":
        scene = table.values["classification/transnas-micro/class_scene-top1"]
        zero = [label == "none" for label in table.groups]
        assert sum(zero) == 169
        assert scene[zero] == pytest.approx(7.484, abs=1e-3)
        assert scene[~np.array(zero)].min() > 7.5


def test_cells_join_where_they_compute_one_sum(micro: Table) -> None:
    group = dict(zip((network.rpartition("-")[2] for network in micro.networks), micro.groups, strict=True))
    assert group["0_00_300"] == group["3_00_300"] == group["0_23_300"] == group["3_00_010"]
    assert group["3_20_023"] == group["2_30_032"]
    assert group["2_01_001"] == group["0_00_200"]
    # The order in which convolutions follow each other counts, and a skip from the input is an operation.
    assert len({group[cell] for cell in ("3_02_001", "2_03_001", "3_00_020", "1_02_001", "0_00_200")}) == 4
    assert group["3_02_001"] == group["3_00_020"]


def test_codes_are_of_the_space(table: Table) -> None:
    for network in table.networks[::50]:
        space, _, code = parse_code(network)
        assert space.validate(code) == code


def test_noise_is_the_median_deviation_within_classes(table: Table) -> None:
    if table.name == "transnas-macro":
        assert table.noise == {}
        return
    published = (0.32, 0.54, 1.1, 0.016, 0.0074)
    for suffix, noise in zip(SUFFIXES, published, strict=True):
        assert table.noise[suffix.format(table.name)] == pytest.approx(noise, rel=0.03)
    # 331 classes hold different results, once copied ones are left out.
    results = defaultdict(set)
    for label, *values in zip(table.groups, *table.values.values(), strict=True):
        results[label].add(tuple(values))
    results.pop("none")
    assert sum(len(each) > 1 for each in results.values()) == 331
