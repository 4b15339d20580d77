"""How far searches were from the best architecture of their table, over seeds and over tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.protocols.folds import Case
from aiop.protocols.plan import Plan
from aiop.protocols.seen import bench
from aiop.protocols.store import Record
from aiop.search.comparison.judge import CHECKPOINTS
from aiop.tasks import get_task

__all__ = ["Race", "checkpoints", "summarise"]

Array = npt.NDArray[Any]


@dataclass
class Race:
    """One task: where the searches of every contender were at each checkpoint.

    networks: measured ones of the table; deviation: of the metric over them.
    regrets: contender -> checkpoint -> ``(seeds,)``, the best value of the table less the best found, in the unit.
    places: contender -> checkpoint -> ``(seeds,)``, share of the table, in %, that is better than the best found.
    seconds: contender -> of one search, on average.
    """

    task: str
    table: str
    unit: str
    networks: int
    deviation: float
    regrets: dict[str, dict[int, Array]] = field(default_factory=dict)
    places: dict[str, dict[int, Array]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def regret(self, name: str, count: int) -> float:
        """Return the median regret over seeds, in the unit; nan where unknown."""
        return _median(self.regrets, name, count)

    def place(self, name: str, count: int) -> float:
        """Return the median share of better networks over seeds, %; nan where unknown."""
        return _median(self.places, name, count)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values ready for JSON: medians over seeds."""
        return {
            "task": self.task,
            "unit": self.unit,
            "networks": self.networks,
            "methods": {
                name: [
                    {
                        "evaluations": count,
                        "regret": self.regret(name, count),
                        "better": self.place(name, count),
                    }
                    for count in found
                ]
                for name, found in self.regrets.items()
            },
        }


def checkpoints(evaluations: int) -> tuple[int, ...]:
    """Return the checkpoints that searches of so many evaluations reach."""
    return tuple(count for count in CHECKPOINTS if count <= evaluations)


def summarise(records: Iterable[tuple[Case, str, Record]], plan: Plan, evaluations: int) -> list[Race]:
    """Return one entry per task, in the order in which records (of a case and a contender) come."""
    grouped: dict[Case, dict[str, list[Record]]] = {}
    for case, name, record in records:
        grouped.setdefault(case, {}).setdefault(name, []).append(record)
    return [_race(case, found, plan, evaluations) for case, found in grouped.items()]


def _race(case: Case, found: dict[str, list[Record]], plan: Plan, evaluations: int) -> Race:
    task = get_task(case.task)
    values = bench(case.table, plan.folder).table.values[case.task]
    values = values if task.direction == "max" else -values
    known = np.sort(values[np.isfinite(values)])
    race = Race(case.task, case.table, task.unit, len(known), float(known.std()))
    for name, results in found.items():
        race.seconds[name] = float(np.mean([record["seconds"] for record in results]))
        for count in checkpoints(evaluations):
            best = np.array([values[best_row(record["asked"], count)] for record in results])
            race.regrets.setdefault(name, {})[count] = known[-1] - best
            above = len(known) - np.searchsorted(known, best, side="right")
            race.places.setdefault(name, {})[count] = 100.0 * above / len(known)
    return race


def best_row(asked: Sequence[Sequence[int]], count: int) -> int:
    """Return the row of the best architecture among the first ``count`` asked for; of 0 the one asked for first.

    >>> best_row([(1, 7), (4, 2), (30, 5)], 10)
    2
    """
    return next(row for at, row in reversed(asked) if at <= max(count, 1))


def _median(found: dict[str, dict[int, Array]], name: str, count: int) -> float:
    values = found.get(name, {}).get(count)
    return float("nan") if values is None else float(np.median(values))
