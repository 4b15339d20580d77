"""Training losses as pure functions of scaled predictions and targets; a NaN target is no label."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["ranking_loss", "regression_loss"]


def regression_loss(
    predictions: Tensor, targets: Tensor, kind: str = "smooth-l1", task_weights: Tensor | None = None
) -> Tensor:
    """Mean error over the labelled entries, or weighted mean of the tasks' mean errors.

    Args:
        predictions: (B, T).
        targets: (B, T), NaN where there is no label.
        kind: ``smooth-l1`` (quadratic below 1, linear above) or ``mse``.
        task_weights: (T,); with them every task counts with its weight, however many labels it has in the batch.

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
    return _mean(losses, labelled.to(losses.dtype), task_weights)


def ranking_loss(
    predictions: Tensor,
    targets: Tensor,
    group: Tensor | None = None,
    weighted: bool = True,
    task_weights: Tensor | None = None,
) -> Tensor:
    """Pairwise logistic loss: log(1 + exp(-(p_i - p_j))) over the pairs with y_i > y_j.

    Pairs are formed within a task and within a group only: ranks are never compared between search spaces.

    Args:
        predictions: (B, T).
        targets: (B, T), NaN where there is no label.
        group: integer (B,), the corpus of every row; one group without it.
        weighted: weigh every pair with its ``y_i - y_j``, so that near ties hardly count.
        task_weights: (T,); with them every task counts with its weight, however many pairs it has in the batch.

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
    losses = weight * functional.softplus(predictions[None] - predictions[:, None])
    return _mean(losses.sum(dim=0), weight.sum(dim=0), None if task_weights is None else task_weights[active])


def _mean(losses: Tensor, weights: Tensor, task_weights: Tensor | None) -> Tensor:
    """Sum of losses over sum of weights, both (rows, T): over all entries, or per task and then over tasks."""
    if task_weights is None:
        return losses.sum() / weights.sum().clamp(min=1e-12)
    per_task = losses.sum(dim=0) / weights.sum(dim=0).clamp(min=1e-12)
    task_weights = torch.where(weights.sum(dim=0) > 0, task_weights, 0.0)
    return (per_task * task_weights).sum() / task_weights.sum().clamp(min=1e-12)
