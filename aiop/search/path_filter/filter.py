"""A predictor of relative performance at a given cost: one filter for every budget.

DetOFA (Sakuma et al., ICCV workshops 2023) removes hopeless candidates from a supernet's space with a performance
predictor that is conditioned on the resource constraint. Its layers and its loss are not published; here it is learnt
from pairs of networks of similar cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.search.path_filter.kernel_ranker import KernelRanker
from aiop.search.path_filter.pairs import Pairs, checked, standard_targets
from aiop.search.path_filter.shares import kept

__all__ = ["PathFilter"]

Array = npt.NDArray[Any]

_LARGEST = 2000


class PathFilter:
    """Ranks networks among those of similar cost, and removes the hopeless ones; made by `fitted`.

    Attributes:
        held_out_: ``(n,)``, what the filter says of each labelled network without its label.
    """

    def __init__(self, ranker: KernelRanker, blocks: Sequence[int]) -> None:
        self._ranker, self._blocks = ranker, tuple(blocks)
        self.held_out_ = ranker.held_out

    @classmethod
    def fitted(
        cls,
        features: Array,
        macs: Array,
        values: Array,
        *,
        seed: int = 0,
        bins: int | None = None,
        conditioned: bool = True,
        blocks: Sequence[int] | None = None,
    ) -> Self:
        """Fit to n measured networks, from a handful on; of more than 2,000 these are drawn.

        Args:
            features: float64 ``(n, d)``, what is known of each: an embedding, graph features, a code.
            macs: ``(n,)``, MACs of each, above 0.
            values: ``(n,)``, larger is better.
            seed: of what is left out together, and of what is drawn.
            bins: ranges of cost that the width of the overlapping bins is told by, `pairs.BINS` by default.
            conditioned: False learns from all pairs alike, whatever they cost; for comparison.

            blocks: how many of the features, in order, belong together, such as ``(128, 20)`` for an embedding and a
                code: each block counts as much as the others, however wide. By default they are one block.

        Raises:
            AiopError: shapes that do not fit, numbers that are not finite, MACs not above 0, fewer than two networks
                or equal values.
        """
        x, cost = checked(features, macs, values)
        targets, _, _ = standard_targets(values)
        widths = (x.shape[1],) if blocks is None else tuple(blocks)
        if sum(widths) != x.shape[1] or min(widths, default=0) < 0:
            raise AiopError(
                f"blocks {widths} are not the {x.shape[1]} features: give widths that add up to them"
            )
        if len(x) > _LARGEST:
            some = np.sort(np.random.default_rng(seed).permutation(len(x))[:_LARGEST])
            x, cost, targets = x[some], cost[some], targets[some]
        pairs = Pairs.of(cost, targets, bins=bins, conditioned=conditioned)
        return cls(KernelRanker.fit([*_parts(x, widths), cost[:, None]], pairs, seed=seed), widths)

    def score(self, features: Array, macs: Array) -> Array:
        """Return scores ``(m,)``, larger is better among candidates of similar MACs; not comparable across costs.

        Raises:
            AiopError: as `fitted`, or for another number of features.
        """
        x, cost = checked(features, macs)
        if x.shape[1] != sum(self._blocks):
            raise AiopError(
                f"candidates have {x.shape[1]} features and the path filter was fitted to {sum(self._blocks)}: give "
                "the same"
            )
        return self._ranker.score([*_parts(x, self._blocks), cost[:, None]])

    def keep(self, features: Array, macs: Array, share: float) -> Array:
        """Return which of m candidates survive, bool ``(m,)``: the best ``share`` within every range of cost.

        Raises:
            AiopError: as `score`, and for a share that is not above 0 and at most 1.
        """
        return kept(self.score(features, macs), macs, share)


def _parts(x: Array, widths: Sequence[int]) -> list[Array]:
    return np.split(x, np.cumsum(widths)[:-1], axis=1)
