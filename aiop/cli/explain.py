"""``aiop explain``: which layers of a network to widen or to cut."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiop.cli.networks import Json, Shapes, Weights, parse_shapes
from aiop.cli.output import Name, console, human, number, print_json, print_notes, table
from aiop.errors import AiopError

if TYPE_CHECKING:
    from aiop.search.explain import Explanation

__all__ = ["explain"]


def explain(
    net: Annotated[
        str,
        typer.Argument(
            metavar="NET",
            help="An ONNX file, with or without its weights, or space:code.",
            show_default=False,
        ),
    ],
    task: Annotated[
        str,
        typer.Option(
            metavar="TASK",
            help="What to explain: a task of `aiop tasks`, or words of its name, as imagenet/top1.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.svg", help="Draw the table.", show_default=False),
    ] = None,
    shape: Shapes = [],  # noqa: B006  (typer wants the default itself)
    weights: Weights = None,
    json: Json = False,
) -> None:
    """Explain a prediction by the widths of a network: what more channels of each layer do, and what they cost."""
    if output is not None and output.suffix.lower() != ".svg":
        raise AiopError(f'cannot draw "{output}": give the name of a file that ends in .svg')
    shapes = parse_shapes(shape)
    import aiop
    from aiop.search.explain import explain as explained
    from aiop.tasks.networks import write_atomically

    found = explained(net, aiop.load(weights), task, shapes=shapes)
    if output is not None:
        write_atomically(found.to_svg().encode(), output)
    if json:
        print_json(found.to_dict() | {"out": None if output is None else str(output)})
        return
    print_notes(found.notes)
    _show(found)
    if output is not None:
        console().print(f"drawn: {output}", soft_wrap=True)


def _show(found: Explanation) -> None:
    out = console()
    out.print(found.network, style="bold", soft_wrap=True)
    better = "more is better" if found.direction == "max" else "less is better"
    out.print(
        f"{found.task}: {number(found.value)} {found.unit} predicted ({better}), {human(found.macs)} MACs",
        soft_wrap=True,
    )
    out.print(
        f"1% more MACs by all widths at once: {found.value_per_percent_macs:+.3g} {found.unit}",
        soft_wrap=True,
    )
    out.print()
    rows = table("Layer", "Width", "MACs share", "Value, +10%", "MACs, +10%", "Value per 1% MACs", "Advice")
    for item in found.widths:
        others = f" +{len(item.layers) - 1}" if len(item.layers) > 1 else ""
        rows.add_row(
            Name(item.layer + others),
            str(item.width),
            f"{100 * item.macs_share:.1f}%",
            f"{item.value_per_10:+.3g}",
            human(item.macs_per_10),
            f"{item.value_per_percent_macs:+.3g}",
            "" if item.advice == "keep" else item.advice,
            style={"widen": "green", "cut": "red"}.get(item.advice),
        )
    out.print(rows)
    if found.fixed:
        layers = list(found.fixed)
        shown = ", ".join(layers[:5]) + (f" and {len(layers) - 5} more" if len(layers) > 5 else "")
        out.print(f"Widths that cannot change: {shown}", soft_wrap=True)
