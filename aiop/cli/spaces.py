"""``aiop spaces``: the search spaces whose codes name networks, and random codes of them."""

from __future__ import annotations

from typing import Annotated

import typer

from aiop.cli.networks import Json
from aiop.cli.output import Name, console, print_json, table

__all__ = ["spaces"]


def spaces(
    pattern: Annotated[
        str,
        typer.Argument(metavar="GLOB", help="Show the spaces whose whole name matches.", show_default=False),
    ] = "*",
    sample: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Print N random codes of each space instead.", show_default=False
        ),
    ] = None,
    neighbours: Annotated[
        str | None,
        typer.Option(
            metavar="SPACE:CODE",
            help="Print every code one mutation away from this one instead.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random codes.")] = 0,
    json: Json = False,
) -> None:
    """List the search spaces: forms (input and head), measured networks, a code; or draw random codes."""
    from aiop.errors import AiopError, suggest
    from aiop.tasks import get_space, list_spaces

    if neighbours is not None:
        if sample is not None:
            raise AiopError("--sample and --neighbours print different codes: give one of them")
        _print_neighbours(neighbours, json)
        return
    names = list_spaces(pattern)
    if not names:
        hint = suggest(pattern, list_spaces())
        raise AiopError(
            f'space pattern "{pattern}" matches no search space{hint}: list all with "aiop spaces"'
        )
    if sample is None:
        _show(names, json)
        return
    import numpy as np

    for name in names:
        space, rng = get_space(name), np.random.default_rng(seed)
        for _ in range(sample):
            _print_code(f"{name}:{space.sample(rng)}", json)


def _print_neighbours(network: str, json: bool) -> None:
    from aiop.tasks.networks import parse_code

    space, form, code = parse_code(network)
    prefix = space.name if form is None else f"{space.name}@{form}"
    for neighbour in space.neighbours(code):
        _print_code(f"{prefix}:{neighbour}", json)


def _print_code(network: str, json: bool) -> None:
    if json:
        print_json({"network": network})
    else:
        print(network)


def _show(names: list[str], json: bool) -> None:
    from aiop.tasks import get_space, get_task, list_tasks

    rows = table("Space", "Forms", "Example", "Measured", left=3)
    for name in names:
        space = get_space(name)
        measured = max((get_task(task).rows for task in list_tasks(f"*/{name}/*")), default=0)
        if json:
            forms = {
                form: {
                    "input": [described.batch, *described.shape],
                    "head": described.head,
                    "classes": described.classes,
                }
                for form, described in space.forms.items()
            }
            print_json(
                {
                    "space": name,
                    "measured": measured,
                    "default_form": space.default_form,
                    "forms": forms,
                    "example": f"{name}:{space.example}",
                }
            )
        rows.add_row(Name(name), ", ".join(space.forms), space.example, f"{measured:,}" if measured else "")
    if not json:
        console().print(rows)
