"""What a predictor predicts: the `Task` and the registry of tasks.

A task's name is ``DOMAIN/SPACE/DATASET-METRIC``, for example ``segmentation/nas-bench-mr/cityscapes-miou``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Literal

from aiop.errors import AiopError, suggest

__all__ = [
    "DOMAINS",
    "MEASURED",
    "Task",
    "get_task",
    "list_tasks",
    "match_tasks",
    "register_task",
    "suggest_tasks",
]

DOMAINS = (
    "classification",
    "detection",
    "segmentation",
    "self-supervision",
    "layout",
    "video",
    "latency",
    "energy",
    "throughput",
    "training-time",
    "training-throughput",
    "own",  # what a user's own table measured, under the table's name
)
MEASURED = Path(__file__).with_name("measured.json")


@dataclass(frozen=True)
class Task:
    """One measured quantity of a network.

    name: ``DOMAIN/SPACE/DATASET-METRIC``, unique.
    metric: what is measured (``"top1"``, ``"miou"``, ``"latency"``, ...).
    unit: of the values (``"%"``, ``"ms"``, ``"mJ"``, ``"images/s"``).
    direction: ``"max"`` where higher is better, else ``"min"``.
    domain: one of `DOMAINS`.
    dataset: data set, or device for a cost.
    space: the table and search space whose networks were measured.
    source, licence: of the measurements.
    transform: the scale on which the values are standardised: as they are, or their logarithm.
    form: the form of the space (head, input size) that was measured, empty for its default one.
    """

    name: str
    metric: str
    unit: str
    direction: Literal["max", "min"]
    domain: str
    dataset: str
    space: str
    source: str
    licence: str
    transform: Literal["identity", "log"] = "identity"
    form: str = ""

    def __post_init__(self) -> None:
        parts = self.name.split("/")
        if len(parts) != 3 or parts[0] != self.domain or parts[1] != self.space or not parts[2]:
            raise ValueError(f"task name {self.name!r} is not DOMAIN/SPACE/DATASET-METRIC of its own fields")
        if self.domain not in DOMAINS:
            raise ValueError(f"task {self.name!r}: domain {self.domain!r} is none of {', '.join(DOMAINS)}")

    @property
    def rows(self) -> int:
        """Networks of the public tables with a value, 0 for a task that none of them has."""
        return int(_measured().get(self.name, {}).get("rows", 0))

    @property
    def noise(self) -> float | None:
        """Standard deviation between repeated measurements of one network, in `unit`; None where not known.

        No predictor can be expected to come closer than this to a single measurement.
        """
        return _measured().get(self.name, {}).get("noise")


@cache
def _measured() -> dict[str, dict[str, Any]]:
    """Task -> ``rows`` and ``noise``, as ``python -m benchmarks.measured --write`` counted them in the tables."""
    facts: dict[str, dict[str, Any]] = json.loads(MEASURED.read_text("utf-8"))
    return facts


_TASKS: dict[str, Task] = {}


def register_task(task: Task, *, replace: bool = False) -> Task:
    """Add ``task`` to the registry and return it; a name may be registered once, or anew where ``replace`` says so."""
    if task.name in _TASKS and not replace:
        raise ValueError(f"task {task.name!r} is registered twice")
    _TASKS[task.name] = task
    return task


def get_task(name: str) -> Task:
    """The task ``name``; an unknown name is an `AiopError` with the nearest one.

    >>> get_task("segmentation/nas-bench-mr/cityscapes-miou").unit
    '%'
    """
    if name not in _TASKS:
        raise AiopError(f'task "{name}" is unknown{suggest(name, _TASKS)}: list all with "aiop tasks"')
    return _TASKS[name]


def list_tasks(glob: str = "*") -> list[str]:
    """Names of the tasks that match a shell-style pattern, sorted; empty where none matches.

    >>> list_tasks("video/*")
    ['video/nas-bench-mr/hmdb51-top1', 'video/nas-bench-mr/hmdb51-top5']
    """
    return sorted(name for name in _TASKS if fnmatchcase(name, glob))


def match_tasks(glob: str) -> list[str]:
    """As `list_tasks`, but a pattern that matches no task is an `AiopError` with the nearest name."""
    names = list_tasks(glob)
    if not names:
        raise AiopError(
            f'task pattern "{glob}" matches no task{suggest_tasks(glob, _TASKS)}: list all with "aiop tasks"'
        )
    return names


def suggest_tasks(glob: str, names: Iterable[str]) -> str:
    """As `suggest`, for a pattern that matches none of ``names``: the nearest name, domain or space.

    >>> suggest_tasks("latncy/*", ["latency/nas-bench-201/pixel3"])
    ' (did you mean "latency/*"?)'
    """
    candidates = dict.fromkeys(names)
    for name in list(candidates):
        domain, space, *_ = [*name.split("/"), ""]
        candidates |= dict.fromkeys((f"{domain}/*", f"*/{space}/*", f"{domain}/{space}/*"))
    return suggest(glob, candidates)
