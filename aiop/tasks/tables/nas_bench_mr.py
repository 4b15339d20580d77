"""NAS-Bench-MR: 2,507 multi-resolution architectures, each trained in six settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aiop.tasks.catalogue import NAS_BENCH_MR_COLUMNS
from aiop.tasks.tables.table import Table, read_columns, register_table, sha256

__all__ = ["load"]

FILE = "nas_bench_mr.parquet"


@register_table("nas-bench-mr")
def load(folder: Path) -> Table:
    """One entry per architecture, its six rows (one per setting) joined on the code.

    ``macs`` is the table's own count, ``gmacs * 1e9``: convolutions, plus twice the outputs of batch norms,
    plus 50, of the 50-class network on 128 x 128 images. ``params`` is exact.
    """
    path = folder / FILE
    metrics = sorted({metric for _, metric in NAS_BENCH_MR_COLUMNS})
    columns = read_columns(path, ["setting", "embedding", "gmacs", "params_M", *metrics])
    codes = [",".join(str(int(number)) for number in embedding) for embedding in columns["embedding"]]
    position = {code: i for i, code in enumerate(dict.fromkeys(codes))}
    count = len(position)
    values = {task: np.full(count, np.nan) for task in NAS_BENCH_MR_COLUMNS.values()}
    macs, params = np.full(count, np.nan), np.full(count, np.nan)
    for row, code in enumerate(codes):
        i = position[code]
        macs[i] = round(columns["gmacs"][row] * 1e9)
        params[i] = round(columns["params_M"][row] * 1e6)
        for metric in metrics:
            task = NAS_BENCH_MR_COLUMNS.get((columns["setting"][row], metric))
            value = columns[metric][row]
            if task is not None and value is not None:
                values[task][i] = value
    networks = [f"nas-bench-mr:{code}" for code in position]
    return Table(
        name="nas-bench-mr",
        networks=networks,
        values=values,
        groups=list(position),
        macs=macs,
        params=params,
        files={FILE: sha256(path)},
        licence="BSD-2-Clause (academic use)",
    )
