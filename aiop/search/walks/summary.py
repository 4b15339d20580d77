"""What walks did to the metric: per start, and on average with a standard error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.protocols.folds import Case
from aiop.protocols.methods import HEAD
from aiop.protocols.plan import Plan
from aiop.protocols.seen import bench
from aiop.protocols.store import Record
from aiop.search.walks.ground import cheapest, ground_of
from aiop.search.walks.judge import TRUTH
from aiop.search.walks.plan import SETUPS, TARGETS, drawn
from aiop.tasks import get_task

__all__ = ["Place", "Walks", "mean_and_error", "summarise"]

Array = npt.NDArray[Any]
Place = tuple[str, float]
"""Name of a setup, and a target."""


@dataclass
class Walks:
    """One task: what the walks of every method did.

    deviation: of the metric over all networks of the table.
    possible: place -> bool ``(starts,)``, whether a network within the target can be reached at all.
    best: place -> ``(starts,)``, change to the best network of the table within the target, nan where there is none.
    changes: method -> place -> ``(draws, starts)``, change of the measured metric, in its unit, above 0 where it gets
        better; nan where the walk did not meet the target.
    macs: method -> place -> share of a start's MACs that is left, on average.
    scored: method -> candidates that a walk looked at, on average.
    seconds: of all walks together with fitting.
    """

    task: str
    table: str
    unit: str
    deviation: float
    possible: dict[Place, Array] = field(default_factory=dict)
    best: dict[Place, Array] = field(default_factory=dict)
    changes: dict[str, dict[Place, Array]] = field(default_factory=dict)
    macs: dict[str, dict[Place, float]] = field(default_factory=dict)
    scored: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def change(self, method: str, place: Place) -> tuple[float, float]:
        """Return the mean change of a method and its standard error over starts, in deviations; nan where unknown."""
        found = self.changes.get(method, {}).get(place)
        return (math.nan, math.nan) if found is None else mean_and_error(_over_draws(found) / self.deviation)

    def missed(self, method: str, place: Place) -> int:
        """Return how many starts a method has no network for within the target, in any draw, where there is one."""
        found = self.changes[method][place]
        return int((np.isnan(found).any(axis=0) & self.possible[place]).sum())

    def ahead(self, method: str, place: Place) -> tuple[float, float]:
        """Return by how much the head's change is above a method's, and the standard error, in deviations.

        Pairs of walks from the same start; starts that either has no network for are left out.
        """
        own, other = (self.changes.get(name, {}).get(place) for name in (HEAD, method))
        if own is None or other is None:
            return math.nan, math.nan
        return mean_and_error((_over_draws(own) - _over_draws(other)) / self.deviation)

    def baselines(self) -> list[str]:
        """Return the methods that the head is compared with."""
        return [name for name in self.changes if name not in (HEAD, TRUTH)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values ready for JSON: of every method and place mean and standard error, in deviations."""
        return {
            "task": self.task,
            "unit": self.unit,
            "deviation": self.deviation,
            "methods": {
                name: [
                    {
                        "setup": place[0],
                        "target": place[1],
                        "change": [
                            None if math.isnan(value) else round(value, 4)
                            for value in self.change(name, place)
                        ],
                        "missed": self.missed(name, place),
                    }
                    for place in places
                ]
                for name, places in self.changes.items()
            },
        }


def summarise(records: Iterable[tuple[Case, Record]], plan: Plan, starts: int) -> list[Walks]:
    """Return one entry per task, in the order in which records come."""
    grouped: dict[Case, dict[str, list[Record]]] = {}
    for case, record in records:
        grouped.setdefault(case, {}).setdefault(str(record["method"]), []).append(record)
    return [_walks(case, found, plan, starts) for case, found in grouped.items()]


def _walks(case: Case, found: Mapping[str, Sequence[Record]], plan: Plan, starts: int) -> Walks:
    task = get_task(case.task)
    ground = ground_of(case.table, plan.folder)
    values = bench(case.table, plan.folder).table.values[case.task]
    values = values if task.direction == "max" else -values
    entry = Walks(case.task, case.table, task.unit, float(np.nanstd(values)))
    down = cheapest(ground)
    order = np.argsort(ground.macs, kind="stable")
    top = np.fmax.accumulate(values[order])  # the best of all that are no dearer
    for setup in SETUPS:
        rows = drawn(values, upper=setup.upper, count=starts)
        lowest = down[rows] if setup.cutting else np.full(len(rows), ground.macs.min())
        for target in TARGETS:
            place = setup.name, target
            caps = (1 - target) * ground.macs[rows]
            entry.possible[place] = lowest <= caps
            within = np.searchsorted(ground.macs[order], caps, side="right")
            entry.best[place] = np.where(within > 0, top[within - 1], np.nan) - values[rows]
            for name, results in found.items():
                ends = np.array([record["ends"][setup.name][str(target)] for record in results], np.int64)
                met = ends >= 0
                change = np.where(met, values[ends] - values[rows], np.nan)
                entry.changes.setdefault(name, {})[place] = change
                left = np.where(met, ground.macs[ends] / ground.macs[rows], np.nan)
                entry.macs.setdefault(name, {})[place] = float(np.nanmean(left)) if met.any() else math.nan
    for name, results in found.items():
        entry.scored[name] = float(np.mean([record["scored"] for record in results]))
        entry.seconds += sum(float(record["seconds"]) for record in results)
    return entry


def mean_and_error(values: Array) -> tuple[float, float]:
    """Return the mean and its standard error of values ``(n,)`` without nan; nan where there are fewer than two.

    >>> mean_and_error(np.array([1.0, 3.0, np.nan]))
    (2.0, 1.0)
    """
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return math.nan, math.nan
    return float(known.mean()), float(known.std(ddof=1) / math.sqrt(len(known)))


def _over_draws(changes: Array) -> Array:
    """Mean over draws ``(starts,)``, nan where any draw has none."""
    return np.asarray(changes.mean(axis=0))
