"""``aiop pretrain``: train a predictor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aiop.cli.networks import Json
from aiop.cli.output import print_json
from aiop.cli.tasks import show_tasks

__all__ = ["pretrain"]


def pretrain(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="Tables, network and schedule.")],
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Begin anew, or go on from the last checkpoint.")
    ] = False,
    json: Json = False,
) -> None:
    """Train a predictor on benchmark tables; an interrupted run goes on where it stopped."""
    from aiop.predictor import pretrain_from_config

    card = pretrain_from_config(config, fresh=fresh, progress=not json)
    if json:
        print_json(card)
    else:
        show_tasks(card["tasks"], sorted(card["tasks"]))
