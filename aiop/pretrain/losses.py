"""Training losses as pure functions of scaled predictions and targets; a NaN target is no label."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["ranking_loss", "regression_loss"]


def regression_loss(predictions: Tensor, targets: Tensor, kind: str = "smooth-l1") -> Tensor:
    """Mean error over the labelled entries.

    Args:
        predictions: (B, T).
        targets: (B, T), NaN where there is no label.
        kind: ``smooth-l1`` (quadratic below 1, linear above) or ``mse``.

    Returns:
        A scalar; 0 (with zero gradients) where nothing is labelled.
    """
    labelled = ~torch.isnan(targets)
    # A NaN must not enter the graph even where it is masked: 0 * NaN is NaN in the gradient.
    error = predictions - torch.where(labelled, targets, predictions.detach())
    if kind == "mse":
        losses = error.square()
    else:
        losses = functional.smooth_l1_loss(error, torch.zeros_like(error), reduction="none")
    return losses.sum() / labelled.sum().clamp(min=1)


def ranking_loss(
    predictions: Tensor, targets: Tensor, group: Tensor | None = None, weighted: bool = True
) -> Tensor:
    """Pairwise logistic loss: log(1 + exp(-(p_i - p_j))) over the pairs with y_i > y_j.

    Pairs are formed within a task and within a group only: ranks are never compared between search spaces.

    Args:
        predictions: (B, T).
        targets: (B, T), NaN where there is no label.
        group: integer (B,), the corpus of every row; one group without it.
        weighted: weigh every pair with its ``y_i - y_j``, so that near ties hardly count.

    Returns:
        A scalar, the (weighted) mean over all pairs; 0 (with zero gradients) without any pair, as for a batch of
        one row or of constant targets.
    """
    # Only tasks with two labels can form pairs: batches of one search space carry few of all tasks.
    active = (~torch.isnan(targets)).sum(dim=0) > 1
    predictions, targets = predictions[:, active], targets[:, active]
    # A comparison with NaN is false, so unlabelled rows form no pair.
    difference = targets[:, None] - targets[None]
    pairs = difference > 0
    if group is not None:
        pairs &= (group[:, None] == group[None])[:, :, None]
    weight = torch.where(pairs, difference, 0.0) if weighted else pairs.to(predictions.dtype)
    losses = functional.softplus(predictions[None] - predictions[:, None])
    return (weight * losses).sum() / weight.sum().clamp(min=1e-12)
