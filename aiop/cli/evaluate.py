"""``aiop evaluate``: how good a head is on labels, beside what MACs alone say; as a page where one is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiop.cli.finetune import ROWS, Labels, Metric, rows_table
from aiop.cli.networks import Json, Weights
from aiop.cli.output import console, number, print_json, print_notes, table

if TYPE_CHECKING:
    from aiop.predictor.few_shot import Evaluation

__all__ = ["evaluate"]


def evaluate(
    head: Annotated[
        str, typer.Argument(metavar="MY.head", help="What `aiop finetune` wrote.", show_default=False)
    ],
    labels: Labels,
    metric: Metric = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.html",
            help="Write figures as one page that needs no network: errors, intervals, learning curves.",
            show_default=False,
        ),
    ] = None,
    weights: Weights = None,
    json: Json = False,
) -> None:
    """Compare a head with labels: SRCC, tau, MAE, top-k regret, coverage of the intervals."""
    import aiop

    if report is not None:
        from aiop.predictor.report import check_report

        check_report(report)
    fitted = aiop.load_head(head, weights)
    if report is None:
        evaluation = fitted.evaluate(labels, metric, progress=not json)
    else:
        from aiop.predictor.report import write_report

        evaluation = write_report(fitted, labels, metric, report, progress=not json)
    print_notes(evaluation.notes)
    if json:
        print_json(
            {"head": head, "labels": labels} | evaluation.to_dict() | {"report": report and str(report)}
        )
    else:
        _show(evaluation)
        if report is not None:
            print(f"{report} is written")


def _regrets(evaluation: Evaluation) -> Any:
    """How much worse than the best of all the best of those is that are predicted best."""
    unit = evaluation.task.unit
    rows = table("Regret", *(f"top {top}{f' ({unit})' if unit else ''}" for top in (5, 10)))
    for name, row in evaluation.scores.items():
        cells = (row[key] for key in ("regret5", "regret10"))
        rows.add_row(ROWS.get(name, name), *("-" if cell is None else number(cell) for cell in cells))
    return rows


def _show(evaluation: Evaluation) -> None:
    out, count = console(), len(evaluation.networks)
    out.print(evaluation.task.name, style="bold", soft_wrap=True)
    unlike = count - int(evaluation.inside.sum())
    out.print(f"{count:,} labelled networks, {unlike:,} of them unlike those that are known", soft_wrap=True)
    out.print()
    out.print(rows_table("Predicted by", evaluation.scores, evaluation.task.unit))
    out.print()
    if any(row["regret5"] is not None for row in evaluation.scores.values()):
        out.print(_regrets(evaluation))
        out.print()
    share = evaluation.scores["head"]["coverage"]
    new = count - int(evaluation.seen.sum())
    out.print(
        "80% intervals: not judged, no network is new to the head"
        if share is None
        else f"80% intervals hold {share:.0%} of {new:,} new networks",
        soft_wrap=True,
    )
