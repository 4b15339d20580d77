"""NAS-Bench-201: 6,466 functionally distinct cells, 4 accuracies, 11 latencies, 1 energy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiop.tasks.catalogue import NAS_BENCH_201_COLUMNS
from aiop.tasks.tables.table import Table, read_columns, register_table, sha256

__all__ = ["load"]

FILE = "nas_bench_201.parquet"


@register_table("nas-bench-201")
def load(folder: Path) -> Table:
    """One network per class of isomorphic cells: the representative (smallest index) with its own values.

    The other 9,159 rows compute the same functions and differ by training noise only; keeping them would
    put twins on both sides of a split. ``macs`` and ``params`` are those of the 100-class network on 32 x 32
    images as the table prints them, rounded to 0.01 M and 0.001 M (about 1% of the rows carry the numbers of
    another cell; the network built from the code is right).
    """
    path = folder / FILE
    columns = read_columns(path, ["idx", "arch", "isomorph_of", "macs_M", "params_M", *NAS_BENCH_201_COLUMNS])
    rows = [
        i
        for i, (index, of) in enumerate(zip(columns["idx"], columns["isomorph_of"], strict=True))
        if index == of
    ]

    def pick(column: str, decimals: int | None = None) -> NDArray[np.float64]:
        values = np.asarray([columns[column][i] for i in rows], dtype=np.float64)
        return values if decimals is None else np.round(values, decimals)

    return Table(
        name="nas-bench-201",
        networks=[f"nas-bench-201:{columns['arch'][i]}" for i in rows],
        values={task: pick(column) for column, task in NAS_BENCH_201_COLUMNS.items()},
        groups=[str(columns["isomorph_of"][i]) for i in rows],
        macs=np.round(pick("macs_M", 2) * 1e6),
        params=np.round(pick("params_M", 3) * 1e6),
        files={FILE: sha256(path)},
        licence="Apache-2.0 (accuracies), MIT (latencies, energy)",
    )
