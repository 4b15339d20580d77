"""``aiop tasks``: what was measured of which networks, and what of it the predictor predicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiop.cli.networks import Json, Weights
from aiop.cli.output import INDENT, Name, console, number, piped, print_json, table
from aiop.errors import AiopError

if TYPE_CHECKING:
    from aiop.tasks import Task

__all__ = ["show_tasks", "tasks"]

Predicted = Annotated[
    bool, typer.Option("--predicted", help="Show only what the predictor predicts.", show_default=False)
]


def tasks(
    pattern: Annotated[
        str,
        typer.Argument(metavar="GLOB", help="Show the tasks whose whole name matches.", show_default=False),
    ] = "*",
    predicted: Predicted = False,
    weights: Weights = None,
    json: Json = False,
) -> None:
    """List every task: unit, better direction, networks measured, noise, held-out rank correlation."""
    from aiop.pretrain.card import SHIPPED, card_tasks, read_card
    from aiop.tasks import list_tasks
    from aiop.tasks.task import suggest_tasks

    seen = card_tasks(read_card(weights or SHIPPED))  # of a predictor, the card alone is read
    known = seen.keys() | set(list_tasks())
    matching = sorted(name for name in known if fnmatchcase(name, pattern))
    if not matching:
        raise AiopError(
            f'no task matches "{pattern}"{suggest_tasks(pattern, known)}; list all with "aiop tasks"'
        )
    names = [name for name in matching if name in seen] if predicted else matching
    if not names:
        raise AiopError(
            f'the predictor predicts none of the {len(matching)} tasks that match "{pattern}"; leave out --predicted'
        )
    show_tasks(seen, names, json)


def show_tasks(seen: Mapping[str, Mapping[str, Any]], names: Iterable[str], json: bool = False) -> None:
    """Print a table of tasks, or one JSON object per task; ``seen`` are the tasks of a predictor's card."""
    from aiop.tasks import get_task, list_tasks

    registered = set(list_tasks())
    reports = [
        _report(name, get_task(name) if name in registered else None, seen.get(name)) for name in names
    ]
    if not json:
        _show(reports)
        return
    for report in reports:
        print_json(report)


def _report(name: str, task: Task | None, seen: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the registry says of a task, and what the predictor's card says of its training.

    A predictor trained on a user's own table predicts tasks that the registry does not know: of them the card says all
    there is to say.
    """
    of_card = seen or {}
    domain, space, *_ = [*name.split("/"), ""]
    return {
        "task": name,
        "domain": domain,
        "space": space,
        "form": task.form if task else "",
        "metric": task.metric if task else "",
        "dataset": task.dataset if task else "",
        "unit": task.unit if task else of_card.get("unit", ""),
        "direction": task.direction if task else of_card.get("direction", "max"),
        "transform": task.transform if task else "",
        "rows": task.rows if task else 0,
        "noise": task.noise if task else None,
        "source": task.source if task else "",
        "licence": task.licence if task else "",
        "labels": of_card.get("labels"),
        "held_out": of_card.get("held_out"),
    }


def _show(reports: list[dict[str, Any]]) -> None:
    """Print full names in a pipe, where every line must say all; else a heading per domain and space."""
    rows = table("Task", "Unit", "Better", "Networks", "Noise", "SRCC")
    flat = piped()
    for (domain, space), group in groupby(reports, lambda report: (report["domain"], report["space"])):
        prefix = f"{domain}/{space}/"
        if not flat:
            rows.add_row(Name(prefix))
        for report in group:
            name = report["task"] if flat else INDENT + report["task"].removeprefix(prefix)
            rows.add_row(Name(name), *_cells(report))
    console().print(rows)


def _cells(report: dict[str, Any]) -> tuple[str, ...]:
    correlation = (report["held_out"] or {}).get("srcc")
    return (
        report["unit"],
        "higher" if report["direction"] == "max" else "lower",
        f"{report['rows'] or report['labels'] or 0:,}",
        "" if report["noise"] is None else number(report["noise"]),
        "" if correlation is None else f"{correlation:.3f}",
    )
