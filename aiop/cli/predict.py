"""``aiop predict``: what networks will achieve, with an interval and the MACs-only estimate beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiop.cli.networks import Json, Networks, Reader, Shapes, Weights
from aiop.cli.output import Name, console, human, number, print_json, table

if TYPE_CHECKING:
    from aiop.graph_ir import ComputeGraph

__all__ = ["predict"]

CHUNK = 64
"""Networks predicted at once: results of many networks appear while later ones are still read."""


def predict(
    nets: Networks,
    task: Annotated[
        str, typer.Option(metavar="GLOB", help="Predict these tasks only; `aiop tasks` lists them.")
    ] = "*",
    shape: Shapes = [],  # noqa: B006  (typer wants the default itself)
    weights: Weights = None,
    json: Json = False,
) -> None:
    """Predict metrics of networks: value, 80% interval, MACs-only estimate, in or out of distribution."""
    import aiop

    reader = Reader(shape)
    predictor = None
    for chunk in _chunks(reader.read(nets, _has_inputs)):
        predictor = predictor or aiop.load(weights)  # not before a network is there to predict for
        predictions = predictor.predict([graph for _, graph in chunk], tasks=task)
        for (network, _), prediction in zip(chunk, predictions, strict=True):
            report = prediction.to_dict() | {"network": network}
            if json:
                print_json(report)
            else:
                _show(report)
    reader.finish()


def _has_inputs(graph: ComputeGraph) -> None:
    from aiop.predictor import check_predictable

    check_predictable(graph)


def _chunks(graphs: Iterable[tuple[str, ComputeGraph]]) -> Iterator[list[tuple[str, ComputeGraph]]]:
    iterator = iter(graphs)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def _show(report: dict[str, Any]) -> None:
    out = console()
    out.print(report["network"], style="bold", soft_wrap=True)
    out.print(f"{human(report['macs'])} MACs, {human(report['params'])} parameters")
    out.print()
    rows = table("Task", "Predicted", "80% interval", "MACs only", "In/out")
    for entry in report["predictions"]:
        rows.add_row(
            Name(entry["task"]),
            f"{number(entry['value'])} {entry['unit']}",
            f"{number(entry['low'])} .. {number(entry['high'])}",
            number(entry["macs_only"]) if entry["macs_only"] is not None else "",
            "in" if entry["in_distribution"] else "OUT",
            style=None if entry["in_distribution"] else "yellow",
        )
    out.print(rows)
    out.print()
