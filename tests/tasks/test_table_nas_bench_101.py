"""The table of NAS-Bench-101: known rows, published rank correlations, networks that have the rows' parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx
from aiop.tasks import get_task
from aiop.tasks.networks import build, parse_code
from aiop.tasks.spaces.nas_bench_101 import Cell, parameters
from aiop.tasks.tables import Table, load_table

TOP1 = "classification/nas-bench-101/cifar10-val-top1"
SECONDS = "training-time/nas-bench-101/cifar10-108ep"
COLUMNS = ("hash", "num_nodes", "adj_upper", "ops", "params", "train_seconds")
ACCURACIES = ("cifar10_val_acc_4ep", "cifar10_val_acc_12ep", "cifar10_val_acc_36ep", "cifar10_val_acc")


@pytest.fixture(scope="module")
def table(data_dir: Path) -> Table:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIOP_DATA", str(data_dir))
        return load_table("nas-bench-101")


def cell(network: str) -> Cell:
    space, _, code = parse_code(network)
    parsed = space.parse(code)
    assert isinstance(parsed, Cell)
    return parsed


def test_the_first_row(table: Table) -> None:
    # As printed by an independent Parquet reader.
    assert table.networks[0] == "nas-bench-101:110010010000010101101/00201"
    assert table.groups[0] == "00005c142e6f48ac74fdcf73e3439874"
    assert table.params[0] == 8_555_530
    assert table.values[SECONDS][0] == pytest.approx(1768.975952)
    values = [table.values[f"{TOP1}{epochs}"][0] for epochs in ("-4ep", "-12ep", "-36ep", "")]
    assert values == pytest.approx([36.0477, 42.1975, 90.0140, 93.0489], abs=1e-4)


def test_what_is_measured_and_what_is_not(table: Table) -> None:
    assert len(set(table.groups)) == len(table) == 30_001
    assert np.isnan(table.macs).all()
    assert table.noise == {}
    assert all(np.isfinite(values).all() for values in table.values.values())
    assert (table.values[TOP1] < 20).sum() == 34
    sizes = np.bincount([cell(network).vertices for network in table.networks])
    assert sizes.tolist() == [0, 0, 1, 1, 10, 183, 4432, 25374]
    assert get_task(SECONDS).transform == "log"


def test_rank_correlations_between_budgets(table: Table) -> None:
    final = table.values[TOP1]
    for other, expected in (
        (table.values[TOP1 + "-36ep"], 0.88),
        (table.values[TOP1 + "-12ep"], 0.62),
        (table.values[TOP1 + "-4ep"], 0.45),
        (table.params, 0.45),
    ):
        assert spearmanr(final, other).statistic == pytest.approx(expected, abs=0.006)


def test_every_network_has_the_parameters_of_its_row(table: Table, data_dir: Path) -> None:
    found = [parameters(cell(network)) for network in table.networks]
    assert np.array_equal(found, table.params)
    picked = np.random.default_rng(101).choice(len(table), 150, replace=False)
    for i in picked:
        assert read_onnx(build(table.networks[i])).params == table.params[i]
    columns = pq.read_table(data_dir / "nas_bench_101.parquet", columns=["adj_upper", "ops"]).to_pydict()
    stored = [f"nas-bench-101:{bits}/{ops}" for bits, ops in zip(*columns.values(), strict=True)]
    assert sum(map(str.__ne__, stored, table.networks)) == 1011
    assert sum(map(str.__eq__, stored, table.networks)) == 28_990


def write(path: Path, adjacency: str, operations: str, params: int) -> None:
    row = {"hash": "0", "num_nodes": 7, "adj_upper": adjacency, "ops": operations, "params": params}
    row |= {"train_seconds": 1.0, **dict.fromkeys(ACCURACIES, 0.5)}
    pq.write_table(pa.Table.from_pylist([row]), path / "nas_bench_101.parquet")


def test_vertices_are_put_in_the_first_order_that_has_the_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOP_DATA", str(tmp_path))
    write(tmp_path, "111000100000101001101", "01022", 3_079_371)
    assert load_table("nas-bench-101").networks == ["nas-bench-101:111000100000101001101/01022"]
    write(tmp_path, "111000100000101001101", "01022", 3_078_206)
    (network,) = load_table("nas-bench-101").networks
    # Of the vertices 2, 3 and 5 that share the output, 2 and 3 (a 1x1 and a 3x3 convolution) change places.
    assert network == "nas-bench-101:111000010000001101101/00122"
    assert read_onnx(build(network)).params == 3_078_206
    write(tmp_path, "111000100000101001101", "01022", 3_078_207)
    with pytest.raises(AiopError, match="3078207 parameters in no order of its vertices: fetch the file"):
        load_table("nas-bench-101")
