"""How the members of a head are weighted: by their held-out errors, pulled towards a prior that labels overcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["PRIOR", "combine", "cross_combined", "honest_quantile", "prior_weights"]

Array = npt.NDArray[Any]

PRIOR = {
    "costs": 0.0,
    "ridge": 1.0,
    "gp": 2.0,
    "gp-warped": 1.0,
    "gp-counting": 1.0,
    "trees": 1.5,
    "mlp": 1.0,
    "tuned": 2.0,
}
"""What members weigh, up to a common factor, before their errors are seen. Counting costs has its share by
`prior_weights` while labels are few."""

_PULL = 30.0  # labels' worth of errors that a unit of squared distance from the prior weighs like
_COUNTING = 2.0
_EXACT, _FOLDS = 60, 10


def prior_weights(names: Sequence[str], count: int) -> Array:
    """Return the weights ``(M,)`` that n labels start from.

    Costs have (2 / n)^2: all of it at two labels, a sixth at five, nothing to speak of at twenty.
    """
    weights = np.array([PRIOR[name] for name in names])
    weights = weights / weights.sum() if weights.sum() > 0 else np.full(len(names), 1.0 / len(names))
    if "costs" in names:
        share = min(1.0, (_COUNTING / max(count, 1)) ** 2)
        weights = weights * (1.0 - share)
        weights[list(names).index("costs")] += share
    return np.asarray(weights)


def combine(held_out: Array, targets: Array, prior: Array) -> Array:
    """Return weights ``(M,)``, at least 0 and of sum 1, for members with held-out predictions ``(n, M)``.

    They minimise ``sum_i (y_i - sum_m w_m p_im)^2 / s^2 + 30 |w - prior|^2``, with s^2 the least mean squared error of
    a member (stacking, Wolpert 1992, Breiman 1996).
    """
    from scipy.optimize import nnls

    if held_out.shape[1] == 1:
        return np.ones(1)
    errors = np.mean((held_out - targets[:, None]) ** 2, axis=0)
    scale = np.sqrt(max(float(errors.min()), 1e-3))
    width, heavy = held_out.shape[1], 1e3
    matrix = np.concatenate([held_out / scale, np.sqrt(_PULL) * np.eye(width), np.full((1, width), heavy)])
    wanted = np.concatenate([targets / scale, np.sqrt(_PULL) * prior, [heavy]])
    weights = nnls(matrix, wanted)[0]
    return np.asarray(weights / weights.sum() if weights.sum() > 0 else prior)


def cross_combined(held_out: Array, targets: Array, names: Sequence[str], seed: int = 0) -> Array:
    """Return held-out predictions of the combination, ``(n,)``: each by weights that its own label had no part in."""
    count = len(targets)
    if count < 3:
        return np.asarray(held_out @ prior_weights(names, count))
    order = np.random.default_rng(seed).permutation(count)
    folds = np.empty(count, np.int64)
    folds[order] = np.arange(count) % (count if count <= _EXACT else _FOLDS)
    found = np.empty(count)
    for fold in range(int(folds.max()) + 1):
        inside = folds != fold
        prior = prior_weights(names, int(inside.sum()))
        found[~inside] = held_out[~inside] @ combine(held_out[inside], targets[inside], prior)
    return found


def honest_quantile(scores: Array, coverage: float) -> float:
    """Return what a share ``coverage`` of new scores stays within, from n held-out ones; infinite where n is too small.

    The ``ceil((n + 1) * coverage)``-th smallest (Vovk et al. 2005): with 0.8 it takes four labels to be finite.
    """
    place = int(np.ceil((len(scores) + 1) * coverage - 1e-9))
    return float(np.sort(scores)[place - 1]) if 0 < place <= len(scores) else float("inf")
