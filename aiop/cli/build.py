"""``aiop build``: write the network of a search-space code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from aiop.cli.networks import Json
from aiop.cli.output import human, print_json

__all__ = ["build"]


def build(
    network: Annotated[
        str, typer.Argument(metavar="SPACE:CODE", help="Architecture code of a search space.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="NET.onnx", help="File to write.")],
    weights: Annotated[
        Literal["shapes", "random"], typer.Option(help="A small file without weights, or random weights.")
    ] = "shapes",
    seed: Annotated[int, typer.Option(help="Seed of random weights.")] = 0,
    json: Json = False,
) -> None:
    """Write the network of a search-space code as an ONNX file."""
    import aiop
    from aiop.graph_ir import read_onnx

    graph = read_onnx(aiop.build(network, output, weights=weights, seed=seed), name=network)
    if json:
        print_json({"network": network, "path": str(output), "macs": graph.macs, "params": graph.params})
    else:
        print(f"{output}: {human(graph.macs)} MACs, {human(graph.params)} parameters")
