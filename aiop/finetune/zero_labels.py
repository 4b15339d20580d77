"""Ranks without a label: size, what sources of other spaces agree on, and sources that know networks like these."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from aiop.finetune.views import Views
from aiop.graph_ir.features import GRAPH_FEATURES

__all__ = [
    "COST_DOMAINS",
    "at_home",
    "consensus",
    "reliability",
    "size_ranks",
    "source_ranks",
    "standard_ranks",
    "zero_label_ranks",
    "zero_label_sources",
]

Array = npt.NDArray[Any]

COST_DOMAINS = ("latency", "energy", "throughput", "training-time", "training-throughput")
"""Domains of tasks that say how much a network takes, not how good it is."""

_FALLING = ("throughput", "training-throughput")
_ACTIVATIONS = GRAPH_FEATURES.index("log_activations")
# What sources count against size, in tasks of quality and of cost: those of other spaces, those of their own.
_ELSEWHERE, _HOME = {True: 0.5, False: 1.0}, {True: 3.0, False: 1.0}
_ROUNDS = 3
_FLAT = 1e-9


def zero_label_sources(views: Views, *, quality: bool) -> dict[str, list[int]]:
    """Return the positions of the sources that a task without labels may look at, by the space they were learnt in."""
    found: dict[str, list[int]] = {}
    for place, name in enumerate(views.sources):
        domain, space = ([*name.split("/"), ""])[:2]
        if (domain not in COST_DOMAINS) == quality:
            found.setdefault(space, []).append(place)
    return found


def standard_ranks(values: Array) -> Array:
    """Return ranks of values ``(n,)`` with mean 0 and deviation 1; zeros where all are equal."""
    return _standard(rankdata(values))


def size_ranks(views: Views) -> Array:
    """Return the mean of the ranks by MACs, parameters and activations (Dollar et al. 2021), standardised, ``(n,)``.

    Each of the three misleads in some space; the mean of all does so least.
    """
    measures = [views.macs, views.params]
    if views.graph.shape[1] == len(GRAPH_FEATURES):
        measures.append(views.graph[:, _ACTIVATIONS])
    return _standard(np.sum([standard_ranks(measure) for measure in measures], axis=0))


def reliability(scores: Array) -> float:
    """Return Cronbach's alpha (1951) of ``(k, n)`` standardised scores, between 0 and 1; 0 for fewer than two.

    It is the share of their mean's variance that they have in common: what was learnt in different spaces and
    still agrees on networks of a new one is likely to hold there.
    """
    varied = scores[np.ptp(scores, axis=1) > 0] if len(scores) else scores
    count = len(varied)
    if count < 2:
        return 0.0
    mean = max(0.0, float(np.corrcoef(varied)[np.triu_indices(count, 1)].mean()))
    return count * mean / (1.0 + (count - 1) * mean)


def at_home(views: Views, places: list[int]) -> float:
    """Return the share of networks that sources (of one space) were learnt on the like of, from 0 to 1.

    A network counts fully up to a remoteness of 1 and not at all from 2 on.
    """
    if views.remoteness is None or not len(views):
        return 0.0
    return float(np.clip(2.0 - views.remoteness[:, places], 0.0, 1.0).mean())


def consensus(size: Array, spaces: list[Array], weight: float = 1.0) -> Array:
    """Return size plus what sources of several spaces say, standardised ranks ``(k, n)`` per space.

    Every space has one vote, which its sources share in proportion to how they correlate with the outcome: those that
    go against it have none. The mean vote, standardised, counts ``weight`` times its `reliability`
    as much as size.
    """
    shares = [np.ones(len(ranks)) for ranks in spaces]
    found = size
    for _ in range(_ROUNDS):
        votes = [
            share @ ranks / share.sum() for share, ranks in zip(shares, spaces, strict=True) if share.any()
        ]
        trust = reliability(np.array(votes))
        if not trust:
            return size
        found = size + weight * trust * _standard(np.mean(votes, axis=0))
        shares = [np.maximum(0.0, ranks @ found) for ranks in spaces]
    return found


def source_ranks(views: Views, sign: int = 1, *, quality: bool) -> dict[str, Array]:
    """Return the standardised ranks ``(k, n)`` of the `zero_label_sources` of every space, turned as the task is.

    ``sign`` as in `zero_label_ranks`; among costs, throughputs fall where the others rise.
    """
    turned = [-1 if name.split("/")[0] in _FALLING else 1 for name in views.sources]
    factor = 1 if quality else sign
    return {
        space: np.stack(
            [factor * turned[place] * standard_ranks(views.outputs[:, place]) for place in places]
        )
        for space, places in zero_label_sources(views, quality=quality).items()
    }


def zero_label_ranks(views: Views, sign: int = 1, *, quality: bool = True) -> Array:
    """Return scores ``(m,)`` that rank networks among those given, the larger the larger the value is taken to be.

    Three things speak, those of quality or those of cost, in standardised ranks:

    - *size*: `size_ranks`, of sign ``sign``;
    - *elsewhere*: the `consensus` of size and the sources learnt in spaces unlike these networks, which count half as
      much as size in tasks of quality, as much in tasks of cost;
    - *home*: the mean of the sources of the spaces these networks are from, as far as `at_home` tells; they count
      three times as much as all of the above, less where they disagree; in tasks of cost as much, since devices
      differ by more than spaces do.
    """
    size = sign * size_ranks(views)
    groups = zero_label_sources(views, quality=quality)
    if len(views) < 3 or not groups:
        return size
    ranks = source_ranks(views, sign, quality=quality)
    home = {space: at_home(views, places) for space, places in groups.items()}
    foreign = [ranks[space] for space in groups if home[space] < 0.5]
    found = _standard(consensus(size, foreign, _ELSEWHERE[quality]))
    if total := sum(home.values()):
        known = np.sum([home[space] * ranks[space].mean(axis=0) for space in groups], axis=0) / total
        found = found + _HOME[quality] * max(home.values()) * known
    return np.asarray(found)


def _standard(values: Array) -> Array:
    deviation = values.std()
    return np.asarray((values - values.mean()) / (deviation if deviation > _FLAT else 1.0))
