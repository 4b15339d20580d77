"""What is walked: tables, tasks, methods, the networks that walks start from, and the moves they may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError, suggest
from aiop.protocols.folds import Case, Holder, find_cases, table_tasks
from aiop.protocols.methods import HEAD, Method
from aiop.protocols.plan import Plan
from aiop.tasks import get_task
from aiop.tasks.declare import COSTS
from aiop.tasks.task import match_tasks

__all__ = [
    "COUNT",
    "LABELS",
    "SETUPS",
    "TABLES",
    "TARGETS",
    "UNGUIDED",
    "Setup",
    "drawn",
    "walked_cases",
    "walkers",
]

Array = npt.NDArray[Any]

TABLES = ("nas-bench-201", "transnas-micro", "transnas-macro", "nats-size", "nas-bench-macro")
"""Tables that hold (nearly) every network of their space, so that what a move leads to is measured."""

TARGETS = (0.15, 0.30, 0.50)
"""Shares of the MACs of a start that have to go."""

LABELS, COUNT = 50, 200
SEED = 7

UNGUIDED = {
    "random": "random moves that cut",
    "largest-cut": "the move that cuts the most MACs first",
    "smallest-cut": "the move that cuts the fewest MACs first",
    "oracle": "the same walk as `head`, guided by the measured values: the ceiling",
}
"""Walks without labels, and what a perfect predictor would find."""

_GUIDED = (HEAD, "forest", "aio-p", "macs")


@dataclass(frozen=True)
class Setup:
    """One kind of walk.

    upper: whether starts are drawn from the better half of a table, not from all of it.
    cutting: whether only moves that lower the MACs are taken, not any.
    """

    name: str
    title: str
    upper: bool
    cutting: bool


SETUPS = (
    Setup("random", "Random architectures, any moves", upper=False, cutting=False),
    Setup("upper", "Architectures of the better half, any moves", upper=True, cutting=False),
    Setup("cutting", "Random architectures, only moves that lower the MACs", upper=False, cutting=True),
)


def drawn(values: Array, *, upper: bool, count: int = COUNT) -> Array:
    """Return numbers of the networks that walks start from, sorted; of fewer than ``count`` all.

    Args:
        values: ``(n,)``, larger is better, nan where not measured.
        upper: draw from those that are at least the median.
        count: how many.
    """
    known = np.flatnonzero(np.isfinite(values))
    pool = known[values[known] >= np.median(values[known])] if upper else known
    random = np.random.default_rng([SEED, int(upper)])
    return np.sort(random.permutation(pool)[:count])


def walked_cases(holders: Sequence[Holder], plan: Plan, tasks: str | None = None) -> list[Case]:
    """Return the tasks that are walked, each with a predictor that was kept from the whole table; pairs are left out.

    ``tasks`` are globs, joined by commas; by default the plan's representative ones, as far as they say how good a
    network is.

    Raises:
        AiopError: a pattern without a task that can be walked, or no predictor that was kept from its table.
    """
    globs = list(plan.representative) if tasks is None else [glob.strip() for glob in tasks.split(",")]
    known = table_tasks()
    every = [task for table in TABLES for task in known.get(table, ()) if get_task(task).domain not in COSTS]
    for glob in globs if tasks is not None else ():
        match_tasks(glob)
        if not any(fnmatchcase(task, glob) for task in every):
            raise AiopError(
                f'task pattern "{glob}" matches no metric that can be walked: choose one of {", ".join(TABLES)} '
                "that says how good a network is"
            )
    wanted = [task for task in every if any(fnmatchcase(task, glob) for glob in globs)]
    able = [holder for holder in holders if holder.fold is None or not holder.fold.only]
    if not able or not wanted:
        raise AiopError(
            "there is nothing to walk: give predictors of folds with --predictors, and tasks with --tasks"
        )
    found = {case.task: case for case in reversed(find_cases("unseen-space", able, plan, ",".join(wanted)))}
    return [found[task] for task in wanted if task in found]


def walkers(methods: Mapping[str, Method], names: str | None = None) -> dict[str, Method | None]:
    """Return what guides walks: methods of `aiop.protocols.methods` by name, None for `UNGUIDED` ones.

    ``names`` are globs, joined by commas; the usual ones by default.

    Raises:
        AiopError: for a pattern that matches none.
    """
    able: dict[str, Method | None] = {
        name: method for name, method in methods.items() if method.sees != "others"
    } | dict.fromkeys(UNGUIDED)
    if names is None:
        return {name: able[name] for name in (*_GUIDED, *UNGUIDED) if name in able}
    chosen: dict[str, Method | None] = {}
    for glob in (part.strip() for part in names.split(",")):
        matched = [name for name in able if fnmatchcase(name, glob)]
        if not matched:
            raise AiopError(
                f'method pattern "{glob}" guides no walk{suggest(glob, able)}: the methods are {", ".join(able)}'
            )
        chosen |= {name: able[name] for name in matched}
    return {name: able[name] for name in able if name in chosen}
