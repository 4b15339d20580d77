"""The project's own measurements: bodies of `digits-ofa` on six vision tasks of digit scenes; comes with the package.

Made by `aiop latent build benchmarks/latent.yaml`. Tasks named `...-pseudo-...` are cheap labels by a shared head that
was trained on latent samples; the others are of bodies that were trained individually, which have both.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aiop.tasks.declare import quality
from aiop.tasks.tables.table import Table, read_columns, register_table, sha256

__all__ = ["FILE", "TASKS", "load"]

FILE = Path(__file__).resolve().parents[1] / "latent" / "digits.parquet"
_LICENCE = "Apache-2.0"
_SOURCE = "aiop latent build"

#: Column of the file, without its kind -> domain, what is judged, metric.
_FIGURES = {
    "classification": ("classification", "main", "top1", "class of the main digit of a scene"),
    "keypoints": (
        "detection",
        "keypoints",
        "pck",
        "five points of the main digit, within a twentieth of its size",
    ),
    "detection": ("detection", "box", "ap", "boxes of digits, AP 50:95"),
    "instance": ("segmentation", "instance", "ap", "masks of digits, AP 50:95"),
    "semantic": ("segmentation", "semantic", "miou", "classes of pixels: digits and textures"),
    "panoptic": ("segmentation", "panoptic", "pq", "digits and textures, panoptic quality"),
}
_KINDS = {"truth": "", "latent": "pseudo-"}

TASKS = {
    f"{kind}/{column}": quality(
        domain,
        "digits-ofa",
        f"{prefix}{part}",
        metric,
        f"digit scenes: {what}" + (", shared head tuned briefly" if prefix else ""),
        _SOURCE,
        _LICENCE,
    )
    for kind, prefix in _KINDS.items()
    for column, (domain, part, metric, what) in _FIGURES.items()
}
"""Column of the file -> task."""


@register_table("digits-ofa", embedded=FILE.parent)
def load(folder: Path) -> Table:
    """One entry per body; truth is the first training, and the noise that between two of one body."""
    path = folder / FILE.name
    columns = read_columns(path, ["network", "repeat", "macs", "params", *TASKS])
    repeat = np.asarray(columns["repeat"])
    first = np.flatnonzero(repeat == 0)
    networks = [str(columns["network"][row]) for row in first]
    found = {task: np.asarray(columns[column], np.float64) for column, task in TASKS.items()}
    again = {str(columns["network"][row]): row for row in np.flatnonzero(repeat == 1).tolist()}
    pairs = [(row, again[network]) for row, network in zip(first, networks, strict=True) if network in again]
    noise = {}
    for column, task in TASKS.items():
        if pairs and column.startswith("truth/"):
            gaps = np.array([found[task][one] - found[task][other] for one, other in pairs])
            noise[task] = float(
                np.sqrt(np.nanmean(gaps**2) / 2)
            )  # of a difference: twice the variance of one
    return Table(
        name="digits-ofa",
        networks=networks,
        values={task: values[first] for task, values in found.items()},
        groups=networks,
        macs=np.asarray(columns["macs"], np.float64)[first],
        params=np.asarray(columns["params"], np.float64)[first],
        files={FILE.name: sha256(path)},
        licence=_LICENCE,
        noise=noise,
    )
