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

__all__ = [
    "BEST_ON_MEAN",
    "BEST_PER_TASK",
    "MARGIN",
    "METRICS",
    "Cell",
    "Chosen",
    "Entry",
    "best",
    "chosen",
    "efficiency",
    "losses",
    "pooled",
    "summarise",
    "usual_budgets",
]

METRICS = ("srcc", "tau", "mae", "regret1", "regret10", "coverage", "srcc_rows", "tau_rows")
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


@dataclass(frozen=True)
class Chosen:
    """The from-scratch baseline that is best on the mean over tasks, at one number of labels.

    Which baseline is best on a task is not known before its test networks are measured: the best of a dozen per task is
    one that nobody could have chosen. This one could be.

    name: the best of all, on the mean over the tasks that every one of them has.
    stand_in: the best of those that have all tasks (codes are not there for every network), where ``name`` has none.
    """

    name: str
    stand_in: str

    def of(self, entry: Entry, labels: int, metric: str) -> tuple[str, float]:
        """Return which of the two it is on a task, and its mean; ``("", nan)`` where neither has a result."""
        for name in (self.name, self.stand_in):
            score = entry.score(name, labels, metric)
            if math.isfinite(score):
                return name, score
        return "", math.nan


def chosen(
    entries: Sequence[Entry], labels: int, methods: Mapping[str, Method], metric: str = "srcc"
) -> Chosen:
    """Choose from the baselines that know nothing but labels and costs; of errors the mean is the geometric one.

    Only tasks with ``labels`` labels count.
    """
    asked = [entry for entry in entries if labels in entry.budgets()]
    scores: dict[str, list[float]] = {}
    for name, method in methods.items():
        values = [entry.score(name, labels, metric) for entry in asked]
        if method.scratch and not method.ours and any(map(math.isfinite, values)):
            scores[name] = values
    shared = [
        place
        for place in range(len(asked))
        if all(math.isfinite(values[place]) for values in scores.values())
    ]
    everywhere = {name: values for name, values in scores.items() if all(map(math.isfinite, values))}

    def top(among: Mapping[str, Sequence[float]], places: Iterable[int]) -> str:
        means = {
            name: _mean_of([values[place] for place in places], metric) for name, values in among.items()
        }
        return (min if metric == "mae" else max)(means, key=lambda name: means[name]) if means else ""

    stand_in = top(everywhere, range(len(asked))) if everywhere else ""
    return Chosen(top(scores, shared) if shared else stand_in, stand_in)


def _mean_of(values: Sequence[float], metric: str) -> float:
    return float(np.mean(np.log(np.maximum(values, 1e-12)) if metric == "mae" else values))


def usual_budgets(entries: Sequence[Entry]) -> list[int]:
    """Return the numbers of labels that at least half of the tasks ask heads for, or baselines without one."""
    asked = [set(entry.cells.get(HEAD, {})) or entry.budgets() for entry in entries]
    return [
        labels
        for labels in sorted(set().union(*asked))
        if 2 * sum(labels in budgets for budgets in asked) >= len(entries)
    ]


BEST_PER_TASK, BEST_ON_MEAN = "best per task", "best on the mean"
"""What stands for all from-scratch baselines in `efficiency`."""


def efficiency(
    entries: Sequence[Entry],
    methods: Mapping[str, Method],
    *,
    labels: int = 20,
    baseline: str = BEST_PER_TASK,
) -> tuple[float, int, int]:
    """Return how many times as many labels a baseline needs for what the head has with ``labels``.

    ``baseline`` is a method, `BEST_ON_MEAN` (`chosen` at every number of labels) or `BEST_PER_TASK` (the best
    from-scratch baseline on the very test networks, at every number of labels of every task).

    Returns:
        The geometric mean over tasks, the number of tasks, and the number of them where the baseline does not come
        there with all the labels that it was given: their factors, and so the mean, are at least this.
    """
    factors, open_ended = [], 0
    counts = sorted({count for entry in entries for count in entry.budgets() if count})
    choices = {count: chosen(entries, count, methods) for count in counts} if baseline == BEST_ON_MEAN else {}

    def score(entry: Entry, count: int) -> float:
        if choices:
            return choices[count].of(entry, count, "srcc")[1]
        if baseline == BEST_PER_TASK:
            return best(entry, count, "srcc", methods, scratch=True)[1]
        return entry.score(baseline, count)

    for entry in entries:
        curve = {count: score(entry, count) for count in entry.budgets() if count}
        factor, beyond = label_efficiency(entry.score(HEAD, labels), labels, curve)
        if math.isfinite(factor):
            factors.append(factor)
            open_ended += beyond
    return (float(np.exp(np.mean(np.log(factors)))) if factors else math.nan), len(factors), open_ended


def losses(
    entries: Iterable[Entry], labels: int, methods: Mapping[str, Method], against: Chosen | None = None
) -> list[tuple[Entry, str, float]]:
    """Return where a baseline ranks better than the head by more than `MARGIN`: entry, baseline, difference.

    The baseline is the best of all on the task, those that transfer among them, or the one that is given.
    """
    found = []
    for entry in entries:
        name, score = against.of(entry, labels, "srcc") if against else best(entry, labels, "srcc", methods)
        lost = score - entry.score(HEAD, labels)
        if lost > MARGIN:
            found.append((entry, name, lost))
    return sorted(found, key=lambda item: -item[2])


def pooled(entries: Iterable[Entry], method: str, labels: int, metric: str) -> tuple[float, int]:
    """Return the mean of a metric over the tasks that have it, and their number."""
    values = [entry.score(method, labels, metric) for entry in entries]
    known = [value for value in values if math.isfinite(value)]
    return (float(np.mean(known)) if known else math.nan), len(known)
