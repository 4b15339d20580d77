"""``aiop search``: the best architecture of a search space for a task, within a budget of MACs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aiop.cli.networks import Json, Weights
from aiop.cli.output import console, human, number, print_json, table
from aiop.errors import AiopError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["parse_budget", "search"]

_PREFIXES = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def search(
    method: Annotated[
        str,
        typer.Argument(
            metavar="METHOD", help="guided, ncp, evolution, ... (a typo lists them).", show_default=False
        ),
    ],
    space: Annotated[
        str, typer.Option(metavar="SPACE", help="A search space of `aiop spaces`.", show_default=False)
    ],
    task: Annotated[
        str,
        typer.Option(
            metavar="TASK", help="A task of the space, or a glob of `aiop tasks`.", show_default=False
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder to write; the same command goes on with what is there.",
        ),
    ],
    macs: Annotated[
        str | None,
        typer.Option(
            metavar="MACS", help="At most so many MACs, as 2.0G, or from to as 1.5G,2.0G.", show_default=False
        ),
    ] = None,
    evaluations: Annotated[
        int, typer.Option(min=1, metavar="N", help="Architectures to measure, earlier runs counted.")
    ] = 100,
    evaluator: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Measures a network: run with its path in the place of {onnx}, prints a number last; the "
            "predictor's value by default.",
            show_default=False,
        ),
    ] = None,
    unguided: Annotated[
        bool, typer.Option("--unguided", help="Search without the predictor's guidance; needs --evaluator.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
    weights: Weights = None,
    json: Json = False,
) -> None:
    """Search a space for the best architecture: ONNX file, log and result as JSON."""
    budget = None if macs is None else parse_budget(macs)
    if unguided and evaluator is None:
        raise AiopError(
            "--unguided leaves the predictor out, and nothing else says what is good: give --evaluator"
        )
    from aiop.search.methods.base import Problem, get_searcher
    from aiop.search.methods.running import by_command, by_predictor, run_search

    kind = get_searcher(method)
    problem = Problem.of(space, task, budget)
    if len(problem.tasks) > 1 and not kind.several_tasks:
        raise AiopError(
            f'--task "{task}" matches several tasks: {method} follows one, name {", ".join(problem.tasks)}'
        )
    import aiop

    predictor = None if unguided else aiop.load(weights)
    if evaluator is not None:
        evaluate, values = by_command(problem, evaluator), evaluator
    else:
        evaluate, values = by_predictor(problem, aiop.load(weights)), "predicted"
    searcher = kind.made(problem, predictor, seed=seed)
    with _bar(enabled=not json) as show:
        document = run_search(
            searcher, evaluate, output, evaluations=evaluations, values=values, progress=show
        )
    if json:
        print_json(document | {"out": str(output)})
    else:
        _show(document, output)


def parse_budget(text: str) -> tuple[float, float]:
    """Return fewest and most MACs from ``2.0G`` or ``1.5G,2.0G``.

    >>> parse_budget("2.0G"), parse_budget("600M,1.2G")
    ((0.0, 2000000000.0), (600000000.0, 1200000000.0))
    """
    ends = [_count(part.strip()) for part in text.split(",")]
    if not 1 <= len(ends) <= 2 or any(math.isnan(end) or end < 0 for end in ends) or ends != sorted(ends):
        raise AiopError(f'--macs "{text}" is no budget: write it like 2.0G, or from to as 1.5G,2.0G')
    return (0.0, ends[0]) if len(ends) == 1 else (ends[0], ends[1])


def _count(text: str) -> float:
    factor = _PREFIXES.get(text[-1:], 1.0)
    try:
        return factor * float(text.rstrip("kMGT"))
    except ValueError:
        return math.nan


@contextmanager
def _bar(*, enabled: bool) -> Iterator[Callable[[int, int], None]]:
    """Give what moves a bar on stderr."""
    columns = (TextColumn("search"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = Console(stderr=True)
    with Progress(
        *columns, console=screen, disable=not (enabled and screen.is_terminal), transient=True
    ) as bar:
        work = bar.add_task("search", total=None)
        yield lambda done, total: bar.update(work, completed=done, total=total)


def _show(document: Mapping[str, Any], folder: Path) -> None:
    out, best = console(), document["best"]
    kind = "predicted" if document["values"] == "predicted" else "measured"
    out.print(best["network"], style="bold", soft_wrap=True)
    out.print(
        f"{human(best['macs'])} MACs; {document['tasks'][0]}: {number(best['value'])} {document['unit']} {kind}; "
        f"the best of {document['evaluations']}, in {folder / document['file']}",
        soft_wrap=True,
    )
    out.print()
    rows = table("Next best", "MACs", kind.capitalize())
    for entry in document["next"]:
        rows.add_row(entry["code"], human(entry["macs"]), f"{number(entry['value'])} {document['unit']}")
    out.print(rows)
