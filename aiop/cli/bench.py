"""``aiop bench``: the protocols that judge a predictor beside its baselines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from aiop.cli.networks import Json
from aiop.cli.output import print_json
from aiop.errors import AiopError

__all__ = ["bench"]


def bench(
    protocol: Annotated[
        str,
        typer.Argument(help="unseen-networks, unseen-task, unseen-space, unseen-family, compress or search."),
    ],
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="GLOB",
            help="Judge these tasks only; several joined by commas, '*' for all; by default those that stand for all.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Draws of labels; 8, of compress 3 by default; of search seeds, 20.", show_default=False
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="GLOB",
            help="Compare these methods only; several joined by commas, '*' for all.",
            show_default=False,
        ),
    ] = None,
    predictor: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Judge this predictor on what its card does not hold, not the one of the package.",
            show_default=False,
        ),
    ] = None,
    predictors: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Judge one predictor per fold, as trained.", show_default=False),
    ] = None,
    aio_p: Annotated[
        Path | None,
        typer.Option(
            "--aio-p",
            metavar="PATH",
            help="A trained AIO-P to compare with: a file, or a folder with FOLD.safetensors.",
            show_default=False,
        ),
    ] = None,
    baselines_only: Annotated[
        bool,
        typer.Option(
            "--baselines-only",
            help="Compute what needs no predictor, for all folds of the plan, trained or not; writes no tables.",
        ),
    ] = False,
    budgets: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="Numbers of labels; 0,10,20,50,100 and what published results ask for by default.",
            show_default=False,
        ),
    ] = None,
    starts: Annotated[
        int | None,
        typer.Option(help="Of compress: architectures to start from; 200 by default.", show_default=False),
    ] = None,
    evaluations: Annotated[
        int | None,
        typer.Option(
            help="Of search: architectures a search may ask for; 300 by default.", show_default=False
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 1,
    protocols: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of plan and split files.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where the tables are written; docs/results by default.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Judge a predictor by a protocol, beside the baselines; what was computed before is not computed again.

    compress walks from architectures of benchmark tables to cheaper ones, guided by a head on 50 labels. search lets
    every search method look for the best architecture of such tables.
    """
    shared: dict[str, Any] = {
        "predictor": predictor,
        "predictors": predictors,
        "tasks": tasks,
        "methods": methods,
        "jobs": jobs,
        "protocols": protocols,
        "out": out or _documents(),
        "progress": not json,
    }
    if evaluations is not None and protocol != "search":
        raise AiopError(f"--evaluations is an option of search: {protocol} has none")
    if protocol == "search":
        if baselines_only or budgets is not None or starts is not None or aio_p is not None:
            raise AiopError(
                "search has no --baselines-only, --budgets, --starts and --aio-p: choose what searches with --methods"
            )
        from aiop.search.comparison.run import run_searches

        found = run_searches(
            **shared,
            **_given(seeds=seeds, evaluations=evaluations),
        )
        _show(found.entries, found.text, [found.written] if found.written else [], json=json)
        return
    if protocol == "compress":
        if baselines_only or budgets is not None:
            raise AiopError(
                "compress has neither --baselines-only nor --budgets: choose what guides with --methods"
            )
        from aiop.search.walks.run import run_walks

        walked = run_walks(
            **shared,
            aio_p=aio_p,
            **_given(draws=seeds, starts=starts),
        )
        _show(walked.entries, walked.text, [walked.written] if walked.written else [], json=json)
        return
    if starts is not None:
        raise AiopError(f"--starts is an option of compress: {protocol} has none")
    from aiop.protocols.bench import run_protocol
    from aiop.protocols.splits import DRAWS

    outcome = run_protocol(
        protocol,
        **shared,
        aio_p=aio_p,
        baselines_only=baselines_only,
        seeds=DRAWS if seeds is None else seeds,
        budgets=_numbers(budgets),
    )
    _show(outcome.entries, outcome.text, outcome.written, json=json)


def _given(**options: int | None) -> dict[str, Any]:
    """Options that the user gave; all others keep their defaults."""
    return {name: value for name, value in options.items() if value is not None}


class _Entry(Protocol):
    def to_dict(self) -> dict[str, Any]: ...


def _show(entries: Sequence[_Entry], text: str, written: Sequence[Path], *, json: bool) -> None:
    if json:
        for entry in entries:
            print_json(entry.to_dict())
        return
    print(text)
    for path in written:
        print(f"written to {path}")


def _documents() -> Path:
    """Return docs/results of the checkout that the package is in, else of the working folder."""
    root = Path(__file__).parents[2]
    return (root if (root / "docs").is_dir() else Path.cwd()) / "docs" / "results"


def _numbers(budgets: str | None) -> list[int] | None:
    if budgets is None:
        return None
    parts = [part.strip() for part in budgets.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise AiopError(f'--budgets "{budgets}" is not a list of numbers joined by commas, such as 0,10,20')
    return [int(part) for part in parts]
