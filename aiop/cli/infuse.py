"""``aiop infuse``: new tasks for a finished predictor, from many cheap labels."""

from __future__ import annotations

import warnings
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiop.cli.networks import Json
from aiop.cli.output import Name, console, number, print_json, print_notes, table

if TYPE_CHECKING:
    from aiop.predictor import Predictor

__all__ = ["infuse"]


def infuse(
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS",
            help="A table of your own (.csv, .parquet) with a column `network` and columns of cheap labels, or the "
            "table of `aiop latent build`, of which the bodies for pseudo-labels are taken.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write.")],
    predictor: Annotated[
        str | None,
        typer.Option(
            "--predictor",
            "--weights",
            metavar="FOLDER",
            help="The predictor to add to, by default the one of the package.",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        list[str],
        typer.Option(
            metavar="COLUMN", help="A column of labels; repeat it for several. All columns by default."
        ),
    ] = [],  # noqa: B006  (typer wants the default itself)
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="A table of a few true labels, which put predictions right; of the table of `aiop latent build` "
            "the bodies of truth are taken.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Steps of training.", show_default="150")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Begin anew, or go on from the last checkpoint.")
    ] = False,
    json: Json = False,
) -> None:
    """Teach a predictor new tasks from many cheap labels; all that it knew stays as it is."""
    from aiop.predictor.build_table import is_build
    from aiop.predictor.infusion import InfusionSettings
    from aiop.predictor.infusion import infuse as run
    from aiop.predictor.truth_scale import TruthWarning

    settings = InfusionSettings(seed=seed) if steps is None else InfusionSettings(seed=seed, steps=steps)
    started = monotonic()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        found = run(
            labels, metric, out=output, predictor=predictor, truth=truth, settings=settings, fresh=fresh,
            progress=not json,
        )  # fmt: skip
    notes = []
    for item in told:
        if issubclass(item.category, TruthWarning):
            notes.append(str(item.message))
        else:
            warnings.warn_explicit(item.message, item.category, item.filename, item.lineno)
    if is_build(labels):
        notes.append(
            f"{labels} is the table of a build: its bodies of truth are left out, only pseudo-labels are infused"
        )
    seconds = round(monotonic() - started, 1)
    report = _report(found, output) | {"seconds": seconds, "notes": notes}
    if json:
        print_json(report)
    else:
        _show(report)


def _report(predictor: Predictor, output: Path) -> dict[str, Any]:
    record = predictor.card["infusions"][-1]
    tasks = {}
    for name in record["tasks"]:
        card = predictor.task_card(name)
        tasks[name] = {"unit": card.unit, "direction": card.direction, "held_out": card.scores} | (
            {"truth": {key: card.extra["truth"][key] for key in ("labels", "method", "infused")}}
            if "truth" in card.extra
            else {}
        )
    return {"predictor": str(output), "infused": record | {"tasks": tasks}}


def _show(report: dict[str, Any]) -> None:
    out, record = console(), report["infused"]
    out.print(f"{record['networks']:,} networks, {report['seconds']:.0f} s", soft_wrap=True)
    out.print()
    rows = table("Held-out labels", "SRCC", "tau", "MAE", "True labels")
    for name, task in record["tasks"].items():
        scores = task["held_out"]
        cells = [f"{scores[key]:.2f}" if key in scores else "-" for key in ("srcc", "tau")]
        error = f"{number(scores['mae'])} {task['unit']}" if "mae" in scores else "-"
        rows.add_row(Name(name), *cells, error, str(task.get("truth", {}).get("labels", "-")))
    out.print(rows)
    print_notes(report["notes"])
    out.print()
    out.print(
        f"{report['predictor']} is written: aiop predict NET... --weights {report['predictor']}",
        soft_wrap=True,
    )
