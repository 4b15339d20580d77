"""``aiop predict``: what networks will achieve, with an interval and the MACs-only estimate beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiop.cli.networks import Json, Networks, Reader, Shapes, Weights
from aiop.cli.output import Name, console, human, number, print_json, table
from aiop.errors import AiopError

if TYPE_CHECKING:
    from aiop.graph_ir import ComputeGraph
    from aiop.predictor import NetworkPrediction

    _Ask = Callable[[list[ComputeGraph]], list[NetworkPrediction]]

__all__ = ["predict"]

CHUNK = 64
"""Networks predicted at once: results of many networks appear while later ones are still read."""


def predict(
    nets: Networks,
    task: Annotated[
        str, typer.Option(metavar="GLOB", help="Predict these tasks only; `aiop tasks` lists them.")
    ] = "*",
    head: Annotated[
        str | None,
        typer.Option(
            metavar="MY.head", help="Predict the task of this head, from `aiop finetune`.", show_default=False
        ),
    ] = None,
    shape: Shapes = [],  # noqa: B006  (typer wants the default itself)
    weights: Weights = None,
    json: Json = False,
) -> None:
    """Predict metrics of networks: value, 80% interval, MACs-only estimate, in or out of distribution."""
    if head is not None and task != "*":
        raise AiopError(
            "--task chooses tasks of the predictor, a head predicts its own: give one of --task and --head"
        )
    reader = Reader(shape)
    ask: _Ask | None = None
    for chunk in _chunks(reader.read(nets, _has_inputs)):
        if ask is None:  # not before a network is there to predict for
            ask = _asked(head, weights, task)
        predictions = ask([graph for _, graph in chunk])
        for (network, _), prediction in zip(chunk, predictions, strict=True):
            report = _finite(prediction.to_dict() | {"network": network})
            if json:
                print_json(report)
            else:
                _show(report)
    reader.finish()


def _asked(head: str | None, weights: str | None, task: str) -> _Ask:
    import aiop

    if head is not None:
        return aiop.load_head(head, weights).predict
    predictor = aiop.load(weights)
    return lambda graphs: predictor.predict(graphs, tasks=task)


def _has_inputs(graph: ComputeGraph) -> None:
    from aiop.predictor import check_predictable

    check_predictable(graph)


def _chunks(graphs: Iterable[tuple[str, ComputeGraph]]) -> Iterator[list[tuple[str, ComputeGraph]]]:
    iterator = iter(graphs)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def _finite(report: dict[str, Any]) -> dict[str, Any]:
    """Ends of intervals that too few labels leave open, in place, as JSON can hold them: None."""
    for entry in report["predictions"]:
        entry |= {end: entry[end] if isfinite(entry[end]) else None for end in ("low", "high")}
    return report


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
            " .. ".join("?" if entry[end] is None else number(entry[end]) for end in ("low", "high")),
            number(entry["macs_only"]) if entry["macs_only"] is not None else "",
            "in" if entry["in_distribution"] else "OUT",
            style=None if entry["in_distribution"] else "yellow",
        )
    out.print(rows)
    out.print()
