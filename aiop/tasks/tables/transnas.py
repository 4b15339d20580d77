"""TransNAS-Bench-101: 4,096 cells and 3,256 skeletons, each trained for five tasks of Taskonomy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiop.tasks.declare import quality
from aiop.tasks.tables.table import Table, read_columns, register_table, sha256

__all__ = ["load_macro", "load_micro"]

FILE = "transnas_bench_101.parquet"
_SOURCE = "TransNAS-Bench-101 (Duan et al. 2021), collected by NASLib"
_LICENCE = "Apache-2.0"
#: Column and form -> domain, metric, unit, data set. Every value is that of the last epoch; higher is better.
_MEASURED = {
    "class_scene": ("classification", "top1", "%", "Taskonomy scenes, validation set"),
    "class_object": ("classification", "top1", "%", "Taskonomy objects, validation set"),
    "jigsaw": ("self-supervision", "top1", "%", "Taskonomy, permutations of 3 x 3 tiles, validation set"),
    "autoencoder": ("self-supervision", "ssim", "SSIM", "Taskonomy, reconstructed images, validation set"),
    "room_layout": ("layout", "negative-loss", "loss", "Taskonomy room layouts, validation set"),
}


def _declare(space: str) -> dict[str, str]:
    columns: dict[str, str] = {}
    for column, (domain, metric, unit, dataset) in _MEASURED.items():
        form = "" if column == "class_scene" else column
        columns[column] = quality(
            domain, space, column, metric, dataset, _SOURCE, _LICENCE, unit=unit, form=form
        )
    return columns


#: Space -> column -> task.
COLUMNS = {space: _declare(space) for space in ("transnas-micro", "transnas-macro")}


@register_table("transnas-micro")
def load_micro(folder: Path) -> Table:
    """All 4,096 cells; values of room_layout are minus the loss.

    ``groups`` names the 1,229 classes of cells that compute sums of the same operations (`_function`): without
    `none` edges, without nodes that reach no output, and with skips between inner nodes followed. A class does not
    tell one convolution counted twice from a sum of two, nor zeros from the constant that a batch norm makes of them.
    Some networks carry copies of others' results; ``noise`` is the median, over the classes with different results
    (that of zero outputs aside), of the standard deviation within the class, copies left out.

    ``macs`` and ``params`` are the printed ones of class_scene, nan for the four in five rows without: with 63 classes
    instead of the trained 47, and the MACs with batch norms, ReLUs, biases and the pool counted in.
    """
    table = _load(folder, "transnas-micro", "micro")
    table.groups = [_function(network) for network in table.networks]
    table.noise = _noise(table)
    return table


@register_table("transnas-macro")
def load_macro(folder: Path) -> Table:
    """All 3,256 skeletons, each a group of its own and trained once: no ``noise``. All else is as in `load_micro`."""
    return _load(folder, "transnas-macro", "macro")


def _load(folder: Path, name: str, space: str) -> Table:
    path = folder / FILE
    costs = ["class_scene_macs_M", "class_scene_params_M"]
    columns = read_columns(path, ["space", "arch", *costs, *COLUMNS[name]])
    rows = [row for row, value in enumerate(columns["space"]) if value == space]

    def pick(column: str) -> NDArray[np.float64]:
        return np.asarray(columns[column], dtype=np.float64)[rows]

    networks = [f"{name}:{columns['arch'][row]}" for row in rows]
    return Table(
        name=name,
        networks=networks,
        values={task: pick(column) for column, task in COLUMNS[name].items()},
        groups=list(networks),
        macs=np.round(pick(costs[0]) * 1e6),
        params=np.round(pick(costs[1]) * 1e6),
        files={FILE: sha256(path)},
        licence="Apache-2.0 (NASLib), MIT (TransNASBench)",
    )


def _function(network: str) -> str:
    """The sum of operations that a cell computes, as a text that equal cells share; "none" for one that is zero.

    Digits are operations on what follows them: ``3(0+10)`` is a 3 x 3 convolution of the sum of the input's
    (``0``) 1 x 1 convolution. A skip from the input stays an operation, because in a cell that halves the
    resolution it is one.
    """
    cell = network.rpartition("-")[2].split("_")
    nodes: list[list[str]] = [["0"]]  # what is summed up at each node
    for digits in cell:
        terms: list[str] = []
        for source, digit in enumerate(digits):
            if digit == "0" or not nodes[source]:
                continue
            if digit == "1" and source > 0:
                terms += nodes[source]
            else:
                terms.append(f"{digit}({'+'.join(nodes[source])})")
        nodes.append(sorted(terms))
    return "+".join(nodes[-1]) or "none"


def _noise(table: Table) -> dict[str, float]:
    results: dict[str, set[tuple[float, ...]]] = {}
    for group, result in zip(table.groups, zip(*table.values.values(), strict=True), strict=True):
        results.setdefault(group, set()).add(result)
    spreads = [
        np.std(list(each), axis=0, ddof=1)
        for group, each in results.items()
        if group != "none" and len(each) > 1
    ]
    return dict(zip(table.values, np.median(spreads, axis=0).tolist(), strict=True))
