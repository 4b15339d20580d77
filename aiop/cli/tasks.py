"""``aiop tasks``: what can be predicted, and from how much data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from aiop.cli.networks import Json, Weights
from aiop.cli.output import Name, console, print_json, table

__all__ = ["show_tasks", "tasks"]


def tasks(
    pattern: Annotated[
        str,
        typer.Argument(metavar="GLOB", help="Show the tasks whose whole name matches.", show_default=False),
    ] = "*",
    weights: Weights = None,
    json: Json = False,
) -> None:
    """List what can be predicted: unit, better direction, labelled networks, held-out rank correlation."""
    import aiop

    predictor = aiop.load(weights)
    show_tasks(predictor.card, [predictor.names[index] for index in predictor.match(pattern)], json)


def show_tasks(card: Mapping[str, Any], names: Iterable[str], json: bool = False) -> None:
    """Print a table of tasks of a predictor's card, or one JSON object per task."""
    reports = [_report(name, card["tasks"][name]) for name in names]
    if not json:
        _show(reports)
        return
    for report in reports:
        print_json(report)


def _report(name: str, seen: Mapping[str, Any]) -> dict[str, Any]:
    """What the registry says of a task, and what the predictor's card says of its training."""
    from aiop.tasks import get_task

    task = get_task(name)
    return {
        "task": name,
        "domain": task.domain,
        "metric": task.metric,
        "dataset": task.dataset,
        "space": task.space,
        "unit": task.unit,
        "direction": task.direction,
        "labels": seen["labels"],
        "held_out": seen.get("held_out"),
        "source": task.source,
        "licence": task.licence,
    }


def _show(reports: list[dict[str, Any]]) -> None:
    rows = table("Task", "Unit", "Better", "Networks", "Held-out SRCC")
    for report in reports:
        correlation = (report["held_out"] or {}).get("srcc")
        rows.add_row(
            Name(report["task"]),
            report["unit"],
            "higher" if report["direction"] == "max" else "lower",
            f"{report['labels']:,}",
            "" if correlation is None else f"{correlation:.3f}",
        )
    console().print(rows)
