"""FBNet: 5,000 of the 9 ** 22 networks, latency on 20 devices and batch sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aiop.tasks.declare import cost
from aiop.tasks.spaces.fbnet import canonical
from aiop.tasks.tables.table import Table, read_columns, register_table, sha256

__all__ = ["load"]

FILE = "fbnet_latency.parquet"
_HELP = "HELP (Lee et al. 2021) and HW-NAS-Bench (Li et al. 2021)"
_LICENCE = "MIT"


def _declare() -> dict[str, str]:
    columns: dict[str, str] = {}
    for column, suffix, device in (
        ("1080ti", "1080ti", "GTX 1080 Ti"),
        ("2080ti", "2080ti", "RTX 2080 Ti"),
        ("titan_rtx", "titan-rtx", "Titan RTX"),
        ("titanx", "titanx", "Titan X"),
    ):
        for batch in (1, 32, 64):
            columns[f"ms__{column}_{batch}"] = cost(
                "latency", "fbnet", f"{suffix}-batch{batch}", f"{device}, batch {batch}", _HELP, _LICENCE
            )
    for column, suffix, device in (
        ("essential_ph_1", "essential-ph-1", "Essential PH-1 phone, whole milliseconds"),
        ("eyeriss", "eyeriss", "Eyeriss accelerator, sum of a look-up table"),
        ("gold_6226", "gold-6226", "Xeon Gold 6226"),
        ("gold_6240", "gold-6240", "Xeon Gold 6240"),
        ("pixel3", "pixel3", "Pixel 3, sum of a look-up table"),
        ("raspi4", "raspi4", "Raspberry Pi 4, sum of a look-up table"),
        ("silver_4114", "silver-4114", "Xeon Silver 4114"),
        ("silver_4210r", "silver-4210r", "Xeon Silver 4210R"),
    ):
        columns[f"ms__{column}"] = cost("latency", "fbnet", suffix, device, _HELP, _LICENCE)
    return columns


#: Column -> task.
COLUMNS = _declare()


@register_table("fbnet")
def load(folder: Path) -> Table:
    """One entry per code; codes of one network (see `canonical`) form one group. The file has no cost columns.

    The look-up tables are those of the 32 x 32 network; the file does not say which one the GPUs, the CPUs and
    the Essential phone ran, and the same one is taken for all.
    """
    path = folder / FILE
    columns = read_columns(path, ["op_idx", *COLUMNS])
    choices = [tuple(row) for row in columns["op_idx"]]
    unknown = np.full(len(choices), np.nan)
    return Table(
        name="fbnet",
        networks=["fbnet:" + ",".join(map(str, row)) for row in choices],
        values={task: np.asarray(columns[column], dtype=np.float64) for column, task in COLUMNS.items()},
        groups=[",".join(map(str, canonical(row))) for row in choices],
        macs=unknown,
        params=unknown.copy(),
        files={FILE: sha256(path)},
        licence=_LICENCE,
    )
