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
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.finetune.additive_kernel import JITTER, Component, inverse_of, kernel, own_variance, refined
from aiop.finetune.blocks import Block
from aiop.finetune.views import Views

__all__ = ["AdditiveGP"]

Array = npt.NDArray[Any]

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
            hyper = refined(tuple(components), part, targets[chosen])
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
        matrix = kernel(self.components, self.hyper, self.support, self.support)
        matrix[np.diag_indices(len(matrix))] += math.exp(self.hyper[-1]) + JITTER
        return inverse_of(matrix)

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
            values = {name: block(views.rows(rows)) for name, block in self.blocks.items()}
            own = own_variance(self.components, self.hyper, values)
            own += math.exp(self.hyper[-1]) - ((cross @ self.precision) * cross).sum(axis=1)
            found.append(np.sqrt(np.maximum(own, JITTER)))
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
        return kernel(self.components, self.hyper, points, self.support)
