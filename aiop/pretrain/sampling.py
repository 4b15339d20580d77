"""Which rows of which corpus a training step sees: a function of the seed and the step alone.

Nothing here keeps a position, so a run that continues at step s draws what an uninterrupted one would have drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from aiop.pretrain.config import PretrainConfig
    from aiop.pretrain.sets import TrainingSet

__all__ = ["BatchPlan", "corpus_shares", "shares"]


def shares(sizes: Sequence[int], power: float, factors: Sequence[float] | None = None) -> NDArray[np.float64]:
    """The share of every corpus in the batches: proportional to size ** power * factor, summing to 1."""
    weights = np.asarray(sizes, dtype=np.float64) ** power * np.asarray(factors or [1.0] * len(sizes))
    return np.asarray(weights / weights.sum())


def corpus_shares(config: PretrainConfig, sets: Sequence[TrainingSet]) -> NDArray[np.float64]:
    """The `shares` (K,) of the corpora of a run, as its settings ask for."""
    factors = [config.sampling_weights.get(item.name, 1.0) for item in sets]
    return shares([len(item.train) for item in sets], config.sampling_power, factors)


class BatchPlan:
    """The rows of every step of a run over K corpora.

    Every corpus is a stream of its rows, shuffled anew for each pass; a step takes the next rows of the streams.

    Args:
        sizes: training rows of each corpus.
        corpus_shares: (K,), from :func:`shares`.
        batch_size: rows per step.
        steps: of the whole run.
        seed: of the shuffles and choices.
        single: every batch from one corpus, drawn by the shares; else every batch holds all corpora by their
            shares (exact on average: fractions of a row are carried over to the next steps).
    """

    def __init__(
        self,
        sizes: Sequence[int],
        corpus_shares: NDArray[np.float64],
        batch_size: int,
        steps: int,
        seed: int,
        single: bool = False,
    ) -> None:
        self.sizes, self.seed = tuple(sizes), seed
        if single:
            chosen = np.random.default_rng([seed, 0]).choice(len(sizes), size=steps, p=corpus_shares)
            counts = np.eye(len(sizes), dtype=np.int64)[chosen] * batch_size
            self._starts = np.concatenate([np.zeros((1, len(sizes)), np.int64), np.cumsum(counts, axis=0)])
        else:
            # Rounded down per corpus, which never runs backwards; a batch may miss a row or so of batch_size.
            exact = np.outer(np.arange(steps + 1), corpus_shares * batch_size)
            self._starts = np.floor(exact + 1e-9).astype(np.int64)
        self._permutation = lru_cache(maxsize=4 * len(sizes))(self._shuffle)

    def _shuffle(self, corpus: int, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, 1, corpus, epoch]).permutation(self.sizes[corpus])

    def rows(self, step: int) -> list[NDArray[np.int64]]:
        """Rows of step ``step``: one array per corpus, of numbers below its size; empty where it has no turn."""
        result = []
        for corpus, (start, stop) in enumerate(zip(self._starts[step], self._starts[step + 1], strict=True)):
            places = np.arange(start, stop)
            epochs, places = np.divmod(places, self.sizes[corpus])
            parts = [
                self._permutation(corpus, int(epoch))[places[epochs == epoch]] for epoch in np.unique(epochs)
            ]
            result.append(np.concatenate(parts) if parts else np.zeros(0, np.int64))
        return result
