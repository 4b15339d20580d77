"""NATS-Bench size: 32,768 networks that differ in the channels of five stages, one accuracy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aiop.tasks.declare import quality
from aiop.tasks.tables.table import Table, read_columns, register_table, sha256

__all__ = ["load"]

FILE = "nats_bench_size.parquet"
_LICENCE = "MIT"

TASK = quality(
    "classification",
    "nats-size",
    "cifar10-test",
    "top1",
    "CIFAR-10 test set, trained for 90 epochs",
    "NATS-Bench (Dong et al. 2021), collected by BossNAS",
    _LICENCE,
)


@register_table("nats-size")
def load(folder: Path) -> Table:
    """One entry per code; no two codes share a network. The file has no cost columns and one training run each."""
    path = folder / FILE
    columns = read_columns(path, ["arch", "cifar10_acc"])
    codes = columns["arch"]
    unknown = np.full(len(codes), np.nan)
    return Table(
        name="nats-size",
        networks=[f"nats-size:{code}" for code in codes],
        values={TASK: np.asarray(columns["cifar10_acc"], dtype=np.float64)},
        groups=codes,
        macs=unknown,
        params=unknown.copy(),
        files={FILE: sha256(path)},
        licence=_LICENCE,
    )
