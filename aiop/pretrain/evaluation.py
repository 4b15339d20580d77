"""Predictions over a corpus and their agreement with held-out labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from aiop.graph_ir.batch import Engine, GraphBatch
from aiop.pretrain.module import Ensemble, PredictorModule
from aiop.pretrain.targets import LabelScaler

if TYPE_CHECKING:
    from aiop.graph_ir.corpus import Corpus

__all__ = ["embed_batch", "embed_rows", "mean_score", "score"]

Array = NDArray[np.float32]
Scores = dict[str, dict[str, float | int | None]]


def embed_batch(
    module: PredictorModule | Ensemble, batch: GraphBatch, *, adapted: bool = False
) -> tuple[Array, Array]:
    """Embeddings (B, D) and scaled targets (B, T) of a batch, float32, in the mode that the module is in.

    With ``adapted`` the targets are followed by what the adapters say of the A tasks that have one, (B, T + A).
    """
    run = module.embed_and_adapt if adapted else module.embed_and_predict
    with torch.inference_mode():
        embedding, scaled = run(batch.to(next(module.parameters()).device))
    return embedding.cpu().numpy(), scaled.cpu().numpy()


def embed_rows(
    module: PredictorModule | Ensemble,
    corpus: Corpus,
    rows: Sequence[int] | NDArray[np.int64] | None = None,
    *,
    batch_size: int = 128,
    engine: Engine = "auto",
    adapted: bool = False,
) -> tuple[Array, Array]:
    """Embeddings (n, D) and scaled targets (n, T) of graphs ``rows`` (all by default), on the module's device.

    ``adapted``: as in :func:`embed_batch`.
    """
    places = np.arange(len(corpus)) if rows is None else np.asarray(rows)
    parts = [
        embed_batch(module, corpus.batch(places[start : start + batch_size], engine=engine), adapted=adapted)
        for start in range(0, len(places), batch_size)
    ]
    if not parts:
        width = module.num_tasks + (len(module.adapted_columns) if adapted else 0)
        return np.zeros((0, module.embedding), np.float32), np.zeros((0, width), np.float32)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def score(
    predictions: NDArray[Any], labels: NDArray[Any], scalers: Sequence[LabelScaler], names: Sequence[str]
) -> Scores:
    """Compare scaled predictions (n, T) with labels (n, T) in their units; NaN labels are left out.

    Returns:
        task -> ``srcc`` (Spearman), ``tau`` (Kendall's tau-b), ``mae`` (in the unit of the labels), ``labels`` (their
        number). Tasks with fewer than two labels are left out; a correlation that does not exist (constant input)
        is None.
    """
    result: Scores = {}
    for column, (name, scaler) in enumerate(zip(names, scalers, strict=True)):
        known = ~np.isnan(labels[:, column])
        if known.sum() < 2:
            continue
        truth, predicted = labels[known, column], predictions[known, column]
        constant = np.ptp(truth) == 0 or np.ptp(predicted) == 0
        result[name] = {
            "srcc": None if constant else float(stats.spearmanr(predicted, truth).statistic),
            "tau": None if constant else float(stats.kendalltau(predicted, truth).statistic),
            "mae": float(np.abs(scaler.inverse(predicted) - truth).mean()),
            "labels": int(known.sum()),
        }
    return result


def mean_score(scores: Mapping[str, Mapping[str, float | None]]) -> float | None:
    """Mean SRCC over tasks, a missing one counted as 0; None without tasks."""
    values = [item["srcc"] or 0.0 for item in scores.values()]
    return float(np.mean(values)) if values else None
