"""The networks a command line names: many at once, one bad one among them not stopping the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from aiop.cli.output import print_error
from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph

__all__ = ["Json", "Networks", "Reader", "Resumed", "Shapes", "Weights", "parse_shapes"]

Networks = Annotated[
    list[str],
    typer.Argument(
        metavar="NET",
        help="An ONNX file, a folder or a glob of them, or space:code.",
        show_default=False,
    ),
]
Shapes = Annotated[
    list[str],
    typer.Option(
        "--shape",
        metavar="NAME=N,C,H,W",
        help="Shape of an input that the file leaves open; once per input.",
        show_default=False,
    ),
]
Resumed = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER",
        help="Folder to write; the same command goes on with what is there.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line and nothing else.")]
Weights = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Use this predictor, not the one of the package.", show_default=False),
]


def parse_shapes(options: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return input name -> shape from ``NAME=N,C,H,W`` options.

    >>> parse_shapes(["image=1,3,224,224"])
    {'image': (1, 3, 224, 224)}
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for option in options:
        name, equals, extents = option.rpartition("=")
        sizes = [int(size) if size.strip().isdecimal() else 0 for size in extents.split(",")]
        if not (equals and name and all(sizes)):
            raise AiopError(
                f'--shape "{option}" is not NAME=N,C,H,W with positive sizes; write it like image=1,3,224,224'
            )
        if name in shapes:
            raise AiopError(f'--shape gives input "{name}" twice; give every input once')
        shapes[name] = tuple(sizes)
    return shapes


class Reader:
    """Reads networks one by one; an error is printed and remembered, and the next network is read."""

    def __init__(self, shapes: Sequence[str] = ()) -> None:
        self._shapes = parse_shapes(shapes)
        self._failed = False

    def read(
        self, nets: Sequence[str], check: Callable[[ComputeGraph], None] | None = None
    ) -> Iterator[tuple[str, ComputeGraph]]:
        """Yield (network as given or found, its graph) for every network that can be read and that ``check`` passes."""
        from aiop.tasks import networks

        for net in nets:
            found: Sequence[str] = ()
            with self.keep_going():
                found = networks.expand([net])
            for name in found:
                graph = None
                with self.keep_going():
                    found_graph = networks.read(name, shapes=self._shapes)
                    if check is not None:
                        check(found_graph)
                    graph = found_graph
                if graph is not None:
                    yield name, graph

    @contextmanager
    def keep_going(self) -> Iterator[None]:
        """Print a user error raised inside instead of ending."""
        try:
            yield
        except AiopError as error:
            print_error(str(error))
            self._failed = True

    def finish(self) -> None:
        """End with status 1 if anything failed."""
        if self._failed:
            raise typer.Exit(1)
