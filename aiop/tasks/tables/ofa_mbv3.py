"""Once-for-All MobileNetV3: ImageNet accuracy of 2,223 sub-networks, latency of 5,000 others on three GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiop.tasks.declare import cost, quality
from aiop.tasks.tables.table import Table, mean_of_rows, read_columns, register_table, sha256, spread_of_rows

__all__ = ["load"]

ACCURACY, LATENCY = "ofa_mbv3_imagenet.parquet", "ofa_mbv3_latency.parquet"
_SPACE = "ofa-mbv3"
_BLOCKS = 4  # of a stage, at most
_TOP1 = quality(
    "classification",
    _SPACE,
    "imagenet",
    "top1",
    "ImageNet validation set, weights of the super-network",
    "Once-for-All (Cai et al. 2020), evaluated by DyNAS-T",
    "Apache-2.0",
)
#: Column -> task.
_LATENCIES = {
    f"ms__{column}_{batch}": cost(
        "latency",
        _SPACE,
        f"{suffix}-batch{batch}",
        f"{device}, batch {batch}",
        "HELP (Lee et al. 2021)",
        "MIT",
    )
    for column, suffix, device in (
        ("2080ti", "2080ti", "RTX 2080 Ti"),
        ("titan_rtx", "titan-rtx", "Titan RTX"),
        ("titan_xp", "titan-xp", "Titan Xp"),
    )
    for batch in (1, 32, 64)
}


@register_table("ofa-mbv3")
def load(folder: Path) -> Table:
    """The two files joined on the code; they share none, so a network has an accuracy or latencies.

    Accuracies were measured at 224 x 224 and width 1.0, with weights inherited from the super-network. The width
    behind the latencies is not published: they compare with each other only.

    ``macs`` (at 224 x 224) and ``params`` are exact, nan for the networks of the latency file. ``groups`` are the
    active sub-networks: codes that differ in entries which no block reads, or in the resolution, are together.
    ``noise`` of the accuracy is the standard deviation between codes of one sub-network and resolution, pooled (root
    mean square; the median is 0): most of them agree to the last digit, as nothing is trained again.
    """
    accuracy = read_columns(folder / ACCURACY, ["ks", "e", "d", "r", "params", "macs", "imagenet_top1"])
    latency = read_columns(folder / LATENCY, ["ks", "e", "d", "r", *_LATENCIES])
    codes = [_codes(columns) for columns in (accuracy, latency)]
    groups = dict(codes[0] + codes[1])
    position = {code: i for i, code in enumerate(groups)}
    rows = [np.asarray([position[code] for code, _ in found], dtype=np.int64) for found in codes]

    def accuracies(name: str) -> NDArray[np.float64]:
        return mean_of_rows(accuracy[name], rows[0], len(position))

    values = {_TOP1: accuracies("imagenet_top1")}
    values |= {task: mean_of_rows(latency[name], rows[1], len(position)) for name, task in _LATENCIES.items()}
    twins = [f"{group}/{side}" for (_, group), side in zip(codes[0], accuracy["r"], strict=True)]
    numbers = {twin: i for i, twin in enumerate(dict.fromkeys(twins))}
    spreads = spread_of_rows(accuracy["imagenet_top1"], np.asarray([numbers[twin] for twin in twins]))
    return Table(
        name=_SPACE,
        networks=[f"{_SPACE}:{code}" for code in position],
        values=values,
        groups=list(groups.values()),
        macs=accuracies("macs"),
        params=accuracies("params"),
        files={file: sha256(folder / file) for file in (ACCURACY, LATENCY)},
        licence="Apache-2.0 (accuracies), MIT (latencies)",
        noise={_TOP1: float(np.sqrt((spreads**2).mean()))},
    )


def _codes(columns: dict[str, list[Any]]) -> list[tuple[str, str]]:
    """Code and active sub-network of each row."""
    return [
        ("/".join([*(",".join(map(str, numbers)) for numbers in lists), str(side)]), _active(*lists))
        for *lists, side in zip(*(columns[name] for name in ("ks", "e", "d", "r")), strict=True)
    ]


def _active(kernels: list[int], expansions: list[int], depths: list[int]) -> str:
    """The entries that the network reads: ``kernel-expansion`` block by block, stages joined by ``/``."""
    return "/".join(
        ",".join(f"{kernels[i]}-{expansions[i]}" for i in range(_BLOCKS * stage, _BLOCKS * stage + depth))
        for stage, depth in enumerate(depths)
    )
