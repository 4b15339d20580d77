"""Kernels that are a sum over several views of networks, and the hyper-parameters that labels ask for.

Each component has a variance (and a length) of its own, the noise another: all of them maximise the marginal likelihood
of standardised targets, under log-normal priors that keep a handful of labels from switching views on and off.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["JITTER", "Component", "inverse_of", "kernel", "own_variance", "refined", "start"]

Array = npt.NDArray[Any]
Component = tuple[str, Literal["linear", "smooth", "local"]]
"""A block and how it enters: a linear, a squared exponential, or a Matern-3/2 kernel."""

JITTER = 1e-6
_VARIANCE_SPREAD, _LENGTH_SPREAD, _NOISE_SPREAD = 1.0, 0.7, 1.5  # of logarithms
_NOISE = 0.1
_OFFSET = 1.0  # variance of the constant: targets are standardised
_STEPS = 60


def _bases(components: tuple[Component, ...], one: dict[str, Array], other: dict[str, Array]) -> list[Array]:
    """Inner products of linear components, squared distances of the others."""
    products = {name: one[name] @ other[name].T for name in one}
    found = []
    for name, kind in components:
        if kind == "linear":
            found.append(products[name])
            continue
        lengths = (one[name] ** 2).sum(axis=1)[:, None] + (other[name] ** 2).sum(axis=1)[None]
        found.append(np.maximum(lengths - 2.0 * products[name], 0.0))
    return found


def _correlation(kind: str, base: Array, length: float) -> tuple[Array, Array | None]:
    """A component at variance 1, and its derivative by the logarithm of its length."""
    if kind == "linear":
        return base, None
    if kind == "smooth":
        power = base / (2.0 * length * length)
        bell: Array = np.exp(-power)
        return bell, 2.0 * power * bell
    ratio: Array = np.sqrt(3.0 * base) / length
    decay: Array = np.exp(-ratio)
    return (1.0 + ratio) * decay, ratio * ratio * decay


def kernel(
    components: tuple[Component, ...], hyper: Array, one: dict[str, Array], other: dict[str, Array]
) -> Array:
    """Return the covariances ``(m, n)`` of networks with blocks ``(m, D)`` and ``(n, D)``, without noise.

    ``hyper``: ``(2 C + 1,)`` logarithms of the variances and lengths of the C components, and of the noise variance.
    """
    count = len(components)
    first = components[0][0]
    total = np.full((len(one[first]), len(other[first])), _OFFSET)
    for place, base in enumerate(_bases(components, one, other)):
        kind = components[place][1]
        total += math.exp(hyper[place]) * _correlation(kind, base, math.exp(hyper[count + place]))[0]
    return total


def own_variance(components: tuple[Component, ...], hyper: Array, points: dict[str, Array]) -> Array:
    """Return the variances ``(m,)`` of networks with blocks ``(m, D)`` before anything is known, without noise."""
    own = np.full(len(points[components[0][0]]), _OFFSET)
    for (name, kind), log in zip(components, hyper, strict=False):
        own += math.exp(log) * ((points[name] ** 2).sum(axis=1) if kind == "linear" else 1.0)
    return own


def inverse_of(matrix: Array) -> Array:
    """Return the inverse of a positive definite matrix."""
    from scipy.linalg import cho_factor, cho_solve

    return np.asarray(cho_solve(cho_factor(matrix, lower=True), np.eye(len(matrix))))


def start(count: int) -> Array:
    """Return the hyper-parameters ``(2 C + 1,)`` of C components that are the most likely ones before any label."""
    return np.concatenate([np.full(count, -math.log(count)), np.zeros(count), [math.log(_NOISE)]])


def refined(
    components: tuple[Component, ...], points: dict[str, Array], targets: Array, *, steps: int = _STEPS
) -> Array:
    """Return the hyper-parameters of the largest posterior density, after so many steps at most."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve
    from scipy.optimize import minimize

    count, size = len(components), len(targets)
    bases = _bases(components, points, points)
    first = start(count)
    spread = np.concatenate(
        [np.full(count, _VARIANCE_SPREAD), np.full(count, _LENGTH_SPREAD), [_NOISE_SPREAD]]
    )
    identity = np.eye(size)

    def loss(hyper: Array) -> tuple[float, Array]:
        variances, lengths = np.exp(hyper[:count]), np.exp(hyper[count : 2 * count])
        parts = [
            _correlation(kind, base, length)
            for (_, kind), base, length in zip(components, bases, lengths, strict=True)
        ]
        matrix = identity * (math.exp(hyper[-1]) + JITTER) + _OFFSET
        for variance, (part, _) in zip(variances, parts, strict=True):
            matrix += variance * part
        try:
            factor = cho_factor(matrix, lower=True)
        except LinAlgError:
            return 1e10, np.zeros_like(hyper)
        inverse = cho_solve(factor, identity)
        solved = inverse @ targets
        away = (hyper - first) / spread
        value = (
            0.5 * float(targets @ solved) + float(np.log(np.diag(factor[0])).sum()) + 0.5 * float(away @ away)
        )
        pull = 0.5 * (inverse - np.outer(solved, solved))
        slope = away / spread
        for place, (variance, (part, change)) in enumerate(zip(variances, parts, strict=True)):
            slope[place] += variance * float(np.vdot(pull, part))
            if change is not None:
                slope[count + place] += variance * float(np.vdot(pull, change))
        slope[-1] += math.exp(hyper[-1]) * float(np.trace(pull))
        return value, slope

    bounds = list(zip(first - 4 * spread, first + 4 * spread, strict=True))
    found = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps})
    return np.asarray(found.x)
