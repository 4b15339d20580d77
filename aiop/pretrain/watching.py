"""Ranks on search spaces that a run is not trained on: what tells transfer from shortcuts, and when to stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from aiop.errors import AiopError
from aiop.graph_ir.batch import Engine
from aiop.graph_ir.corpus import Corpus
from aiop.pretrain.cost_link import LOG_MACS
from aiop.pretrain.described_heads import DescribedHeads
from aiop.pretrain.evaluation import embed_rows
from aiop.pretrain.module import PredictorModule
from aiop.pretrain.targets import Target

__all__ = ["MOST_WATCHED", "WatchedSet", "watched_ranks"]

MOST_WATCHED = 500
"""Networks of a watched corpus that are looked at."""

Ranks = dict[str, dict[str, float | None]]
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WatchedSet:
    """Networks that a run ranks without having seen a label of their tasks.

    Attributes:
        name: of the corpus in the log.
        corpus: n graphs.
        values: float (n, K), in the units of the tasks, NaN where not measured.
        rows: those that are ranked.
        targets: the K tasks.
    """

    name: str
    corpus: Corpus
    values: Array
    rows: NDArray[np.int64]
    targets: Sequence[Target]

    def check(self, trained: Sequence[Target]) -> None:
        """Refuse a task that the run is trained on."""
        known = {target.name for target in trained}
        for target in self.targets:
            if target.name in known:
                raise AiopError(
                    f"task {target.name!r} of the watched corpus {self.name!r} is trained on: watch other corpora"
                )


def watched_ranks(
    module: PredictorModule, item: WatchedSet, trained: Sequence[Target], *, engine: Engine = "auto"
) -> Ranks:
    """Return per task ``srcc``, of zero-label predictions, and ``macs``, of log MACs, with the measured values.

    A task's zero-label prediction is that of its description where the heads know descriptions, else the mean of the
    outputs of the tasks trained on in its domain (of all, where there is none), each turned so that larger is better.
    Spearman's rank correlation; None where it does not exist.
    """
    embedding, scaled = embed_rows(module, item.corpus, item.rows, engine=engine)
    graph = np.asarray(item.corpus.graph_features()[item.rows])
    found: Ranks = {}
    for column, target in enumerate(item.targets):
        truth = item.values[item.rows, column]
        similar = _similar(target, trained)
        if isinstance(module.heads, DescribedHeads):
            guess = _described(module, embedding, graph, target, similar)
        else:
            signs = np.array([_sign(other) for other in trained])
            guess = _sign(target) * (scaled @ (signs * similar))
        found[target.name] = {"srcc": _rank(guess, truth), "macs": _rank(graph[:, LOG_MACS], truth)}
    return found


def _sign(target: Target) -> float:
    return 1.0 if target.direction == "max" else -1.0


def _similar(target: Target, trained: Sequence[Target]) -> Array:
    domain = target.name.partition("/")[0]
    same = np.array([other.name.partition("/")[0] == domain for other in trained], np.float64)
    same = same if same.any() else np.ones(len(trained))
    return np.asarray(same / same.sum())


def _described(
    module: PredictorModule,
    embedding: NDArray[np.float32],
    graph: NDArray[np.float32],
    target: Target,
    similar: Array,
) -> Array:
    device = next(module.parameters()).device
    arrays = embedding, graph, np.array([target.description]), similar[None]
    with torch.inference_mode():
        tensors = [torch.tensor(array, dtype=torch.float32, device=device) for array in arrays]
        return np.asarray(module.zero_shot(*tensors)[:, 0].cpu().numpy(), np.float64)


def _rank(guess: NDArray[np.floating], truth: Array) -> float | None:
    known = np.isfinite(truth)
    if known.sum() < 3 or np.ptp(truth[known]) == 0 or np.ptp(guess[known]) == 0:
        return None
    return float(stats.spearmanr(guess[known], truth[known]).statistic)
