"""A Gaussian process over several views at once, with a kernel that is a sum over them (Duvenaud et al. 2011).

Each view adds a linear and a Matern-3/2 kernel, each with a variance (and a length) of its own. The labels decide
which views matter: all of these and the noise maximise the marginal likelihood, under log-normal priors that keep a
handful of labels from switching views on and off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from aiop.finetune.blocks import Block
from aiop.finetune.views import Views

__all__ = ["AdditiveGP", "Component"]

Array = npt.NDArray[Any]
Component = tuple[str, Literal["linear", "smooth", "local"]]
"""A block and how it enters: a linear, a squared exponential, or a Matern-3/2 kernel."""

_VARIANCE_SPREAD, _LENGTH_SPREAD, _NOISE_SPREAD = 1.0, 0.7, 1.5  # of logarithms
_NOISE = 0.1
_OFFSET = 1.0  # variance of the constant: targets are standardised
_JITTER = 1e-6
_STEPS = 60
_SUBSET = 250
_KNOWN = 1000
_CHUNK = 2048
_POWERS = {"costs": 0.0, "structure": 1.0}  # of the screening of columns; of all other blocks:
_POWER = 0.5


@dataclass(frozen=True, eq=False)
class AdditiveGP:
    """A fitted process for one target.

    ``hyper``: ``(2 C + 1,)`` logarithms of the variances and lengths of the C components, and of the noise variance.
    ``support``: standardised blocks of the n labelled networks, ``(n, D)`` each; ``weights``: ``(n,)``.
    ``counts``: what blocks of ``support`` that are made of counts are restored from.
    ``held_out``, ``deviation``: ``(n,)``, mean and standard deviation (noise included) that the other labels predict
    of each labelled network, by the closed form; only there after `fit`.
    """

    components: tuple[Component, ...]
    blocks: dict[str, Block]
    hyper: Array
    support: dict[str, Array]
    weights: Array
    held_out: Array
    deviation: Array
    counts: dict[str, Array] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        views: Views,
        targets: Array,
        components: Sequence[Component],
        *,
        seed: int = 0,
        hyper: Array | None = None,
    ) -> AdditiveGP:
        """Fit to n labelled networks and standardised targets ``(n,)``.

        Above 250 labels the likelihood is that of 250 of them, drawn by ``seed``; the solution uses all. Given
        ``hyper`` there is nothing to maximise.
        """
        names = dict.fromkeys(name for name, _ in components)
        blocks = {name: Block.fit(views, name, targets, _POWERS.get(name, _POWER)) for name in names}
        # At single precision and row by row from the start, as they are saved: restored it says the same to the bit
        support = {
            name: np.ascontiguousarray(block(views).astype(np.float32), np.float64)
            for name, block in blocks.items()
        }
        count = len(targets)
        chosen = np.arange(count)
        if count > _SUBSET:
            chosen = np.sort(np.random.default_rng(seed).permutation(count)[:_SUBSET])
        part = {name: matrix[chosen] for name, matrix in support.items()}
        if hyper is None:
            hyper = _maximise(tuple(components), part, targets[chosen])
        none = np.zeros(0)
        counted = {
            name: counts for name, block in blocks.items() if (counts := block.counts(views)) is not None
        }
        found = cls(tuple(components), blocks, hyper, support, none, none, none, counted)
        weights = found.precision @ targets
        variance = 1.0 / np.diag(found.precision)
        deviation = np.sqrt(variance)
        if count > _KNOWN:
            deviation = np.ones(count)
        return replace(found, weights=weights, held_out=targets - weights * variance, deviation=deviation)

    @cached_property
    def precision(self) -> Array:
        """The inverse of kernel plus noise among the labelled networks, ``(n, n)``."""
        matrix = _kernel(self.components, self.hyper, self.support, self.support)
        matrix[np.diag_indices(len(matrix))] += math.exp(self.hyper[-1]) + _JITTER
        return _inverse(matrix)

    def predict(self, views: Views) -> Array:
        """Return the posterior mean for m networks, ``(m,)``."""
        parts = [self._cross(views, start) @ self.weights for start in range(0, len(views), _CHUNK)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def spread(self, views: Views) -> Array:
        """Return the posterior standard deviation of a measurement, noise included, ``(m,)``.

        Above 1,000 labels it is 1: there it hardly differs between networks and takes long.
        """
        if len(self.weights) > _KNOWN:
            return np.ones(len(views))
        found = [np.zeros(0)]
        for start in range(0, len(views), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(views)))
            cross = self._cross(views, start)
            own = np.full(len(rows), _OFFSET)
            values = {name: block(views.rows(rows)) for name, block in self.blocks.items()}
            for (name, kind), log in zip(self.components, self.hyper, strict=False):
                own += math.exp(log) * ((values[name] ** 2).sum(axis=1) if kind == "linear" else 1.0)
            own += math.exp(self.hyper[-1]) - ((cross @ self.precision) * cross).sum(axis=1)
            found.append(np.sqrt(np.maximum(own, _JITTER)))
        return np.concatenate(found)

    def slopes(self, name: str) -> Array:
        """Return what a standard deviation of each column of a block adds through its linear kernel, ``(D,)``."""
        total = np.zeros(len(self.blocks[name].scale))
        for place, (block, kind) in enumerate(self.components):
            if block == name and kind == "linear":
                total += math.exp(self.hyper[place]) * (self.support[name].T @ self.weights)
        return np.asarray(total * self.blocks[name].stretch * (self.blocks[name].scale > 0))

    def _cross(self, views: Views, start: int) -> Array:
        rows = np.arange(start, min(start + _CHUNK, len(views)))
        seen = views.rows(rows)
        points = {name: block(seen) for name, block in self.blocks.items()}
        return _kernel(self.components, self.hyper, points, self.support)


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


def _kernel(
    components: tuple[Component, ...], hyper: Array, one: dict[str, Array], other: dict[str, Array]
) -> Array:
    count = len(components)
    first = components[0][0]
    total = np.full((len(one[first]), len(other[first])), _OFFSET)
    for place, base in enumerate(_bases(components, one, other)):
        kind = components[place][1]
        total += math.exp(hyper[place]) * _correlation(kind, base, math.exp(hyper[count + place]))[0]
    return total


def _inverse(matrix: Array) -> Array:
    from scipy.linalg import cho_factor, cho_solve

    return np.asarray(cho_solve(cho_factor(matrix, lower=True), np.eye(len(matrix))))


def _maximise(components: tuple[Component, ...], points: dict[str, Array], targets: Array) -> Array:
    """Return the hyper-parameters of the largest posterior density."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve
    from scipy.optimize import minimize

    count, size = len(components), len(targets)
    bases = _bases(components, points, points)
    start = np.concatenate([np.full(count, -math.log(count)), np.zeros(count), [math.log(_NOISE)]])
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
        matrix = identity * (math.exp(hyper[-1]) + _JITTER) + _OFFSET
        for variance, (part, _) in zip(variances, parts, strict=True):
            matrix += variance * part
        try:
            factor = cho_factor(matrix, lower=True)
        except LinAlgError:
            return 1e10, np.zeros_like(hyper)
        inverse = cho_solve(factor, identity)
        solved = inverse @ targets
        away = (hyper - start) / spread
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

    bounds = list(zip(start - 4 * spread, start + 4 * spread, strict=True))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS})
    return np.asarray(found.x)
