"""The path filter on what a pretrained predictor sees of networks: a ranker of its own, and the few-shot head.

The head learns what a network is worth, from all labels at once; the ranker learns which of two networks of similar
cost is better, from several views and, where there is one, the code of the space. How much each counts is decided by
what they say of labelled networks without their labels, on pairs of similar cost.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from aiop.errors import AiopError
from aiop.finetune.head import FewShotHead
from aiop.finetune.views import Views
from aiop.search.path_filter.filter import PathFilter
from aiop.search.path_filter.pairs import DOUBT, Pairs, log_macs, sigmoid, standard_targets
from aiop.search.path_filter.shares import kept

__all__ = ["NetworkFilter"]

Array = npt.NDArray[Any]

_VIEWS = ("embedding", "outputs", "graph")
_PRIOR = np.array([0.6, 0.4])  # head, ranker
_HELD = 0.1  # how much the shares are held at that


class NetworkFilter:
    """Ranks networks, seen as `Views`, among those of similar cost; made by `fitted`.

    Attributes:
        weights_: share of the head and of the ranker.
    """

    def __init__(
        self, head: FewShotHead, ranker: PathFilter, weights: Array, centre: float, unit: float, codes: int
    ) -> None:
        self._head, self._ranker, self._weights = head, ranker, weights
        self._centre, self._unit, self._codes = centre, unit, codes
        self.weights_ = {"head": float(weights[0]), "ranker": float(weights[1])}

    @classmethod
    def fitted(
        cls,
        views: Views,
        values: Array,
        *,
        codes: Array | None = None,
        seed: int = 0,
        bins: int | None = None,
        conditioned: bool = True,
        head: FewShotHead | None = None,
    ) -> Self:
        """Fit to n measured networks.

        Args:
            views: of the networks.
            values: ``(n,)``, larger is better.
            codes: ``(n, c)``, coordinates of each in its space (`aiop.finetune.baselines.codes.code_matrix`).
            seed: of the head, and of what is left out together.
            bins: see `PathFilter.fitted`.
            conditioned: False learns and combines on all pairs alike, whatever they cost; for comparison.
            head: fitted to the same networks and values before, to save the time.

        Raises:
            AiopError: as of `PathFilter.fitted`.
        """
        features, blocks = _features(views, codes)
        ranker = PathFilter.fitted(
            features, views.macs, values, seed=seed, bins=bins, conditioned=conditioned, blocks=blocks
        )
        targets, centre, unit = standard_targets(values)
        head = FewShotHead(seed=seed, quality=True).fit(views, values) if head is None else head
        if len(ranker.held_out_) < len(targets) or head.count_ != len(targets):
            weights = _PRIOR  # what was left out by one was not by the other
        else:
            said = np.stack([(head.held_out_ - centre) / unit, ranker.held_out_], axis=1)
            weights = _shares(
                said, Pairs.of(log_macs(views.macs), targets, bins=bins, conditioned=conditioned)
            )
        return cls(head, ranker, weights, centre, unit, 0 if codes is None else codes.shape[1])

    def score(self, views: Views, codes: Array | None = None) -> Array:
        """Return scores ``(m,)``, larger is better among candidates of similar MACs; not comparable across costs.

        Raises:
            AiopError: candidates that are seen, or whose codes are written, otherwise than the measured networks.
        """
        if (0 if codes is None else codes.shape[1]) != self._codes:
            raise AiopError(
                f"the path filter was fitted to codes of {self._codes} numbers: give such of the candidates too"
            )
        valued = (np.asarray(self._head.predict(views), np.float64) - self._centre) / self._unit
        ranked = self._ranker.score(_features(views, codes)[0], views.macs)
        return np.asarray(self._weights[0] * valued + self._weights[1] * ranked)

    def keep(self, views: Views, share: float, codes: Array | None = None) -> Array:
        """Return which of m candidates survive, bool ``(m,)``: the best ``share`` within every range of cost."""
        return kept(self.score(views, codes), views.macs, share)


def _features(views: Views, codes: Array | None) -> tuple[Array, tuple[int, ...]]:
    blocks = [np.asarray(getattr(views, name), np.float64) for name in _VIEWS]
    blocks = [block for block in (*blocks, *([] if codes is None else [codes])) if block.shape[1]]
    if any(len(block) != len(views) for block in blocks):
        raise AiopError(f"{len(blocks[-1])} codes for {len(views)} networks: give one each")
    return np.concatenate(blocks, axis=1), tuple(block.shape[1] for block in blocks)


def _shares(said: Array, pairs: Pairs) -> Array:
    """Return what each column of ``(n, 2)`` counts, never less than 0, by the logistic loss of pairs."""
    total = max(float(pairs.weight.sum()), 1e-12)

    def loss(shares: Array) -> tuple[float, Array]:
        logits = said @ shares / DOUBT
        off = sigmoid(logits[:, None] - logits[None]) - pairs.chance
        slope = 2.0 * said.T @ (pairs.weight * off).sum(axis=1) / DOUBT / total
        held = shares - _PRIOR
        return pairs.loss(logits) + _HELD * float(held @ held), slope + 2.0 * _HELD * held

    found = minimize(loss, _PRIOR, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * 2)
    return np.asarray(found.x)
