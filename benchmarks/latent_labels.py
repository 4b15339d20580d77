"""The labels of a build of `aiop latent build`, as `benchmarks.latent` reads them, and what they are worth and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.finetune.metrics import kendall_tau, srcc
from aiop.tasks.tables.table import read_columns

__all__ = ["KINDS", "LatentLabels", "cost_lines", "quality_lines", "read_labels"]

Array = npt.NDArray[np.float64]

KINDS = ("truth", "latent", "swapping")
"""Trained individually; tuned briefly with the head of latent sampling, and with that of body swapping."""


@dataclass(frozen=True, eq=False)
class LatentLabels:
    """Labels of n bodies for K tasks.

    networks: n names; judged: bool ``(n,)``, those that were trained individually.
    tasks: K names. values: kind -> ``(n, K)`` in %, nan without a label.
    seconds: kind -> group of tasks -> processor seconds of each training there was.
    macs: ``(n,)``.
    """

    networks: tuple[str, ...]
    judged: npt.NDArray[np.bool_]
    tasks: tuple[str, ...]
    values: Mapping[str, Array]
    seconds: Mapping[str, Mapping[str, Array]]
    macs: Array


def read_labels(path: Path) -> LatentLabels:
    """Read the Parquet file of a build: of every body the first training of each kind.

    Raises:
        AiopError: for a file that is none, or one without pseudo-labels or truth.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        header = list(pq.read_schema(path).names) if path.is_file() else None
    except (pa.ArrowException, OSError) as error:
        raise AiopError(
            f'"{path}" is no table of labels ({error}): give what `aiop latent build` wrote'
        ) from None
    if header is None:
        raise AiopError(f'"{path}" does not exist: run `aiop latent build CONFIG.yaml` first')
    missing = [name for name in ("network", "role", "repeat", "macs") if name not in header]
    tasks = tuple(name.partition("/")[2] for name in header if name.startswith("truth/"))
    if missing or not tasks or not any(name.startswith("latent/") for name in header):
        what = f"column {missing[0]!r}" if missing else "truth or pseudo-labels"
        raise AiopError(f'"{path}" has no {what}: give the table that `aiop latent build` wrote')
    columns = read_columns(path, header)
    rows = np.flatnonzero(np.asarray(columns["repeat"]) == 0)

    def numbers(name: str) -> Array:
        found = columns.get(name, [None] * len(columns["repeat"]))
        return np.asarray(found, np.float64)[rows]

    seconds: dict[str, dict[str, Array]] = {}
    for name in header:
        start, _, group = name.partition("/")
        kind = start.removesuffix("_seconds")
        if start.endswith("_seconds") and kind in KINDS:
            taken = np.asarray(columns[name], np.float64)
            seconds.setdefault(kind, {})[group] = taken[np.isfinite(taken)]
    return LatentLabels(
        networks=tuple(str(columns["network"][row]) for row in rows),
        judged=np.array([columns["role"][row] == "truth" for row in rows], bool),
        tasks=tasks,
        values={kind: np.stack([numbers(f"{kind}/{task}") for task in tasks], axis=1) for kind in KINDS},
        seconds=seconds,
        macs=numbers("macs"),
    )


def quality_lines(labels: LatentLabels) -> list[str]:
    """Return a table: how pseudo-labels of both methods, and MACs, rank the bodies trained individually."""
    lines = [
        "| task | bodies | latent sampling SRCC / tau | body swapping SRCC / tau | MACs SRCC / tau |",
        "|---|---|---|---|---|",
    ]
    judged, found = labels.judged, []
    for column, task in enumerate(labels.tasks):
        truth = labels.values["truth"][judged, column]
        others = [labels.values[kind][judged, column] for kind in KINDS[1:]] + [labels.macs[judged]]
        scores = [(srcc(other, truth), kendall_tau(other, truth)) for other in others]
        found.append(scores)
        lines.append(_line(task, str(int(np.isfinite(truth).sum())), *map(_pair, scores)))
    means = np.mean(np.array(found), axis=0)
    return [*lines, _line("mean", "", *(_pair(pair) for pair in means))]


def cost_lines(labels: LatentLabels) -> list[str]:
    """Return a table: mean processor seconds of a label by kind and group of tasks, and its share of a true one."""
    groups = list(labels.seconds.get("truth", {}))
    lines = [
        f"| label | labels | {' | '.join(f'{group}, s' for group in groups)} | together, s | of a true label |"
    ]
    lines.append("|---" * (len(groups) + 4) + "|")
    means = {
        kind: [_mean(labels.seconds.get(kind, {}).get(group, np.zeros(0))) for group in groups]
        for kind in KINDS
    }
    for kind in KINDS:
        count = max((len(taken) for taken in labels.seconds.get(kind, {}).values()), default=0)
        share = sum(means[kind]) / sum(means["truth"])
        cells = [f"{mean:.1f}" for mean in (*means[kind], sum(means[kind]))]
        lines.append(_line(kind, f"{count:,}", *cells, f"{share:.1%}" if math.isfinite(share) else "-"))
    return lines


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _pair(scores: Sequence[Any] | npt.NDArray[Any]) -> str:
    return " / ".join(f"{score:.3f}" if math.isfinite(score) else "-" for score in scores)


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
