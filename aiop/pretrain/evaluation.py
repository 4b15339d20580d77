"""Predictions over a corpus and their agreement with held-out labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from aiop.graph_ir.batch import Engine
from aiop.pretrain.heads import PredictorModule
from aiop.pretrain.targets import LabelScaler

if TYPE_CHECKING:
    from aiop.graph_ir.corpus import Corpus

__all__ = ["mean_score", "predict_rows", "score"]

Scores = dict[str, dict[str, float | int | None]]


def predict_rows(
    module: PredictorModule,
    corpus: Corpus,
    rows: Sequence[int] | NDArray[np.int64],
    *,
    batch_size: int = 128,
    engine: Engine = "auto",
) -> NDArray[np.float32]:
    """Scaled targets of graphs ``rows``: (len(rows), T). Runs in evaluation mode on the module's device."""
    device = next(module.parameters()).device
    training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            parts = [
                module(corpus.batch(rows[start : start + batch_size], engine=engine).to(device)).cpu().numpy()
                for start in range(0, len(rows), batch_size)
            ]
    finally:
        module.train(training)
    return np.concatenate(parts) if parts else np.zeros((0, module.heads.num_tasks), np.float32)


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


def mean_score(scores: Scores) -> float | None:
    """Mean SRCC over tasks, a missing one counted as 0; None without tasks."""
    values = [item["srcc"] or 0.0 for item in scores.values()]
    return float(np.mean(values)) if values else None
