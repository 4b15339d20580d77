"""NAS-Bench-MR: 2,507 multi-resolution architectures, each trained in six settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aiop.tasks.declare import quality
from aiop.tasks.tables.table import Table, read_columns, register_table, sha256

__all__ = ["load"]

FILE = "nas_bench_mr.parquet"
_NCP = "NAS-Bench-MR (Ding et al. 2022), NCP repository"
_LICENCE = "BSD-2-Clause (academic use)"
#: Setting -> form of the space; how frames of a video are handled is not public.
_FORMS = {"cls-10-1000": "cls-10", "seg": "seg"}


def _declare() -> dict[tuple[str, str], str]:
    columns: dict[tuple[str, str], str] = {}
    for setting, domain, prefix, dataset, metrics in (
        (
            "cls-50-1000",
            "classification",
            "cls-50-1000",
            "ImageNet, 50 classes, 1000 images each",
            ("top1", "top5"),
        ),
        (
            "cls-50-100",
            "classification",
            "cls-50-100",
            "ImageNet, 50 classes, 100 images each",
            ("top1", "top5"),
        ),
        (
            "cls-10-1000",
            "classification",
            "cls-10-1000",
            "ImageNet, 10 classes, 1000 images each",
            ("top1", "top5"),
        ),
        ("cls-10c", "classification", "cls-10c", "ImageNet subset, short schedule", ("top1", "top5")),
        ("seg", "segmentation", "cityscapes", "Cityscapes, 19 classes", ("mIoU", "mAcc", "aAcc")),
        ("video", "video", "hmdb51", "HMDB51, 51 classes", ("top1", "top5")),
    ):
        for metric in metrics:
            columns[setting, metric] = quality(
                domain,
                "nas-bench-mr",
                prefix,
                metric.lower(),
                dataset,
                _NCP,
                _LICENCE,
                form=_FORMS.get(setting, ""),
            )
    return columns


#: (setting, column) -> task.
COLUMNS = _declare()


@register_table("nas-bench-mr")
def load(folder: Path) -> Table:
    """One entry per architecture, its six rows (one per setting) joined on the code.

    ``macs`` is the table's own count, ``gmacs * 1e9``: convolutions, plus twice the outputs of batch norms,
    plus 50, of the 50-class network on 128 x 128 images. ``params`` is exact.
    There is no ``noise``: every architecture was trained once in each setting.
    """
    path = folder / FILE
    metrics = sorted({metric for _, metric in COLUMNS})
    columns = read_columns(path, ["setting", "embedding", "gmacs", "params_M", *metrics])
    codes = [",".join(str(int(number)) for number in embedding) for embedding in columns["embedding"]]
    position = {code: i for i, code in enumerate(dict.fromkeys(codes))}
    count = len(position)
    values = {task: np.full(count, np.nan) for task in COLUMNS.values()}
    macs, params = np.full(count, np.nan), np.full(count, np.nan)
    for row, code in enumerate(codes):
        i = position[code]
        macs[i] = round(columns["gmacs"][row] * 1e9)
        params[i] = round(columns["params_M"][row] * 1e6)
        for metric in metrics:
            task = COLUMNS.get((columns["setting"][row], metric))
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
        licence=_LICENCE,
    )
