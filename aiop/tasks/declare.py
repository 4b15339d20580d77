"""Short forms of `register_task` for the two kinds of columns that tables have: qualities and costs."""

from __future__ import annotations

from typing import Literal

from aiop.tasks.task import Task, register_task

__all__ = ["COSTS", "cost", "quality"]

#: Domain of a cost -> unit, direction.
COSTS: dict[str, tuple[str, Literal["max", "min"]]] = {
    "latency": ("ms", "min"),
    "energy": ("mJ", "min"),
    "throughput": ("images/s", "max"),
    "training-time": ("s", "min"),
    "training-throughput": ("images/s", "max"),
}


def quality(
    domain: str,
    space: str,
    suffix: str,
    metric: str,
    dataset: str,
    source: str,
    licence: str,
    *,
    unit: str = "%",
    direction: Literal["max", "min"] = "max",
    form: str = "",
) -> str:
    """Register the task ``DOMAIN/SPACE/SUFFIX-METRIC`` of a column that says how well networks do; returns its name.

    ``form`` names the form of the space that was measured, where it is not the default one.
    """
    name = f"{domain}/{space}/{suffix}-{metric}"
    return register_task(
        Task(name, metric, unit, direction, domain, dataset, space, source, licence, form=form)
    ).name


def cost(
    domain: str, space: str, suffix: str, device: str, source: str, licence: str, *, form: str = ""
) -> str:
    """Register the task ``DOMAIN/SPACE/SUFFIX`` of a column that says what networks cost; returns its name.

    Costs span orders of magnitude: they are learned on a logarithmic scale.
    """
    unit, direction = COSTS[domain]
    name = f"{domain}/{space}/{suffix}"
    return register_task(
        Task(
            name, domain, unit, direction, domain, device, space, source, licence, transform="log", form=form
        )
    ).name
