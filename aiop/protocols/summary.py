"""What results say together: means over draws, label efficiency, where a baseline is better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aiop.finetune.metrics import label_efficiency
from aiop.protocols.methods import HEAD, Method
from aiop.protocols.store import Record

__all__ = ["MARGIN", "METRICS", "Cell", "Entry", "best", "efficiency", "losses", "pooled", "summarise"]

METRICS = ("srcc", "tau", "mae", "regret1", "regret10", "coverage")
MARGIN = 0.02
"""A baseline counts as better where its Spearman correlation is larger by more than this."""


@dataclass(frozen=True)
class Cell:
    """One task, method and number of labels: mean and deviation (of the sample) of every metric over the draws."""

    mean: Mapping[str, float]
    deviation: Mapping[str, float]
    draws: int
    seconds: float


@dataclass
class Entry:
    """One task, judged on one predictor: method -> number of labels -> cell."""

    fold: str
    task: str
    kind: str
    space_seen: bool
    tested: int
    cells: dict[str, dict[int, Cell]] = field(default_factory=dict)

    @property
    def space(self) -> str:
        """The space whose networks are ranked."""
        return self.task.split("/")[1]

    def score(self, method: str, labels: int, metric: str = "srcc") -> float:
        """Return a mean, nan where there is none."""
        cell = self.cells.get(method, {}).get(labels)
        return cell.mean.get(metric, math.nan) if cell else math.nan

    def budgets(self) -> set[int]:
        """Return the numbers of labels that any method has a result with."""
        return {labels for cells in self.cells.values() for labels in cells}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: metric -> [mean, deviation] per method and number of labels."""
        return {
            "task": self.task,
            "fold": self.fold,
            "kind": self.kind,
            "space_seen": self.space_seen,
            "tested": self.tested,
            "methods": {
                method: {
                    "all" if labels < 0 else str(labels): {
                        "draws": cell.draws,
                        "seconds": round(cell.seconds, 3),
                        **{
                            metric: [round(cell.mean[metric], 4), round(cell.deviation[metric], 4)]
                            for metric in cell.mean
                        },
                    }
                    for labels, cell in sorted(cells.items())
                }
                for method, cells in self.cells.items()
            },
        }


def summarise(records: Iterable[Record]) -> list[Entry]:
    """Return one entry per predictor and task, in the order in which records come."""
    grouped: dict[tuple[str, str], dict[tuple[str, int], list[Record]]] = {}
    for record in records:
        place = grouped.setdefault((record["fold"], record["task"]), {})
        place.setdefault((record["method"], record["labels"]), []).append(record)
    entries = []
    for (fold, task), found in grouped.items():
        first = next(iter(found.values()))[0]
        entry = Entry(fold, task, first["kind"], first["space_seen"], first["tested"])
        for (method, labels), group in found.items():
            entry.cells.setdefault(method, {})[labels] = _cell(group)
        entries.append(entry)
    return entries


def _cell(group: Sequence[Record]) -> Cell:
    mean, deviation = {}, {}
    for metric in METRICS:
        values = [record[metric] for record in group if record.get(metric) is not None]
        if values:
            mean[metric] = float(np.mean(values))
            deviation[metric] = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return Cell(mean, deviation, len(group), float(np.mean([record["seconds"] for record in group])))


def best(
    entry: Entry, labels: int, metric: str, methods: Mapping[str, Method], *, scratch: bool = False
) -> tuple[str, float]:
    """Return the best baseline of an entry and its mean; ``("", nan)`` where none has a result.

    Best is the largest correlation, the smallest error. ``scratch`` leaves out those that transfer from other tasks.
    """
    found = {
        name: entry.score(name, labels, metric)
        for name, method in methods.items()
        if not method.ours and (method.scratch or not scratch)
    }
    known = {name: value for name, value in found.items() if math.isfinite(value)}
    if not known:
        return "", math.nan
    name = (min if metric in ("mae", "regret1", "regret10") else max)(known, key=lambda key: known[key])
    return name, known[name]


def efficiency(
    entries: Iterable[Entry], methods: Mapping[str, Method], *, labels: int = 20, baseline: str = ""
) -> tuple[float, int, int]:
    """Return how many times as many labels a baseline needs for what the head has with ``labels``.

    Without a name the best from-scratch baseline at every number of labels stands for all.

    Returns:
        The geometric mean over tasks, the number of tasks, and the number of them where the baseline does not come
        there with all the labels that it was given: their factors, and so the mean, are at least this.
    """
    factors, open_ended = [], 0
    for entry in entries:
        curve = {
            count: entry.score(baseline, count)
            if baseline
            else best(entry, count, "srcc", methods, scratch=True)[1]
            for count in entry.budgets()
        }
        factor, beyond = label_efficiency(entry.score(HEAD, labels), labels, curve)
        if math.isfinite(factor):
            factors.append(factor)
            open_ended += beyond
    return (float(np.exp(np.mean(np.log(factors)))) if factors else math.nan), len(factors), open_ended


def losses(
    entries: Iterable[Entry], labels: int, methods: Mapping[str, Method]
) -> list[tuple[Entry, str, float]]:
    """Return where a baseline ranks better than the head by more than `MARGIN`: entry, baseline, difference."""
    found = []
    for entry in entries:
        name, score = best(entry, labels, "srcc", methods)
        lost = score - entry.score(HEAD, labels)
        if lost > MARGIN:
            found.append((entry, name, lost))
    return sorted(found, key=lambda item: -item[2])


def pooled(entries: Iterable[Entry], method: str, labels: int, metric: str) -> tuple[float, int]:
    """Return the mean of a metric over the tasks that have it, and their number."""
    values = [entry.score(method, labels, metric) for entry in entries]
    known = [value for value in values if math.isfinite(value)]
    return (float(np.mean(known)) if known else math.nan), len(known)
