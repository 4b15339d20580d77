"""``aiop search relative --train IMAGES``: cells compared by training them with shared weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiop.cli.output import console, human, number, print_json, table
from aiop.errors import AiopError

__all__ = ["TRAINED", "search_by_training", "show_best"]

TRAINED = ("relative", "darts")
"""The method that compares by training, and the space whose networks it trains."""


def search_by_training(
    method: str,
    space: str,
    train: str,
    output: Path,
    *,
    budget: tuple[float, float] | None,
    evaluations: int | None,
    seed: int,
    useless: Mapping[str, bool],
    json: bool,
    bar: Callable[[], AbstractContextManager[Callable[[int, int], None]]],
) -> None:
    """Search by duels and show what was found.

    Args:
        method: must be the first of `TRAINED`.
        space: must be the second.
        train: images to train on, or ``IMAGES:PRESET``.
        output: folder to write.
        budget: fewest and most MACs.
        evaluations: networks trained in duels, the preset's by default.
        seed: of the search.
        useless: option -> whether it was given though it says nothing here.
        json: print the result as JSON.
        bar: gives what shows progress.

    Raises:
        AiopError: another method or space, an option that does not go with training, and as `run_duels`.
    """
    from aiop.search.methods.base import get_searcher
    from aiop.search.weight_sharing.running import run_duels
    from aiop.search.weight_sharing.settings import preset
    from aiop.tasks import get_space
    from aiop.tasks.corpora import cache_dir

    get_searcher(method)
    get_space(space)
    if (method, space) != TRAINED:
        what = f"the method {method} does not" if method != TRAINED[0] else f"networks of {space} cannot"
        raise AiopError(
            f"--train compares by training, which {what}: `aiop search {TRAINED[0]} --space {TRAINED[1]}` does, or "
            "leave --train out"
        )
    for option, given in useless.items():
        if given:
            raise AiopError(f"--train compares by training on images: leave {option} out")
    images, _, name = train.partition(":")
    settings = preset(name or "reduced")
    if evaluations is not None:
        settings = replace(settings, generations=max(1, evaluations // settings.population))
    with bar() as show:
        document = run_duels(
            output, images, settings, seed=seed, budget=budget, cache=cache_dir() / "images", progress=show
        )
    if json:
        print_json(document | {"out": str(output)})
    else:
        _show(document, output)


def show_best(document: Mapping[str, Any], words: str, value: str) -> None:
    """Print the best network with its MACs and some words, and the next best as a table with a column ``value``."""
    out, best = console(), document["best"]
    out.print(best["network"], style="bold", soft_wrap=True)
    out.print(f"{human(best['macs'])} MACs; {words}", soft_wrap=True)
    out.print()
    rows = table("Next best", "MACs", value)
    for entry in document["next"]:
        rows.add_row(entry["code"], human(entry["macs"]), f"{number(entry['value'])} {document['unit']}")
    out.print(rows)


def _show(document: Mapping[str, Any], folder: Path) -> None:
    show_best(
        document,
        f"loss {number(document['best']['value'])} {document['unit']} on {document['images']}, with shared weights; "
        f"the best of the last population after {document['duels']} duels, in {folder / document['file']}",
        "Loss",
    )
