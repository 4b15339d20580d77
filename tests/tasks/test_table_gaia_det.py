"""GAIA's detectors: rows as an independent Parquet reader prints them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aiop.graph_ir import read_onnx
from aiop.tasks import get_space, get_task
from aiop.tasks.tables import Table, load_table


@pytest.fixture(scope="module")
def table(data_dir: Path) -> Table:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIOP_DATA", str(data_dir))
        return load_table("gaia-det")


def test_first_and_last_row(table: Table) -> None:
    assert table.networks[0] == "gaia-det:3,480,480/48/80,160,320,640/4,6,29,4"
    assert table.networks[-1] == "gaia-det:3,720,720/48/48,96,192,384/2,2,7,2"
    expected = {
        "ap": (39.8, 32.4),
        "ap50": (58.8, 50.8),
        "ap75": (43.1, 35.0),
        "ap-small": (22.5, 18.4),
        "ap-medium": (44.1, 35.4),
        "ap-large": (57.2, 42.8),
    }
    for metric, (first, last) in expected.items():
        values = table.values[f"detection/gaia-det/coco-{metric}"]
        assert (values[0], values[-1]) == (first, last)
    assert (table.macs[0], table.macs[-1]) == (110_624_029_915, 89_046_370_146)


def test_size_range_and_groups(table: Table) -> None:
    assert len(table) == 313
    assert len(set(table.groups)) == 309  # four sub-networks were measured at two sizes of the input
    assert not table.noise
    assert np.isnan(table.params).all()
    best = table.values["detection/gaia-det/coco-ap"]
    assert (best.min(), best.max()) == (30.1, 43.1)
    task = get_task("detection/gaia-det/coco-ap-small")
    assert (task.unit, task.direction, task.form) == ("%", "max", "")


def test_costs_are_those_of_the_networks(table: Table) -> None:
    # Every tenth row; the count is defined in the docstring of the loader.
    for row in range(0, len(table), 10):
        code = table.networks[row].removeprefix("gaia-det:")
        graph = read_onnx(get_space("gaia-det").build(code))
        elements = 0
        for operation in graph.operations:
            if operation.op == "Conv" and operation.bias:
                elements += operation.output_elements
            if operation.op == "Relu" and not operation.name.startswith("rpn."):
                elements += operation.output_elements
            if operation.kernel == (3, 3) and operation.op == "MaxPool":
                elements += graph.tensors[operation.inputs[0]].elements
        assert graph.macs + elements == table.macs[row]
