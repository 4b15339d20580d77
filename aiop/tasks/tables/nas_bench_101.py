"""NAS-Bench-101: 30,001 of its cells, trained on CIFAR-10 for 4, 12, 36 and 108 epochs."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np

from aiop.errors import AiopError
from aiop.tasks.declare import cost, quality
from aiop.tasks.spaces.nas_bench_101 import NasBench101, parameters
from aiop.tasks.tables.table import Table, read_columns, register_table, sha256

__all__ = ["load"]

FILE = "nas_bench_101.parquet"
_SOURCE = "NAS-Bench-101 (Ying et al. 2019)"
_LICENCE = "Apache-2.0"
_SPACE = NasBench101()
SECONDS = cost(
    "training-time", "nas-bench-101", "cifar10-108ep", "TPU v2, 108 epochs of CIFAR-10", _SOURCE, _LICENCE
)


def _declare() -> dict[str, str]:
    columns: dict[str, str] = {}
    for column, metric, epochs in (
        ("cifar10_val_acc_4ep", "top1-4ep", 4),
        ("cifar10_val_acc_12ep", "top1-12ep", 12),
        ("cifar10_val_acc_36ep", "top1-36ep", 36),
        ("cifar10_val_acc", "top1", 108),
    ):
        dataset = f"CIFAR-10 validation split of 10,000 images, {epochs} epochs"
        columns[column] = quality(
            "classification", "nas-bench-101", "cifar10-val", metric, dataset, _SOURCE, _LICENCE
        )
    return columns


#: Column of an accuracy (a fraction of 1 in the file) -> task (in %).
ACCURACIES = _declare()


@register_table("nas-bench-101")
def load(folder: Path) -> Table:
    """One entry per row: the cells are pruned and no two of them isomorphic, so that each is its own group.

    A row stores a representative of a class of isomorphic cells. Where three vertices share the output, the order
    of the vertices decides which of them gets the channels that are left over, and 1,011 rows are stored in
    another order than the one that was trained. Their network is the first order of the interior vertices,
    by index, whose parameters are the row's: ``params`` is exact for every network. ``macs`` is nan.

    Each accuracy is of a separate, single training: there is no noise to measure. 34 cells whose training of 108 epochs
    diverged (below 20%) keep what was measured.
    """
    path = folder / FILE
    columns = read_columns(path, ["hash", "adj_upper", "ops", "params", "train_seconds", *ACCURACIES])
    params = np.asarray(columns["params"], dtype=np.float64)
    return Table(
        name="nas-bench-101",
        networks=[
            f"nas-bench-101:{_network(adjacency, operations, count)}"
            for adjacency, operations, count in zip(
                columns["adj_upper"], columns["ops"], columns["params"], strict=True
            )
        ],
        values={
            task: 100 * np.asarray(columns[column], dtype=np.float64) for column, task in ACCURACIES.items()
        }
        | {SECONDS: np.asarray(columns["train_seconds"], dtype=np.float64)},
        groups=columns["hash"],
        macs=np.full(len(params), np.nan),
        params=params,
        files={FILE: sha256(path)},
        licence=_LICENCE,
    )


def _network(adjacency: str, operations: str, params: int) -> str:
    """The code of a row: as stored, or else the first order of the vertices that has ``params`` parameters."""
    cell = _SPACE.parse(f"{adjacency}/{operations}")
    if parameters(cell) == params:
        return _SPACE.format(cell)
    for order in permutations(range(1, cell.vertices - 1)):
        other = cell.reordered(order)
        if other is not None and parameters(other) == params:
            return _SPACE.format(other)
    raise AiopError(
        f'nas-bench-101 cell "{_SPACE.format(cell)}" of the benchmark table has {params} parameters in no order '
        "of its vertices: fetch the file again"
    )
