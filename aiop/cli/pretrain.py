"""``aiop pretrain``: train a predictor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aiop.cli.networks import Json
from aiop.cli.output import console, number, print_json, table
from aiop.cli.tasks import show_tasks
from aiop.errors import AiopError

__all__ = ["pretrain"]


def pretrain(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="Tables, network and schedule.")],
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Begin anew, or go on from the last checkpoint.")
    ] = False,
    search: Annotated[
        int | None,
        typer.Option("--search", metavar="N", help="Try N settings in short runs; see `search` of the file."),
    ] = None,
    adapters_only: Annotated[
        bool,
        typer.Option("--adapters-only", help="Train only `adapters` of the file, on the finished predictor."),
    ] = False,
    json: Json = False,
) -> None:
    """Train a predictor on benchmark tables; an interrupted run goes on where it stopped."""
    from aiop.predictor import pretrain_from_config, search_from_config

    if search is not None and adapters_only:
        raise AiopError("--search and --adapters-only exclude each other: give one of them")
    if search is not None:
        found = search_from_config(config, search, fresh=fresh, progress=not json)
        if json:
            print_json(found)
        else:
            _show_search(found)
        return
    card = pretrain_from_config(config, fresh=fresh, progress=not json, adapters_only=adapters_only)
    if json:
        print_json(card)
    else:
        show_tasks(card["tasks"], sorted(card["tasks"]))


def _show_search(found: dict[str, Any]) -> None:
    names = list(found["settings"])
    rows = sorted(found["trials"], key=lambda trial: trial["value"], reverse=True)
    shown = table("SRCC", *names, left=0)
    for row in rows:
        shown.add_row(number(row["value"]), *(number(row["settings"][name]) for name in names))
    console().print(shown)
    print(f"the best settings are in {found['config']}: aiop pretrain {found['config']}")
