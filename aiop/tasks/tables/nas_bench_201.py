"""NAS-Bench-201: 6,466 functionally distinct cells, 4 accuracies, 11 latencies, 1 energy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiop.tasks.declare import cost, quality
from aiop.tasks.tables.table import Table, read_columns, register_table, sha256, spread_of_rows

__all__ = ["load", "representatives"]

FILE = "nas_bench_201.parquet"
_TRAINED = 80.0  # % on CIFAR-10's test set: below, a cell did not learn, and its twins agree by that
_OPERATION = re.compile(r"\|([a-z0-9_]+)~")
_EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # source and target of a code's operations
_NASLIB = "NAS-Bench-201 (Dong and Yang 2020), collected by NASLib"
_HELP = "HELP (Lee et al. 2021) and HW-NAS-Bench (Li et al. 2021)"


def _declare() -> dict[str, str]:
    columns: dict[str, str] = {}
    for column, suffix, form, dataset in (
        (
            "cifar10_val_acc",
            "cifar10-val",
            "cifar10",
            "CIFAR-10 validation split, trained on half of the training set",
        ),
        ("cifar10_test_acc", "cifar10-test", "cifar10", "CIFAR-10 test set"),
        ("cifar100_val_acc", "cifar100-val", "", "CIFAR-100 validation split"),
        ("imagenet16_120_val_acc", "imagenet16-120-val", "imagenet16-120", "ImageNet16-120 validation split"),
    ):
        columns[column] = quality(
            "classification", "nas-bench-201", suffix, "top1", dataset, _NASLIB, "Apache-2.0", form=form
        )
    for column, suffix, device in (
        ("1080ti_1", "1080ti-batch1", "GTX 1080 Ti, batch 1"),
        ("1080ti_256", "1080ti-batch256", "GTX 1080 Ti, batch 256"),
        ("2080ti_1", "2080ti-batch1", "RTX 2080 Ti, batch 1"),
        ("titan_rtx_1", "titan-rtx-batch1", "Titan RTX, batch 1"),
        ("titan_rtx_32", "titan-rtx-batch32", "Titan RTX, batch 32"),
        ("pixel3", "pixel3", "Pixel 3"),
        ("raspi4", "raspi4", "Raspberry Pi 4"),
        ("gold_6226", "gold-6226", "Xeon Gold 6226"),
        ("silver_4114", "silver-4114", "Xeon Silver 4114"),
        ("eyeriss", "eyeriss", "Eyeriss accelerator"),
        ("edgegpu", "edgegpu", "Jetson TX2 edge GPU"),
    ):
        columns[f"latency_ms_{column}"] = cost("latency", "nas-bench-201", suffix, device, _HELP, "MIT")
    columns["energy_mj_edgegpu"] = cost(
        "energy", "nas-bench-201", "edgegpu", "Jetson TX2 edge GPU", _HELP, "MIT"
    )
    return columns


#: Column -> task.
COLUMNS = _declare()


@register_table("nas-bench-201")
def load(folder: Path) -> Table:
    """One network per class of isomorphic cells: the representative (smallest index) with its own values.

    The other 9,159 rows compute the same functions and differ by training noise only; keeping them would
    put twins on both sides of a split. ``macs`` and ``params`` are those of the 100-class network on 32 x 32
    images as the table prints them, rounded to 0.01 M and 0.001 M (about 1% of the rows carry the numbers of
    another cell; the network built from the code is right).

    ``noise`` is the median standard deviation within sets of twins. To an accuracy, all cells of a class are twins;
    classes that reach 80% on CIFAR-10 count. A device also runs operations that do not reach the output, unless its
    compiler leaves them out, so that to a latency or energy only those cells of a class are twins that have the same
    operations and none that is idle. Eyeriss is a simulator that repeats itself exactly: it has no noise.
    """
    path = folder / FILE
    columns = read_columns(path, ["idx", "arch", "isomorph_of", "macs_M", "params_M", *COLUMNS])
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
        values={task: pick(column) for column, task in COLUMNS.items()},
        groups=[str(columns["isomorph_of"][i]) for i in rows],
        macs=np.round(pick("macs_M", 2) * 1e6),
        params=np.round(pick("params_M", 3) * 1e6),
        files={FILE: sha256(path)},
        licence="Apache-2.0 (accuracies), MIT (latencies, energy)",
        noise=_noise(columns),
    )


def representatives(folder: Path) -> dict[str, str]:
    """Return the code of each of the 15,625 cells -> the code of the one of its isomorphic cells that `load` keeps."""
    columns = read_columns(folder / FILE, ["idx", "arch", "isomorph_of"])
    code = dict(zip(columns["idx"], columns["arch"], strict=True))
    return {own: code[of] for own, of in zip(columns["arch"], columns["isomorph_of"], strict=True)}


def _noise(columns: dict[str, list[Any]]) -> dict[str, float]:
    """Task -> median standard deviation within sets of twins, over all rows of the file; see `load`."""
    trained = np.asarray(columns["cifar10_test_acc"], dtype=np.float64) > _TRAINED
    operations = [_OPERATION.findall(code) for code in columns["arch"]]
    busy = np.asarray([not _idles(cell) for cell in operations])
    classes = columns["isomorph_of"]
    alike = list(zip(classes, map(tuple, map(sorted, operations)), strict=True))
    noise: dict[str, float] = {}
    for column, task in COLUMNS.items():
        accuracy = column.endswith("_acc")
        rows, labels = (trained, classes) if accuracy else (busy, alike)
        number = {label: i for i, label in enumerate(dict.fromkeys(labels))}
        twins = np.asarray([number[label] for label in labels])
        values = np.asarray(columns[column], dtype=np.float64)
        spread = float(np.median(spread_of_rows(values[rows], twins[rows])))
        if spread > 0:
            noise[task] = spread
    return noise


def _idles(operations: list[str]) -> bool:
    """Whether some operation (not ``none``) reads nothing of the cell's input or does not reach its output."""
    edges = [edge for edge, operation in zip(_EDGES, operations, strict=True) if operation != "none"]
    fed, heard = {0}, {3}
    for source, target in edges:  # in the order of the targets
        if source in fed:
            fed.add(target)
    for source, target in reversed(edges):
        if target in heard:
            heard.add(source)
    return not all(source in fed and target in heard for source, target in edges)
