"""What candidates are ranked by: an explicit sum of two terms, each of which can be switched off.

    score = P * predicted + O * outputs

``predicted``: the worse end of the candidate's 80% interval less that of the original's, more is better, in units of
half the original's interval: the maximum over many noisy predictions is optimistic, and a candidate that the predictor
is less sure of has to be better by as much. Differences within the interval count for less than 1. As long as nothing
was measured no candidate counts as better than the original: that a cut looks like a gain (factorised layers look like
more depth) is the predictor's error.

``outputs``: the logarithm of the similarity of the outputs to the original's, 0 where nothing changed. The predictor
does not see weights; this term knows which of them the network can do without. It is estimated for every candidate
from what each place does alone, on real inputs where there are some, else on noise, and moved to what was measured of
candidates on real inputs. As values are measured (`Compression.tell`), it fades as 1 / (1 + n / 4): the correction of
the predictions then knows better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError, suggest
from aiop.search.compression.outputs import LEAST_SIMILARITY

__all__ = ["WEIGHTS", "Scale", "outputs_term", "score_weights"]

Array = npt.NDArray[Any]

WEIGHTS: dict[str, float] = {"predicted": 1.0, "outputs": 1.0}
"""Weight of each term."""

_FADES = 4.0  # measured values after which the estimate from outputs counts half
_FEWEST = 4  # compared candidates that a line is drawn through


@dataclass(frozen=True, slots=True)
class Scale:
    """One unit of predicted differences: half of the original's interval, in the task's unit."""

    unit: float

    @classmethod
    def of(cls, value: float, low: float, high: float) -> Scale:
        """Return the scale of a prediction; a twentieth of the value where the interval is open."""
        half = (high - low) / 2
        if not math.isfinite(half) or half <= 0:
            half = abs(value) / 20
        return cls(max(half, 1e-6 * max(abs(value), 1.0)))


def score_weights(given: Mapping[str, float] | None) -> dict[str, float]:
    """Return the weights of both terms, those not given at their default.

    Raises:
        AiopError: An unknown term, or a weight below 0.
    """
    weights = dict(WEIGHTS)
    for name, weight in (given or {}).items():
        if name not in weights:
            raise AiopError(
                f'the score has no term "{name}"{suggest(name, weights)}: it has {", ".join(weights)}'
            )
        if not (math.isfinite(weight) and weight >= 0):
            raise AiopError(f'the weight of "{name}" is {weight}: give a number from 0')
        weights[name] = float(weight)
    return weights


def faded(weight: float, measured: int) -> float:
    """Return the weight of the outputs once so many values were measured."""
    return weight / (1.0 + measured / _FADES)


def outputs_term(losses: Array, similarities: Array) -> Array:
    """Return the term of each of n candidates from estimated losses ``(n,)`` and similarities ``(n,)``, nan if unknown.

    A line from estimates to measured logarithms is drawn through those that were compared; they take what was measured.
    """
    known = np.isfinite(similarities)
    estimated = -np.asarray(losses, np.float64)
    if not known.any():
        return estimated
    found = np.log(np.clip(similarities[known], LEAST_SIMILARITY, 1.0))
    x = estimated[known]
    slope = 1.0
    if known.sum() >= _FEWEST:
        spread = float(((x - x.mean()) ** 2).sum())
        own = float(((x - x.mean()) * (found - found.mean())).sum())
        # pulled towards 1, and never turned round: a larger estimate is never good news
        prior = float(np.var(x)) + 1e-6
        slope = max((own + prior) / (spread + prior), 0.1)
    shift = float(found.mean() - slope * x.mean())
    term = np.minimum(slope * estimated + shift, 0.0)
    term[known] = found
    return np.asarray(term)
