"""``aiop compress``: cheaper variants of a network, found under guidance of the predictor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from aiop.cli.networks import Json, Resumed, Shapes, Weights, parse_shapes
from aiop.cli.output import console, human, number, print_json, print_notes, table
from aiop.errors import AiopError

if TYPE_CHECKING:
    from aiop.search.compression import Compression

__all__ = ["compress"]


def compress(
    net: Annotated[
        str,
        typer.Argument(
            metavar="NET", help="An ONNX file with its weights, or space:code.", show_default=False
        ),
    ],
    output: Resumed,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="TASK",
            help="What to keep: a task of `aiop tasks`, or words of its name, as imagenet/top1.",
            show_default=False,
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="MY.head", help="Keep the task of this head, from `aiop finetune`.", show_default=False
        ),
    ] = None,
    macs: Annotated[
        str, typer.Option(metavar="SHARE", help="MACs that are left: at most 0.7, or from to as 0.6,0.7.")
    ] = "0.7",
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="DROP",
            help="Only candidates predicted to lose at most so much, in the task's unit.",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, metavar="N", help="Candidates to try, earlier runs counted.")
    ] = 500,
    keep: Annotated[int, typer.Option(min=1, max=99, metavar="N", help="Candidates to write.")] = 10,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGES.npz",
            help="Inputs, preprocessed: how similar outputs on them stay joins the score.",
            show_default=False,
        ),
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option(
            metavar="TASK",
            help="Make this cost, as latency/ofa-mbv3/2080ti-batch1, one more objective.",
            show_default=False,
        ),
    ] = None,
    mutations: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Use these mutations only.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
    shape: Shapes = [],  # noqa: B006  (typer wants the default itself)
    weights: Weights = None,
    json: Json = False,
) -> None:
    """Cut the MACs of a network: its best variants as ONNX files, a report, and all about them as JSON."""
    if (task is None) == (head is None):
        raise AiopError("give one of --task and --head: what the network is to keep")
    if max_drop is not None and not math.isfinite(max_drop):
        raise AiopError(f"--max-drop {max_drop:g} is no limit: give a number in the task's unit")
    window = _window(macs)
    shapes = parse_shapes(shape)
    import aiop
    from aiop.search.compression import Compression
    from aiop.search.compression.report import FILE, NEEDS, can_report, write_page
    from aiop.search.compression.result import check_drop, write_result

    source = aiop.load(weights) if head is None else aiop.load_head(head, weights)
    names = None if mutations is None else [name.strip() for name in mutations.split(",") if name.strip()]
    with Compression(
        net, source, task=task, macs=window, seed=seed, storage=output, mutations=names, calibration=calibration,
        latency=latency, shapes=shapes,
    ) as search:  # fmt: skip
        with _Bars(enabled=not json) as bars:
            search.run(trials, bars.show)
            search.compare(search.best(keep, max_drop=max_drop), bars.show)
            check_drop(search, max_drop)
            document = write_result(search, output, count=keep, max_drop=max_drop, progress=bars.show)
        notes = _notes(search, document)
        if can_report():
            write_page(search, document, output / FILE)
        else:
            notes.append(NEEDS)
    if json:
        print_json(document | {"notes": notes, "out": str(output)})
    else:
        print_notes(notes)
        _show(document, output)


def _window(text: str) -> float | tuple[float, float]:
    try:
        ends = [float(part) for part in text.split(",")]
    except ValueError:
        ends = []
    if len(ends) == 1:
        return ends[0]
    if len(ends) == 2:
        return ends[0], ends[1]
    raise AiopError(f'--macs "{text}" is no share: write it like 0.7, or from to as 0.6,0.7')


class _Bars:
    """A bar for every stage, on stderr."""

    def __init__(self, enabled: bool) -> None:
        self._tasks: dict[str, TaskID] = {}
        screen = Console(stderr=True, markup=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=screen,
            disable=not (enabled and screen.is_terminal),
            transient=True,
        )

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, stage: str, done: int, total: int) -> None:
        """Move the bar of a stage."""
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)


def _notes(search: Compression, document: Mapping[str, Any]) -> list[str]:
    notes = []
    if not search.original.in_distribution:
        notes.append(
            f"{document['network']} is out of distribution for {search.judge.task}: all predictions are extrapolations"
        )
    outside = sum(not entry["in_distribution"] for entry in document["candidates"])
    if outside and search.original.in_distribution:
        notes.append(
            f"{outside} of the {len(document['candidates'])} candidates are out of distribution: too few are in"
        )
    if search.exhausted:
        notes.append(f"there are only {document['trials']} different candidates in the window")
    if len(document["candidates"]) == 0:
        notes.append("no candidate was found in the window: widen it")
    if search.weights["outputs"] and not any(any(place.losses) for place in search.space.places):
        notes.append(
            f"the outputs of {search.network.name} are the same for any input, so nothing tells which weights it "
            "needs: give it trained ones"
        )
    return notes


def _show(document: Mapping[str, Any], folder: Path) -> None:
    out, original = console(), document["original"]
    predicted = original["predicted"]
    out.print(document["network"], style="bold", soft_wrap=True)
    out.print(
        f"{human(original['macs'])} MACs, {human(original['params'])} parameters; {predicted['task']}: "
        f"{number(predicted['value'])} {predicted['unit']} predicted",
        soft_wrap=True,
    )
    out.print()
    rows = table("File", "MACs", "Left", "Predicted", "80% interval", "Drop", "Similar", "In/out")
    for entry in document["candidates"]:
        own = entry["predicted"]
        rows.add_row(
            entry["file"],
            human(entry["macs"]),
            f"{entry['macs_share']:.1%}",
            f"{number(own['value'])} {own['unit']}",
            " .. ".join("?" if own[end] is None else number(own[end]) for end in ("low", "high")),
            number(entry["drop"]),
            "" if entry["similarity"] is None else f"{entry['similarity']:.3f}",
            "in" if entry["in_distribution"] else "OUT",
            style=None if entry["in_distribution"] else "yellow",
        )
    out.print(rows)
    out.print()
    out.print(
        f"{document['trials']:,} trials; files, pareto.json and report.html are in {folder}", soft_wrap=True
    )
