"""``aiop corpus``: tables as corpora of encoded graphs, built once and opened at once from then on."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiop.cli.networks import Json, Reader
from aiop.cli.output import Name, console, print_json, table

if TYPE_CHECKING:
    from aiop.graph_ir.corpus import Corpus

__all__ = ["corpus"]

SHOWN = 3
"""Rows left out of a table, and networks that cannot be read, shown with their reasons; `--json` gives all of them."""

corpus = typer.Typer(help="Build corpora of encoded graphs from tables, and see which are up to date.")


@corpus.callback(invoke_without_command=True)
def _corpus(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@corpus.command()
def build(
    tables: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TABLE",
            help="Benchmark tables, and tables of your own (.csv, .parquet); all benchmark tables by default.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that encode; by default one per processor.", show_default=False),
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Build also what is up to date.")] = False,
    json: Json = False,
) -> None:
    """Encode the networks of tables; an interrupted run goes on where it stopped."""
    from aiop.tasks.corpora import build_corpus
    from aiop.tasks.tables import data_dir, list_tables, load_table

    if not tables:
        data_dir()  # where there are no tables at all, that is said once
    reader = Reader()
    for name in tables or list_tables():
        with reader.keep_going():
            start = time.perf_counter()
            loaded = load_table(name)
            built = build_corpus(loaded, workers=workers, progress=not json, anew=anew)
            report = _report(name, built, time.perf_counter() - start) | {"notes": loaded.notes}
            if json:
                print_json(report)
            else:
                _show(report)
    reader.finish()


@corpus.command("list")
def list_corpora(json: Json = False) -> None:
    """List tables and their corpora: graphs, size, and whether they fit the tables and code of today."""
    from aiop.tasks.corpora import corpus_path, corpus_state, own_sources
    from aiop.tasks.tables import list_tables

    rows = table("Table", "Graphs", "MB", "State")
    reader = Reader()
    for name in [*list_tables(embedded=True), *own_sources()]:
        with reader.keep_going():
            state = corpus_state(name)
            path = corpus_path(name)
            graphs = None if state.corpus is None else len(state.corpus)
            size = path.stat().st_size if state.kind != "missing" else None
            if json:
                report = {"table": name, "state": state.kind, "why": state.why or None, "graphs": graphs}
                print_json(report | {"bytes": size, "path": str(path)})
            else:
                rows.add_row(
                    Name(name),
                    "" if graphs is None else f"{graphs:,}",
                    "" if size is None else f"{size / 1e6:.1f}",
                    f"{state.kind}: {state.why}" if state.why else state.kind,
                )
    if not json:
        console().print(rows)
    reader.finish()


def _report(name: str, built: Corpus, seconds: float) -> dict[str, Any]:
    return {
        "table": name,
        "graphs": len(built),
        "refused": built.metadata["refused"],
        "seconds": round(seconds, 2),
        "bytes": built.path.stat().st_size,
        "path": str(built.path),
    }


def _show(report: dict[str, Any]) -> None:
    refused = [f"refused {network}: {reason}" for network, reason in report["refused"].items()]
    print(
        f"{report['table']}: {report['graphs']:,} graphs, {len(refused):,} refused, {report['seconds']:.1f} s, "
        f"{report['bytes'] / 1e6:.1f} MB, {report['path']}"
    )
    for lines in (report["notes"], refused):
        for line in lines[:SHOWN]:
            print(" ", line)
        if len(lines) > SHOWN:
            print(f"  ... and {len(lines) - SHOWN:,} more")
    sys.stdout.flush()
