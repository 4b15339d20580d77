"""Losses against loops over single entries and pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from aiop.pretrain.losses import ranking_loss, regression_loss

NAN = float("nan")
PREDICTIONS = [[0.3, -1.0, 2.0], [1.5, 0.2, 0.0], [-0.7, 0.9, 1.0], [0.1, -0.4, 3.0]]
TARGETS = [[0.0, NAN, NAN], [2.0, 0.5, NAN], [1.0, -3.0, NAN], [NAN, 0.5, 1.0]]


def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(PREDICTIONS, requires_grad=True), torch.tensor(TARGETS)


@pytest.mark.parametrize("kind", ["smooth-l1", "mse"])
def test_regression_is_the_mean_over_labelled_entries(kind: str) -> None:
    predictions, targets = tensors()
    errors = np.abs((np.array(PREDICTIONS) - np.array(TARGETS))[~np.isnan(TARGETS)])
    each = errors**2 if kind == "mse" else np.where(errors < 1, 0.5 * errors**2, errors - 0.5)
    loss = regression_loss(predictions, targets, kind)
    assert loss.item() == pytest.approx(each.mean(), rel=1e-6)
    loss.backward()
    assert predictions.grad is not None
    np.testing.assert_array_equal(predictions.grad.numpy() != 0, ~np.isnan(TARGETS))


def pairs_by_loops(group: list[int] | None, weighted: bool) -> float:
    total = weights = 0.0
    for task in range(3):
        for i in range(4):
            for j in range(4):
                better = TARGETS[i][task] - TARGETS[j][task]
                if not better > 0 or (group and group[i] != group[j]):
                    continue
                weight = better if weighted else 1.0
                total += weight * math.log1p(math.exp(PREDICTIONS[j][task] - PREDICTIONS[i][task]))
                weights += weight
    return total / weights


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("group", [None, [0, 0, 1, 1], [0, 1, 1, 0]])
def test_ranking_is_the_mean_over_pairs_of_one_task_and_group(
    group: list[int] | None, weighted: bool
) -> None:
    predictions, targets = tensors()
    loss = ranking_loss(predictions, targets, None if group is None else torch.tensor(group), weighted)
    assert loss.item() == pytest.approx(pairs_by_loops(group, weighted), rel=1e-6)
    loss.backward()
    assert predictions.grad is not None
    assert torch.isfinite(predictions.grad).all()


def test_ranking_ignores_a_shift_of_a_task() -> None:
    predictions, targets = tensors()
    shifted = predictions + torch.tensor([5.0, -7.0, 1.0])
    assert ranking_loss(shifted, targets).item() == pytest.approx(
        ranking_loss(predictions, targets).item(), rel=1e-5
    )


@pytest.mark.parametrize(
    "targets", [torch.full((4, 3), NAN), torch.zeros(0, 3)], ids=["nothing labelled", "empty batch"]
)
def test_without_labels_losses_are_zero(targets: torch.Tensor) -> None:
    predictions = torch.zeros(len(targets), 3, requires_grad=True)
    loss = regression_loss(predictions, targets) + ranking_loss(predictions, targets)
    assert loss.item() == 0
    loss.backward()
    assert predictions.grad is not None
    assert not predictions.grad.any()


def test_constant_targets_have_no_pairs() -> None:
    assert ranking_loss(torch.randn(5, 2), torch.ones(5, 2)).item() == 0


def test_task_weights_make_a_mean_over_tasks_of_means_over_their_labels() -> None:
    predictions, targets = tensors()
    weights = torch.tensor([1.0, 3.0, 5.0])
    errors = np.abs(np.array(PREDICTIONS) - np.array(TARGETS))
    each = np.where(errors < 1, 0.5 * errors**2, errors - 0.5)
    expected = np.average(np.nanmean(each, axis=0), weights=weights)
    assert regression_loss(predictions, targets, task_weights=weights).item() == pytest.approx(
        expected, rel=1e-6
    )
    # the last task has one label and so no pair: the other two share the weight
    alone = [ranking_loss(predictions[:, [task]], targets[:, [task]]).item() for task in range(2)]
    both = ranking_loss(predictions, targets, task_weights=weights).item()
    assert both == pytest.approx((alone[0] + 3 * alone[1]) / 4, rel=1e-6)
