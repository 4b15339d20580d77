"""Accel-NASBench: 5,125 networks trained on ImageNet by a shortened schedule, throughput on four accelerators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiop.tasks.declare import cost, quality
from aiop.tasks.tables.table import Table, mean_of_rows, read_columns, register_table, sha256, spread_of_rows

__all__ = ["load"]

FILE = "accel_nasbench.parquet"
_SPACE = "accel-nasbench"
_ANB = "Accel-NASBench (Ahmad et al. 2024)"
_LICENCE = "Apache-2.0"
#: The code's entries, in its order.
_ENTRIES = [f"block{block}_{entry}" for block in range(7) for entry in ("e", "k", "l", "se")]


def _declare() -> dict[str, str]:
    columns: dict[str, str] = {}
    for metric in ("top1", "top5"):
        columns[f"val_{metric}"] = quality(
            "classification",
            _SPACE,
            "imagenet",
            metric,
            "ImageNet validation set, trained for 16 epochs at 160 to 192 pixels",
            _ANB,
            _LICENCE,
        )
    columns["train_time"] = cost(
        "training-time", _SPACE, "imagenet-16-epochs", "RTX 3090 (4), 16 epochs of ImageNet", _ANB, _LICENCE
    )
    for device, described in (
        ("a100", "A100 40 GB"),
        ("3090", "RTX 3090"),
        ("tpuv2", "TPU v2, one core, batch 64"),
        ("tpuv3", "TPU v3, one core, batch 128"),
    ):
        columns[f"throughput_{device}__mean"] = cost("throughput", _SPACE, device, described, _ANB, _LICENCE)
    return columns


#: Column -> task.
COLUMNS = _declare()


@register_table("accel-nasbench")
def load(folder: Path) -> Table:
    """One entry per code: the 13 codes that were trained and measured twice hold the mean of both rows.

    ``macs`` is the table's own count at 224 x 224: multiply-accumulates, plus 4 per output of a batch norm, plus
    the inputs and outputs of every global average pooling. ``params`` is exact. No two codes denote the same
    network, so ``groups`` are the codes.

    ``noise`` of accuracies and training time is the median standard deviation between the two rows of a code,
    that of a throughput the median standard deviation between the runs behind one value.
    """
    path = folder / FILE
    spreads = {name: name.replace("__mean", "__std") for name in COLUMNS if name.endswith("__mean")}
    columns = read_columns(path, [*_ENTRIES, "macs_M", "params_M", *COLUMNS, *spreads.values()])
    entries = np.asarray([columns[entry] for entry in _ENTRIES], dtype=np.int64).T
    codes = ["/".join(map(str, row)) for row in entries.tolist()]
    position = {code: i for i, code in enumerate(dict.fromkeys(codes))}
    rows = np.asarray([position[code] for code in codes], dtype=np.int64)

    def merged(name: str) -> NDArray[np.float64]:
        return mean_of_rows(columns[name], rows, len(position))

    noise = {
        task: float(np.median(spread_of_rows(columns[name], rows)))
        if name not in spreads
        else float(np.nanmedian(np.asarray(columns[spreads[name]], dtype=np.float64)))
        for name, task in COLUMNS.items()
    }
    return Table(
        name=_SPACE,
        networks=[f"{_SPACE}:{code}" for code in position],
        values={task: merged(name) for name, task in COLUMNS.items()},
        groups=list(position),
        macs=np.round(merged("macs_M") * 1e6),
        params=np.round(merged("params_M") * 1e6),
        files={FILE: sha256(path)},
        licence=_LICENCE,
        noise=noise,
    )
