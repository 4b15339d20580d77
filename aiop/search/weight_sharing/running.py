"""A search by training in a folder: a checkpoint after every duel, then the result and its network."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from aiop.errors import AiopError
from aiop.graph_ir.checkpoint import resume_checkpoint, save_checkpoint, under
from aiop.search.methods.problem import Budget, count_macs
from aiop.search.methods.running import BEST, RESULT
from aiop.search.weight_sharing.duels import Cells, DuelSearch, State
from aiop.search.weight_sharing.images import Images, image_set
from aiop.search.weight_sharing.settings import DuelSettings
from aiop.search.weight_sharing.shared import SharedWeights
from aiop.tasks.networks import build, write_atomically

__all__ = ["DUELS", "STATE", "run_duels"]

STATE, DUELS = "state.safetensors", "duels.jsonl"
SPACE = "darts"
_SHOWN = 10
_WRITTEN = 10  # duels between two writings of the log, which the checkpoint holds too


def run_duels(
    folder: Path,
    images: str | Images,
    settings: DuelSettings,
    *,
    seed: int = 0,
    budget: Budget | None = None,
    macs_of: Callable[[str], float] | None = None,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Search by duels, going on with what is in the folder, and write the result.

    What is found depends on images, settings, seed and budget alone, however often the search was interrupted.

    Args:
        folder: where `STATE`, `DUELS`, and at the end `RESULT` and `BEST` are written.
        images: a name of `image_set`, or images.
        settings: of the search.
        seed: of all that is left to chance.
        budget: fewest and most MACs of the network of the space's default form, None for any.
        macs_of: code -> MACs, counted on that network by default.
        cache: folder for drawn images.
        progress: called with the number of trainings done (a duel is one) and how many there are.

    Returns:
        what `RESULT` holds.

    Raises:
        AiopError: unknown images, a folder that cannot be used or holds another search, a damaged checkpoint, a budget
            that nothing meets.
    """
    cells = Cells(budget, macs_of or (lambda code: count_macs(SPACE, code)))
    name = images if isinstance(images, str) else images.name
    identity = {
        "seed": str(seed),
        "images": name,
        "budget": json.dumps(budget),
        "settings": hashlib.sha256(json.dumps(asdict(settings)).encode()).hexdigest(),
    }
    path = folder / STATE
    kept = resume_checkpoint(
        path, lambda: identity, "of a search with other {key}: give another folder, or the same settings"
    )
    if isinstance(images, str):
        images = image_set(images, train=settings.images, test=settings.held_out, cache=cache)
    search = DuelSearch(images, settings, cells, seed)
    state = search.begin() if kept is None else _restored(kept, search, path)
    threads = torch.get_num_threads()
    # The networks are too small for more, and nothing is to depend on how many there are.
    torch.set_num_threads(1)
    try:
        _go_on(folder, search, state, identity, progress)
    finally:
        torch.set_num_threads(threads)
    return _finish(folder, search, state, identity, settings)


def _go_on(
    folder: Path,
    search: DuelSearch,
    state: State,
    identity: dict[str, str],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Take the steps that are left, each kept when it is over."""
    while search.done(state) < search.steps:
        if progress is not None:
            progress(search.done(state), search.steps)
        start = time.process_time()
        search.step(state)
        state.seconds += time.process_time() - start
        tensors, plain = _kept(state)
        save_checkpoint(folder / STATE, tensors, identity | plain)
        if len(state.duels) % _WRITTEN == 0 or len(state.duels) == search.duels:
            _write_log(folder, state)
    if progress is not None:
        progress(search.steps, search.steps)


def _kept(state: State) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    tensors = {f"shared.{name}": tensor for name, tensor in state.shared.tensors.items()}
    tensors |= {"places": torch.from_numpy(state.places), "velocities": torch.from_numpy(state.velocities)}
    return tensors, {"duels": state.duels, "finals": state.finals, "seconds": state.seconds}


def _restored(kept: tuple[dict[str, torch.Tensor], dict[str, Any]], search: DuelSearch, path: Path) -> State:
    tensors, plain = kept
    shape = (search.settings.population, len(search.cells.points.upper))
    try:
        state = State(
            tensors["places"].numpy(),
            tensors["velocities"].numpy(),
            SharedWeights(search.seed, under(tensors, "shared.")),
            list(plain["duels"]),
            list(plain["finals"]),
            float(plain["seconds"]),
        )
        if state.places.shape != shape or state.velocities.shape != shape:
            raise ValueError(state.places.shape)
    except (KeyError, TypeError, ValueError):
        raise AiopError(
            f"checkpoint {path} lacks a part of the search: delete it to search from the start"
        ) from None
    return state


def _write_log(folder: Path, state: State) -> None:
    write_atomically("".join(json.dumps(duel) + "\n" for duel in state.duels).encode(), folder / DUELS)


def _finish(
    folder: Path, search: DuelSearch, state: State, identity: dict[str, str], settings: DuelSettings
) -> dict[str, Any]:
    _write_log(folder, state)
    ranking = search.ranking(state)
    entries = [
        {"network": f"{SPACE}:{code}", "code": code, "value": loss, "macs": search.cells.macs(code)}
        for code, loss in ranking[:_SHOWN]
    ]
    build(f"{SPACE}:{ranking[0][0]}", folder / BEST, weights="random")
    document = {
        "method": "relative",
        "space": SPACE,
        "images": identity["images"],
        "settings": asdict(settings),
        "seed": search.seed,
        "budget": None if search.cells.budget is None else list(search.cells.budget),
        "values": "trained",
        "unit": "nats",
        "direction": "min",
        "duels": len(state.duels),
        "trainings": 2 * len(state.duels) + len(state.finals),
        "seconds": state.seconds,
        "best": entries[0],
        "next": entries[1:],
        "file": BEST,
    }
    write_atomically((json.dumps(document, indent=1) + "\n").encode(), folder / RESULT)
    return document
