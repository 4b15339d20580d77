"""Ranks without a label: costs, and the sources as far as they agree with each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from aiop.finetune.views import Views

__all__ = ["COST_DOMAINS", "agreement", "zero_label_ranks", "zero_label_sources"]

Array = npt.NDArray[Any]

COST_DOMAINS = ("latency", "energy", "throughput", "training-time", "training-throughput")
"""Domains of tasks that say how much a network takes, not how good it is."""

_FALLING = ("throughput", "training-throughput")


def zero_label_sources(views: Views, *, quality: bool) -> dict[str, list[int]]:
    """Return the positions of the sources that a task without labels may look at, by the space they were learnt in."""
    found: dict[str, list[int]] = {}
    for place, name in enumerate(views.sources):
        domain, space = ([*name.split("/"), ""])[:2]
        if (domain not in COST_DOMAINS) == quality:
            found.setdefault(space, []).append(place)
    return found


def agreement(ranks: Array) -> float:
    """Return the mean correlation between the rows of ``(k, n)`` ranks, at least 0; 0 for fewer than two rows.

    What was learnt in different spaces and still agrees on networks of a new one is likely to hold there.
    """
    varied = ranks[np.ptp(ranks, axis=1) > 0] if len(ranks) else ranks
    if len(varied) < 2:
        return 0.0
    matrix = np.corrcoef(varied)
    return float(max(0.0, matrix[np.triu_indices(len(varied), 1)].mean()))


def zero_label_ranks(views: Views, sign: int = 1, *, quality: bool = True) -> Array:
    """Return scores ``(m,)`` that rank networks among those given, the larger the larger the value is taken to be.

    The mean of the ranks by MACs and by parameters, of sign ``sign``, plus, weighted by their `agreement` over source
    spaces, the mean ranks by the sources: those of quality, or those of cost (throughputs turned around).
    """
    count = len(views)
    score = sign * (rankdata(views.macs) + rankdata(views.params)) / 2
    groups = zero_label_sources(views, quality=quality)
    if count < 3 or not groups:
        return np.asarray(score)
    turned = np.array([-1 if name.split("/")[0] in _FALLING else 1 for name in views.sources])
    turned = turned * (1 if quality else sign)
    by_space = np.stack(
        [
            np.mean([rankdata(turned[place] * views.outputs[:, place]) for place in places], axis=0)
            for places in groups.values()
        ]
    )
    trust = agreement(by_space)
    return np.asarray(score + trust * by_space.mean(axis=0))
