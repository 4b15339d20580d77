"""What published tables print as the cost of their networks, and how to count the same on a network that was built."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aiop.graph_ir import ComputeGraph, read_onnx
from aiop.tasks.networks import build, parse_code
from aiop.tasks.tables import load_table
from aiop.tasks.tables.table import read_columns
from benchmarks import table_counts

__all__ = ["PRICES", "PricedRow", "Prices"]


@dataclass(frozen=True)
class PricedRow:
    """A network, and the MACs and parameters that its row prints, in single ones; nan where it prints none."""

    network: str
    macs: float = math.nan
    params: float = math.nan


@dataclass(frozen=True)
class Prices:
    """The rows of a table that print costs.

    ``rows`` reads them from the folder of the tables, ``count`` gives MACs and parameters of a graph as the table
    counts them in a form. A count agrees that is at most ``macs_unit`` or ``params_unit`` away: half of the last
    digit that the table prints. ``note`` says which rows are known to print something else.
    """

    rows: Callable[[Path], list[PricedRow]]
    count: Callable[[ComputeGraph, str], tuple[float, float]]
    macs_unit: float = 0.5
    params_unit: float = 0.5
    note: str = ""

    def agrees(self, row: PricedRow) -> bool:
        """Build the row's network and compare every cost that the row prints."""
        _, form, _ = parse_code(row.network)
        macs, params = self.count(read_onnx(build(row.network)), form or "")
        wrong = abs(macs - row.macs) > self.macs_unit or abs(params - row.params) > self.params_unit
        return not wrong  # a comparison with nan is False


def plain(graph: ComputeGraph, form: str) -> tuple[float, float]:
    """Multiply-accumulates and parameters, nothing else."""
    return graph.macs, graph.params


def counted(macs: Callable[[ComputeGraph], int]) -> Callable[[ComputeGraph, str], tuple[float, float]]:
    """Multiply-accumulates by a function of `table_counts`, and parameters."""
    return lambda graph, form: (macs(graph), graph.params)


def table(name: str) -> Callable[[Path], list[PricedRow]]:
    """Rows of the table ``name`` as `load_table` reads it."""

    def rows(folder: Path) -> list[PricedRow]:
        loaded = load_table(name)
        costs = zip(loaded.networks, loaded.macs.tolist(), loaded.params.tolist(), strict=True)
        return [row for row in (PricedRow(*each) for each in costs) if _priced(row)]

    return rows


def cells(folder: Path) -> list[PricedRow]:
    """All rows of NAS-Bench-201, isomorphic cells included."""
    columns = read_columns(folder / "nas_bench_201.parquet", ["arch", "macs_M", "params_M"])
    return [
        PricedRow(f"nas-bench-201:{code}", round(macs, 2) * 1e6, round(params, 3) * 1e6)
        for code, macs, params in zip(*columns.values(), strict=True)
    ]


def encoders(space: str) -> Callable[[Path], list[PricedRow]]:
    """Rows of one space of TransNAS-Bench-101 (``micro`` or ``macro``), one for each task with costs."""

    def rows(folder: Path) -> list[PricedRow]:
        tasks = (*table_counts.TRANSNAS_CLASSES, "autoencoder")
        costs = [f"{task}_{cost}" for task in tasks for cost in ("macs_M", "params_M")]
        columns = read_columns(folder / "transnas_bench_101.parquet", ["space", "arch", *costs])
        numbers = {cost: np.asarray(columns[cost], dtype=np.float64) * 1e6 for cost in costs}
        found = [
            PricedRow(
                f"transnas-{space}@{task}:{code}",
                numbers[f"{task}_macs_M"][row],
                numbers[f"{task}_params_M"][row],
            )
            for task in tasks
            for row, (kind, code) in enumerate(zip(columns["space"], columns["arch"], strict=True))
            if kind == space
        ]
        return [row for row in found if _priced(row)]

    return rows


def _priced(row: PricedRow) -> bool:
    return not (math.isnan(row.macs) and math.isnan(row.params))


#: Space -> the costs that its table prints; the tables of other spaces print none.
PRICES: dict[str, Prices] = {
    "accel-nasbench": Prices(table("accel-nasbench"), counted(table_counts.accel_nasbench_macs)),
    "gaia-det": Prices(table("gaia-det"), counted(table_counts.gaia_det_macs)),
    "nas-bench-101": Prices(table("nas-bench-101"), plain),
    "nas-bench-201": Prices(
        cells,
        plain,
        macs_unit=5000,
        params_unit=500,
        note="150 of the 15,625 rows print the costs of a cell with other operations",
    ),
    "nas-bench-macro": Prices(table("nas-bench-macro"), plain),
    "nas-bench-mr": Prices(table("nas-bench-mr"), counted(table_counts.nas_bench_mr_macs)),
    "ofa-mbv3": Prices(table("ofa-mbv3"), plain),
    "transnas-macro": Prices(encoders("macro"), table_counts.transnas_costs),
    "transnas-micro": Prices(encoders("micro"), table_counts.transnas_costs),
}
