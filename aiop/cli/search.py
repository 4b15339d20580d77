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

from aiop.cli.networks import Json, Resumed, Weights
from aiop.cli.output import console, human, number, print_json, table
from aiop.cli.search_training import TRAINED, search_by_training, show_best
from aiop.errors import AiopError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiop.search.methods.base import Searcher

__all__ = ["parse_budget", "search"]

_EVALUATIONS = 100
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
    output: Resumed,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK",
            help="A task of the space, or a glob such as seg/*; several for a method that follows all (ncp).",
            show_default=False,
        ),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK=W",
            help="How much a task counts among several, 1 by default; may be given again.",
            show_default=False,
        ),
    ] = None,
    macs: Annotated[
        str | None,
        typer.Option(
            metavar="MACS", help="At most so many MACs, as 2.0G, or from to as 1.5G,2.0G.", show_default=False
        ),
    ] = None,
    evaluations: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Architectures to measure, earlier runs counted; 100 by default, none for ncp, which asks the "
            "predictor alone.",
            show_default=False,
        ),
    ] = None,
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
    train: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGES",
            help="Method relative on the space darts: compare cells by training them on digits or scans, without a "
            "task; digits:paper for the published sizes.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
    weights: Weights = None,
    json: Json = False,
) -> None:
    """Search a space for the best architecture: ONNX file, log and result as JSON."""
    budget = None if macs is None else parse_budget(macs)
    if train is not None:
        useless = {
            "--task": bool(task),
            "--weight": bool(weight),
            "--evaluator": evaluator is not None,
            "--unguided": unguided,
            "--weights": weights is not None,
        }
        search_by_training(
            method, space, train, output, budget=budget, evaluations=evaluations, seed=seed, useless=useless,
            json=json, bar=lambda: _bar(enabled=not json),
        )  # fmt: skip
        return
    if unguided and evaluator is None:
        raise AiopError(
            "--unguided leaves the predictor out, and nothing else says what is good: give --evaluator"
        )
    from aiop.search.methods.base import Problem, get_searcher
    from aiop.search.methods.running import by_command, by_predictor, run_search
    from aiop.search.methods.wanted import parse_weights, wanted_tasks
    from aiop.tasks import list_tasks

    kind = get_searcher(method)
    if (method, space) == TRAINED and not list_tasks(f"*/{space}/*"):
        raise AiopError(
            f"no task is measured on {space}: let cells be compared by training, with --train digits"
        )
    names = wanted_tasks(space, task or [])
    if len(names) > 1 and not kind.several_tasks:
        raise AiopError(
            f"--task {' --task '.join(task or [])} matches several tasks: {method} follows one, name one of "
            f"{', '.join(names)}"
        )
    problem = Problem.of(space, names, budget, weights=parse_weights(weight or [], space, names))
    import aiop

    predictor = None if unguided else aiop.load(weights)
    if predictor is not None and kind.several_tasks and evaluator is None and evaluations is None:
        from aiop.search.methods.code_search import search_codes

        with _bar(enabled=not json, title="judging samples") as show:
            document = search_codes(problem, predictor, output, seed=seed, progress=show)
        if json:
            print_json(document | {"out": str(output)})
        else:
            _show_codes(document, output)
        return
    if evaluator is not None:
        evaluate, values = by_command(problem, evaluator), evaluator
    else:
        assert predictor is not None  # without guidance there is an evaluator
        evaluate, values = by_predictor(problem, predictor), "predicted"
    if predictor is not None and len(problem.tasks) > 1:
        from aiop.search.methods.code_search import following

        with _bar(enabled=not json, title="judging samples") as show:
            searcher: Searcher = following(problem, predictor, seed=seed, progress=show)
    else:
        searcher = kind.made(problem, predictor, seed=seed)
    with _bar(enabled=not json) as show:
        document = run_search(
            searcher, evaluate, output, evaluations=evaluations or _EVALUATIONS, values=values, progress=show
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
def _bar(*, enabled: bool, title: str = "search") -> Iterator[Callable[[int, int], None]]:
    """Give what moves a bar on stderr."""
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = Console(stderr=True)
    with Progress(
        *columns, console=screen, disable=not (enabled and screen.is_terminal), transient=True
    ) as bar:
        work = bar.add_task("search", total=None)
        yield lambda done, total: bar.update(work, completed=done, total=total)


def _show(document: Mapping[str, Any], folder: Path) -> None:
    best, kind = document["best"], "predicted" if document["values"] == "predicted" else "measured"
    show_best(
        document,
        f"{document['tasks'][0]}: {number(best['value'])} {document['unit']} {kind}; the best of "
        f"{document['evaluations']}, in {folder / document['file']}",
        kind.capitalize(),
    )


def _show_codes(document: Mapping[str, Any], folder: Path) -> None:
    """Print what NCP found: the best, then start, best and the next as a table with a column per task."""
    out, best, seconds = console(), document["best"], document["seconds"]
    out.print(best["network"], style="bold", soft_wrap=True)
    out.print(
        f"{human(best['macs'])} MACs, {human(best['params'])} parameters; the best of {document['visited']:,} codes "
        f"that gradients came by in {seconds['search']:.1f} s, in {folder / document['file']}",
        soft_wrap=True,
    )
    out.print()
    tasks = document["tasks"]
    rows = table("Code", "MACs", "Parameters", *(task.split("/", 1)[1].partition("/")[2] for task in tasks))
    for name, entry in (
        ("start", document["start"]),
        ("best", best),
        *((entry["code"], entry) for entry in document["next"]),
    ):
        said = [entry["predicted"][task] for task in tasks]
        values = [
            f"{number(one['value'])} {one['unit']}{'' if one['in_distribution'] else ' ?'}" for one in said
        ]
        rows.add_row(name, human(entry["macs"]), human(entry["params"]), *values)
    out.print(rows)
    if any(not one["in_distribution"] for one in best["predicted"].values()):
        out.print("? unlike the networks that the predictor was trained on", style="dim")
