"""The ways to cut a network that are compared: each takes a network to at most a share of its MACs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aiop.errors import AiopError
from aiop.predictor.few_shot import TaskHead
from aiop.search.compression import Compression
from aiop.search.editing.coupling import Group, coupling, shrink
from aiop.search.editing.coupling.importance import magnitude as unit_scores
from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import Decision, mutations
from aiop.search.mutations.sequence import mutate
from aiop.search.mutations.width import left

__all__ = ["METHODS", "Guide", "Method"]

_HALVINGS = 16
_LEAST = 0.05  # share of its units that a group keeps
_TRIES = 400
_WINDOW = 0.05  # below the share asked for: how far a random candidate may end


@dataclass(frozen=True, eq=False)
class Guide:
    """What the search may use beside the network: a predictor's head, calibration images, and so many trials."""

    head: TaskHead
    calibration: Path
    trials: int


Method = Callable[[EditableNetwork, float, int, Guide], EditableNetwork]
"""A network, the share of its MACs that may be left, a seed and a guide -> a smaller network."""


def uniform(network: EditableNetwork, macs: float, seed: int, guide: Guide) -> EditableNetwork:
    """All groups of channels by the same share; units of the smallest weights go."""
    places = [site.where for site in mutations()["width"].sites(network)]
    return _widest(network, macs, lambda share: dict.fromkeys(places, share))


def magnitude(network: EditableNetwork, macs: float, seed: int, guide: Guide) -> EditableNetwork:
    """Units of all groups ranked by the norm of their weights relative to their group's mean; the smallest go first.

    Global group importance of Fang et al. (DepGraph, CVPR 2023).
    """
    known = coupling(network)
    scores = {where: unit_scores(known, group) for where, group in known.groups.items()}
    every = np.sort(np.concatenate(list(scores.values())))

    def shares(level: float) -> dict[str, float]:
        least = every[min(int((1 - level) * len(every)), len(every) - 1)]
        return {where: max(float((own >= least).mean()), _LEAST) for where, own in scores.items()}

    return _widest(network, macs, shares)


def _widest(
    network: EditableNetwork, macs: float, shares: Callable[[float], dict[str, float]]
) -> EditableNetwork:
    """Return the network at the largest level whose MACs are within the share; shares grow with the level.

    Channels are left in eights where they come in eights, which processors are made for. What rounding leaves of the
    budget goes to the groups that lost most by it.
    """
    known, budget = coupling(network), macs * network.macs

    def thinner(counts: dict[str, list[int]]) -> EditableNetwork:
        changed = network.clone()
        shrink(changed, known, counts)
        return changed

    def rounded(level: float) -> dict[str, list[int]]:
        return {
            where: [left(len(part), share) for part in known.groups[where].parts]
            for where, share in shares(level).items()
        }

    low, high, found = 0.0, 1.0, None
    for _ in range(_HALVINGS):
        level = (low + high) / 2
        if thinner(rounded(level)).macs <= budget:
            low = found = level
        else:
            high = level
    if found is None:
        raise AiopError(f"{network.name}: channels alone do not cut its MACs to {macs:.0%}")
    counts, exact = rounded(found), shares(found)
    lost = {where: exact[where] - sum(kept) / known.groups[where].units for where, kept in counts.items()}
    best = thinner(counts)
    for where in sorted(lost, key=lambda name: -lost[name]):
        more = counts | {where: _one_more(counts[where], known.groups[where])}
        if more != counts and (wider := thinner(more)).macs <= budget:
            counts, best = more, wider
    return best


def _one_more(counts: list[int], group: Group) -> list[int]:
    steps = [8 if len(part) >= 32 and len(part) % 8 == 0 else 1 for part in group.parts]
    return [
        min(count + step, len(part)) for count, step, part in zip(counts, steps, group.parts, strict=True)
    ]


def random(network: EditableNetwork, macs: float, seed: int, guide: Guide) -> EditableNetwork:
    """Valid mutations at drawn places by drawn amounts, one after the other, until the MACs fit."""
    rng = np.random.default_rng([seed, 17])
    kinds = {name: found for name, mutation in mutations().items() if (found := mutation.sites(network))}
    names = list(kinds)
    taken: dict[tuple[str, str], Decision] = {}
    for _ in range(_TRIES):
        sites = kinds[names[rng.integers(len(names))]]
        site = sites[rng.integers(len(sites))]
        amount = site.amounts[rng.integers(len(site.amounts))]
        tried = taken | {(site.mutation, site.where): Decision(site.mutation, site.where, amount)}
        try:
            changed = mutate(network, list(tried.values()))[0]
        except AiopError:
            continue
        left = changed.macs / network.macs
        if left < macs - _WINDOW:
            continue  # too far: another draw
        taken = tried
        if left <= macs:
            return changed
    raise AiopError(f"{network.name}: no drawn mutations cut its MACs to {macs:.0%}")


def search(network: EditableNetwork, macs: float, seed: int, guide: Guide) -> EditableNetwork:
    """This package's search, guided by a head and by the outputs on calibration images."""
    with Compression(network, guide.head, macs=macs, seed=seed, calibration=guide.calibration) as compression:
        return compression.run(guide.trials)[0].network


METHODS: dict[str, Method] = {
    "search": search,
    "uniform": uniform,
    "magnitude": magnitude,
    "random": random,
}
"""Name -> method."""
