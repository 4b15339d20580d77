"""``aiop latent``: labels of vision tasks for many bodies, from one supernet and shared heads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from aiop.cli.networks import Json
from aiop.cli.output import console, number, print_json, print_notes, table

__all__ = ["latent"]

latent = typer.Typer(help="Build labels of vision tasks for many bodies from one supernet and shared heads.")


@latent.callback(invoke_without_command=True)
def _latent(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@latent.command()
def build(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.yaml", help="Data, bodies and schedules; see docs/latent.md.")
    ],
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, max=256, help="Processes side by side, of one thread each.")
    ] = 1,
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Begin anew, or go on where the last run stopped.")
    ] = False,
    json: Json = False,
) -> None:
    """Train supernet, shared heads, pseudo-labels and truth; an interrupted run goes on where it stopped."""
    from aiop.tasks.latent.build import build as run
    from aiop.tasks.latent.config import LatentConfig

    settings = LatentConfig.load(config)
    watch = _Bars(enabled=not json)
    try:
        with watch:
            card = run(settings, jobs=jobs, fresh=fresh, watch=watch)
    finally:
        if not json:
            print_notes(watch.notes)
    if json:
        print_json({**card, "notes": watch.notes, "out": settings.out})
    else:
        _show(card, settings.folder)


class _Bars:
    """A bar for every stage of a build, on stderr."""

    def __init__(self, enabled: bool) -> None:
        self.notes: list[str] = []
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True, markup=False),
            disable=not enabled,
        )

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, stage: str, total: int, done: int = 0) -> None:
        """Show a bar."""
        if stage in self._tasks:
            self._progress.remove_task(self._tasks.pop(stage))
        self._tasks[stage] = self._progress.add_task(stage, total=total, completed=done, note="")

    def advance(self, stage: str, done: int, note: str = "") -> None:
        """Move a bar."""
        self._progress.update(self._tasks[stage], completed=done, note=note)

    def note(self, text: str) -> None:
        """Keep a note for the end."""
        self.notes.append(text)


def _show(card: dict[str, Any], folder: Path) -> None:
    columns = [
        name for name in ("latent", "swapping", "macs") if any(name in e for e in card["agreement"].values())
    ]
    shown = table("task", *(f"SRCC {name}" for name in columns), "noise %", "bodies")
    for task, entry in card["agreement"].items():
        cells = [entry.get(name) for name in (*columns, "noise")]
        shown.add_row(task, *("-" if cell is None else number(cell) for cell in cells), str(entry["n"]))
    console().print(shown)
    seconds = card["seconds"]
    for kind, share in seconds["share_of_truth"].items():
        print(f"a pseudo-label ({kind}) costs {100 * share:.1f} % of a true label")
    if card["failures"]:
        print(f"{len(card['failures'])} labels could not be made: run the command again to try them again")
    print(
        f"{card['rows']} rows in {folder / 'labels.parquet'}; {seconds['total'] / 3600:.2f} hours of processor time"
    )
