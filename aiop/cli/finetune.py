"""``aiop finetune``: a head of one's own from a few labels, and how good it is without each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiop.cli.networks import Json, Weights
from aiop.cli.output import Name, console, number, print_json, print_notes, table

if TYPE_CHECKING:
    from aiop.predictor.few_shot import TaskHead

__all__ = ["ROWS", "Labels", "Metric", "finetune", "rows_table"]

Labels = Annotated[
    str,
    typer.Argument(
        metavar="LABELS",
        help="A table of your own (.csv, .parquet) with a column `network`, or the name of a benchmark table.",
        show_default=False,
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="The column of measurements, or a task of a benchmark table; needed where there are several.",
        show_default=False,
    ),
]

ROWS = {"head": "this head", "macs": "MACs only", "cost-rank": "cost rank"}
_SHOWN = 6


def finetune(
    labels: Labels,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MY.head", help="File to write.")],
    metric: Metric = None,
    budget: Annotated[
        int | None,
        typer.Option(metavar="N", help="Use N labels only, drawn by the seed.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw and of the fit.")] = 0,
    lower: Annotated[
        bool, typer.Option("--lower", help="Lower is better, where the column's header does not say it.")
    ] = False,
    tune: Annotated[
        str | None,
        typer.Option(
            metavar="MODE",
            help="Fine-tune the predictor's networks too: heads, all or adapter. Takes minutes; asks for 20 labels.",
            show_default=False,
        ),
    ] = None,
    weights: Weights = None,
    json: Json = False,
) -> None:
    """Fit a head to labels of your own; print its leave-one-out scores beside what MACs alone say."""
    import aiop

    _check_output(output)
    started = monotonic()
    head = aiop.fit_head(
        labels, metric, budget=budget, seed=seed, lower=lower, tune=tune, predictor=weights, progress=not json
    )
    seconds = monotonic() - started
    report = _report(head, output) | ({"seconds": round(seconds, 1)} if tune else {})
    print_notes(head.notes)
    head.save(output)
    if json:
        print_json(report)
    else:
        _show(report)


def _check_output(path: Path) -> None:
    """Say before the work what would only fail after it."""
    from aiop.errors import AiopError

    if path.is_dir():
        raise AiopError(f'cannot write "{path}": it is a directory; give the name of a file')
    if path.suffix.lower() in (".csv", ".parquet", ".onnx", ".safetensors"):
        raise AiopError(
            f'"{path}" would overwrite what looks like a table or a network: name it like my_task.head'
        )


def _report(head: TaskHead, output: Path) -> dict[str, Any]:
    record = head.record
    return {
        "head": str(output),
        "task": head.task.to_dict(),
        "labels": record.labels,
        "low": record.low,
        "high": record.high,
        "seed": record.seed,
        "leave_one_out": record.scores,
        "members": _by_weight(head.head.weights_),
        "sources": _by_weight(head.head.sources_),
        "notes": list(head.notes),
    } | ({"tuned": head.tuned.mode} if head.tuned is not None else {})


def _by_weight(weights: Mapping[str, float]) -> dict[str, float]:
    return {name: float(weight) for name, weight in sorted(weights.items(), key=lambda item: -abs(item[1]))}


def _show(report: dict[str, Any]) -> None:
    out, task = console(), report["task"]
    better = "higher" if task["direction"] == "max" else "lower"
    out.print(task["name"], style="bold", soft_wrap=True)
    out.print(
        f"{report['labels']:,} labels from {number(report['low'])} to {number(report['high'])} {task['unit']}, "
        f"{better} is better",
        soft_wrap=True,
    )
    out.print()
    out.print(rows_table("Leave one out", report["leave_one_out"], task["unit"]))
    out.print()
    for key, what in (("members", "Weight"), ("sources", "Effect")):
        weights = table(key.capitalize(), what)
        for name, weight in _largest(report[key]):
            weights.add_row(Name(name), f"{weight:.3f}")
        if weights.row_count:
            out.print(weights)
            out.print()
    if "tuned" in report:
        out.print(f"networks tuned ({report['tuned']}), {report['seconds']:.0f} s in all")
    out.print(f"{report['head']} is written: aiop predict NET... --head {report['head']}", soft_wrap=True)


def _largest(weights: Mapping[str, float]) -> Iterable[tuple[str, float]]:
    return [(name, weight) for name, weight in weights.items() if abs(weight) >= 0.005][:_SHOWN]


def rows_table(title: str, scores: Mapping[str, Mapping[str, Any]], unit: str) -> Any:
    """Return the table of scores: a row per way to predict, with 95% intervals where they are known."""
    rows = table(title, "SRCC", "tau", f"MAE ({unit})" if unit else "MAE")
    for row, values in scores.items():
        rows.add_row(ROWS.get(row, row), *(_cell(values, name) for name in ("srcc", "tau", "mae")))
    return rows


def _cell(values: Mapping[str, Any], name: str) -> str:
    value, ends = values[name], values["between"][name]
    if value is None:
        return "-"
    write = number if name == "mae" else "{:.2f}".format
    return write(value) + (f" ({write(ends[0])} .. {write(ends[1])})" if ends else "")
