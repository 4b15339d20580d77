"""GAIA's detectors: 313 networks sampled from one super-network, COCO box AP with its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aiop.tasks.declare import quality
from aiop.tasks.tables.table import Table, read_columns, register_table, sha256

__all__ = ["load"]

FILE = "gaia_det_coco.parquet"
_SOURCE = "GAIA (Bu et al. 2021), without fine-tuning"
_LICENCE = "Apache-2.0"
_ARCHITECTURE = ("input_shape", "stem", "width", "depth")

#: Column -> task.
COLUMNS = {
    f"direct__coco_bbox_mAP{suffix}": quality(
        "detection", "gaia-det", "coco", metric, f"COCO val2017, {what}", _SOURCE, _LICENCE
    )
    for suffix, metric, what in (
        ("", "ap", "boxes, IoU 0.5 to 0.95"),
        ("_50", "ap50", "boxes, IoU 0.5"),
        ("_75", "ap75", "boxes, IoU 0.75"),
        ("_s", "ap-small", "boxes of less than 32 x 32 pixels"),
        ("_m", "ap-medium", "boxes of 32 x 32 to 96 x 96 pixels"),
        ("_l", "ap-large", "boxes of more than 96 x 96 pixels"),
    )
}


@register_table("gaia-det")
def load(folder: Path) -> Table:
    """All 313 networks; values are deterministic, AP as % in steps of 0.1.

    ``macs`` is the column ``flops``: MACs of convolutions and of the box head on 1,000 proposals, plus one for every
    output element of a convolution with bias, for every output element of a ReLU (but those of the region proposal
    network) and for every input element of the stem's pooling; the MACs alone are about 0.1% fewer. There is no
    column for parameters. Networks that differ in the input only run the same weights and are one group.
    """
    path = folder / FILE
    columns = read_columns(path, [*_ARCHITECTURE, "flops", *COLUMNS])
    spelled = [[_spell(value) for value in columns[column]] for column in _ARCHITECTURE]
    codes = list(zip(*spelled, strict=True))
    return Table(
        name="gaia-det",
        networks=["gaia-det:" + "/".join(code) for code in codes],
        values={
            task: np.round(100 * np.asarray(columns[column], dtype=np.float64), 6)
            for column, task in COLUMNS.items()
        },
        groups=["/".join(code[1:]) for code in codes],
        macs=np.asarray(columns["flops"], dtype=np.float64),
        params=np.full(len(codes), np.nan),
        files={FILE: sha256(path)},
        licence=_LICENCE,
    )


def _spell(value: int | list[int]) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
