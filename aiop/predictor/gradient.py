"""How a prediction changes with what the predictor sees of a network: its gradient with respect to the features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aiop.finetune.kernel import KernelExpert
from aiop.graph_ir.batch import collate
from aiop.graph_ir.features import GraphArrays
from aiop.predictor.predictor import Predictor

__all__ = ["FeatureGradient", "feature_gradient"]

Array = npt.NDArray[Any]

_NEAR = 1e-2  # deviations of features: so near a known network the kernel has a cusp, and no gradient
_STEP = (
    0.25  # scaled prediction, to either side: a scale through quantiles of labels is rough in smaller steps
)
_CLIP = 4.0


@dataclass(frozen=True, eq=False)
class FeatureGradient:
    """A predicted value and its derivatives.

    value: in the task's unit, before ends of the scale and true labels come in.
    node: float64 ``(N, F)``, of the value with respect to ``GraphArrays.node``.
    graph: float64 ``(G,)``, with respect to ``GraphArrays.graph``.
    """

    value: float
    node: Array
    graph: Array


def feature_gradient(predictor: Predictor, arrays: GraphArrays, task: str) -> FeatureGradient:
    """Differentiate the prediction of one task: the networks of the ensemble, and kernel experts with their share.

    What a few true labels correct of an infused task is left out, and so is the clipping of shares to 0 to 100%. Next
    to a network that an expert knows its kernel has a cusp, of which neither side is taken.

    Raises:
        AiopError: a task that the predictor does not know.
    """
    card = predictor.task_card(task)
    column = predictor.names.index(task)
    batch = collate([arrays], engine="torch")
    node = batch.node.clone().requires_grad_()
    graph = batch.graph_features.clone().requires_grad_()
    batch.node, batch.graph_features = node, graph
    with torch.enable_grad():
        scaled = predictor.module.embed_and_predict(batch)[1][0, column]
        for blend in predictor.blends:
            if column in blend.columns:
                place = blend.columns.index(column)
                scaled = (1 - blend.share) * scaled + blend.share * _expert(blend.expert, graph, place)
        offset, slope = predictor.stretch(column)
        scaled = scaled * slope + offset
        gradients = torch.autograd.grad(scaled, (node, graph), allow_unused=True)
    at = float(scaled.detach())
    low, value, high = card.scaler.inverse(np.array([at - _STEP, at, at + _STEP]))
    steepness = float(high - low) / (2 * _STEP)
    found = [
        np.zeros(tuple(inputs.shape)) if gradient is None else gradient.double().numpy() * steepness
        for gradient, inputs in zip(gradients, (node, graph), strict=True)
    ]
    return FeatureGradient(float(value), found[0], found[1][0])


def _expert(expert: KernelExpert, features: Tensor, column: int) -> Tensor:
    """What `KernelExpert.predict` says of one network of graph features ``(1, G)``, differentiable."""
    centre, scale, stress, support, weights = (
        torch.from_numpy(np.asarray(array, np.float32))
        for array in (expert.centre, expert.scale, expert.stress, expert.support, expert.weights[:, column])
    )
    points = ((features - centre) * scale).clamp(-_CLIP, _CLIP) * stress
    squared = (points - support).square().sum(dim=1)
    reach = expert.length * float((stress[scale > 0].double() ** 2).sum().clamp(min=1.0).sqrt())
    near = squared < _NEAR**2
    distance = torch.where(near, squared.detach(), squared).clamp(min=1e-12).sqrt()
    return torch.exp(-distance / reach) @ weights
