"""NAS-Bench-Macro: 6,561 codes of 3,969 distinct networks, each trained three times on CIFAR-10."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aiop.tasks.declare import quality
from aiop.tasks.spaces.nas_bench_macro import canonical
from aiop.tasks.tables.table import Table, read_columns, register_table, sha256

__all__ = ["load"]

FILE = "nas_bench_macro.parquet"
_LICENCE = "Apache-2.0"

TASK = quality(
    "classification",
    "nas-bench-macro",
    "cifar10-test",
    "top1",
    "CIFAR-10 test set, mean of three runs",
    "NAS-Bench-Macro (Su et al. 2021)",
    _LICENCE,
)


@register_table("nas-bench-macro")
def load(folder: Path) -> Table:
    """One entry per code. Codes of one network (see `canonical`) carry the same runs and form one group.

    A value is the mean of three runs. ``noise`` is the standard deviation between the runs as the file gives it
    (divided by three, not two), its median over the codes: that of a single run, 1.7 times that of the mean.
    ``macs`` (the file's ``flops``) and ``params`` are exact, of the 10-class network on 32 x 32 images.
    """
    path = folder / FILE
    mean, deviation = "cifar10_test_acc_mean", "cifar10_test_acc_std"
    columns = read_columns(path, ["arch", mean, deviation, "flops", "params"])
    codes = columns["arch"]
    return Table(
        name="nas-bench-macro",
        networks=[f"nas-bench-macro:{code}" for code in codes],
        values={TASK: np.asarray(columns[mean], dtype=np.float64)},
        groups=[canonical(code) for code in codes],
        macs=np.asarray(columns["flops"], dtype=np.float64),
        params=np.asarray(columns["params"], dtype=np.float64),
        files={FILE: sha256(path)},
        licence=_LICENCE,
        noise={TASK: float(np.median(columns[deviation]))},
    )
