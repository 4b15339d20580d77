"""Network coding propagation: gradients of predicted values and costs move an architecture's code.

Ding et al., "Learning Versatile Neural Architectures by Propagating Network Codes", ICLR 2022. `published` is their
search as their code has it. `propagate` is what it lacks: several tasks by weight, a budget of MACs (a penalty while a
point is above it, and a step along the gradient of the MACs back to it), gradients at the valid code next to each
point, many starts at once, and a rule that picks winners.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aiop.errors import AiopError, suggest
from aiop.search.methods.code_predictor import CodePredictor

__all__ = ["START", "Found", "Step", "objective_weights", "propagate", "published"]

Array = npt.NDArray[Any]

START = "64,64,2,2,64,2,2,2,64,64,2,2,2,2,64,64,64,2,2,2,2,2,64,64,64,64,64"
"""Where the published search starts on NAS-Bench-MR: all channels 64, all counts 2."""

STEPS = 70
_RATE = 3.0
_COST = 0.5
_PENALTY = 4.0
_LONGEST, _SHORTEST = 0.4, 0.08  # of a step, in deviations of a code's numbers (root mean square)


@dataclass(frozen=True, eq=False)
class Step:
    """A point on the way of a published search.

    code: the valid code next to it; point: the continuous code ``(D,)`` that goes on.
    predicted: of ``code``, ``(T + 2,)``: values of tasks, MACs, parameters.
    """

    code: str
    point: Array
    predicted: Array


@dataclass(frozen=True, eq=False)
class Found:
    """Distinct valid codes that a search came by and that its budget allows, the best first.

    objective: ``(n,)``, the weighted sum of standardised predictions, better when larger.
    predicted: ``(n, T + 2)``, values of tasks, MACs and parameters, in their units.
    visited: how many distinct codes were judged, those outside the budget counted.
    """

    codes: tuple[str, ...]
    objective: Array
    predicted: Array
    visited: int


def published(
    predictor: CodePredictor,
    start: str = START,
    *,
    steps: int = STEPS,
    rate: float = _RATE,
    cost: float = _COST,
) -> list[Step]:
    """Search as published: from one start, toward more of the first task and fewer MACs; every step is returned.

    Each step asks for a little more of the main value and a little fewer MACs, by L1, the latter weighted by ``cost``:
    the gradient is that of ``-value + cost * MACs``, all standardised, however little is asked for. SGD at ``rate`` on
    the standardised continuous code, clipped to the range of each number. Rounding is for the report only, and no rule
    picks a winner.

    Raises:
        AiopError: a start outside the space.
    """
    vectors = predictor.vectors
    point = vectors.encode([start])
    found = []
    for number in range(steps + 1):
        code = vectors.decode(point)[0]
        found.append(Step(code, point[0], predictor.predict([code])[0]))
        if number == steps:
            break
        x = predictor.standardise(point).requires_grad_()
        outputs = predictor(x)[0]
        (gradient,) = torch.autograd.grad(cost * outputs[-2] - outputs[0], x)
        point = vectors.relax(predictor.restore(x - rate * gradient))
    return found


def propagate(
    predictor: CodePredictor,
    starts: Sequence[str],
    weights: Array,
    *,
    budget: tuple[float, float] | None = None,
    steps: int = STEPS,
    cost: float | None = None,
    at_valid: bool = True,
) -> Found:
    """Move several codes at once toward a better weighted sum of values within a budget.

    Args:
        predictor: of T tasks.
        starts: codes to start from.
        weights: ``(T,)`` of the standardised values, below 0 for what is to shrink (`objective_weights`).
        budget: fewest and most MACs, as the predictor counts them; None for any.
        steps: of each start. Their length falls from 0.4 to 0.08 deviations of the code's numbers.
        cost: weight of the standardised MACs, below which codes are not followed; 0 with a budget and 0.5, as
            published, without.
        at_valid: whether gradients are those at the valid code next to a point, where predictors were trained, or at
            the point itself.

    Returns:
        What the budget allows of the codes judged on the way, starts included; possibly nothing.
    """
    if cost is None:
        cost = _COST if budget is None else 0.0
    bounds = None if budget is None else tuple(predictor.standard_macs(bound) for bound in budget)
    aims = torch.from_numpy(np.asarray(weights, np.float32))
    vectors = predictor.vectors
    points = vectors.relax(vectors.encode(starts))
    seen: dict[bytes, tuple[Array, Array]] = {}
    for number in range(steps + 1):
        valid = vectors.nearest(points)
        x = predictor.standardise(valid if at_valid else points).requires_grad_()
        outputs = predictor(x)
        judged = outputs.detach()
        if not at_valid:
            with torch.inference_mode():
                judged = predictor(predictor.standardise(valid))
        for row, output in zip(valid, judged.double().numpy(), strict=True):
            seen.setdefault(row.tobytes(), (row, output))
        if number == steps:
            break
        macs = outputs[:, -2]
        loss = cost * macs - outputs[:, :-2] @ aims
        if bounds is not None:
            outside = (bounds[0] - macs).clamp(min=0) + (macs - bounds[1]).clamp(min=0)
            loss = loss + _PENALTY * outside
        (gradient,) = torch.autograd.grad(loss.sum(), x)
        share = (1 + math.cos(math.pi * number / steps)) / 2
        length = _SHORTEST + (_LONGEST - _SHORTEST) * share
        size = gradient.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-9)
        moved = predictor.standardise(points) - length * gradient / size
        if bounds is not None:
            moved = _back(predictor, moved, bounds)
        points = vectors.relax(predictor.restore(moved))
    rows, outputs_seen = (np.stack(parts) for parts in zip(*seen.values(), strict=True))
    score = outputs_seen[:, :-2] @ np.asarray(weights, np.float64) - cost * outputs_seen[:, -2]
    predicted = predictor.in_units(outputs_seen)
    inside = np.ones(len(rows), bool)
    if budget is not None:
        inside = (predicted[:, -2] >= budget[0]) & (predicted[:, -2] <= budget[1])
    order = np.flatnonzero(inside)[np.argsort(-score[inside], kind="stable")]
    codes = [vectors.spell(row) for row in rows[order]]
    return Found(tuple(codes), score[order], predicted[order], len(rows))


def _back(predictor: CodePredictor, points: Tensor, bounds: Sequence[float]) -> Tensor:
    """Move points ``(n, D)`` outside a budget to where their MACs, taken as linear, meet it."""
    x = points.detach().requires_grad_()
    macs = predictor(x)[:, -2]
    (gradient,) = torch.autograd.grad(macs.sum(), x)
    excess = (macs - bounds[1]).clamp(min=0) - (bounds[0] - macs).clamp(min=0)
    squared = gradient.square().sum(dim=1).clamp(min=1e-6)
    return (x - (excess / squared)[:, None] * gradient).detach()


def objective_weights(
    tasks: Sequence[str], directions: Sequence[str], given: Mapping[str, float] | None = None
) -> Array:
    """Return the weights of standardised values ``(T,)``: given ones, 1 by default, in sum 1; below 0 to minimise.

    Raises:
        AiopError: a weight of another task, or weights that are not positive numbers.
    """
    given = given or {}
    for task, weight in given.items():
        if task not in tasks:
            raise AiopError(f'a weight is given to "{task}"{suggest(task, tasks)}: weigh {", ".join(tasks)}')
        if not (math.isfinite(weight) and weight > 0):
            raise AiopError(f"the weight of {task} is {weight:g}: give a number above 0")
    weights = np.array([given.get(task, 1.0) for task in tasks], np.float64)
    signs = np.where(np.asarray(directions) == "min", -1.0, 1.0)
    return np.asarray(signs * weights / weights.sum())
