"""Which units of a group matter most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError, suggest

if TYPE_CHECKING:
    from aiop.search.editing.coupling.groups import Coupling, Group

__all__ = ["IMPORTANCES", "Importance", "check_importance", "ranked"]

Importance = Literal["magnitude", "random", "first", "smallest"]
"""Which units are kept: those of the largest weights, drawn ones, the first ones, those of the smallest weights."""

IMPORTANCES: tuple[str, ...] = get_args(Importance)

Labels = npt.NDArray[np.int64]
Norms = npt.NDArray[np.float64]


def check_importance(importance: str) -> None:
    """Raise an `AiopError` where no importance is called so."""
    if importance not in IMPORTANCES:
        raise AiopError(
            f'importance "{importance}" is unknown{suggest(importance, IMPORTANCES)}: '
            f"choose one of {', '.join(IMPORTANCES)}"
        )


def ranked(coupling: Coupling, group: Group, importance: str, seed: int) -> tuple[Labels, ...]:
    """Return the units of each part of a group, what matters most first; weights are read once per network."""
    key = (group.where, importance, seed)
    known = coupling.orders.get(key)
    if known is None:
        known = coupling.orders[key] = _rank(coupling, group, importance, seed)
    return known


def _rank(coupling: Coupling, group: Group, importance: str, seed: int) -> tuple[Labels, ...]:
    if importance == "first":
        return group.parts
    if importance == "random":
        rng = np.random.default_rng((seed, group.first_part))
        return tuple(rng.permutation(part) for part in group.parts)
    scores = magnitude(coupling, group)
    sign = 1.0 if importance == "smallest" else -1.0
    ranks, start = [], 0
    for part in group.parts:
        own = scores[start : start + len(part)]
        ranks.append(part[np.argsort(sign * own, kind="stable")])
        start += len(part)
    return tuple(ranks)


def magnitude(coupling: Coupling, group: Group) -> Norms:
    """Return the importance of every unit of a group, part by part: ``(units,)``.

    The L2 norm of what belongs to the unit in a weight, divided by its mean over the units, is averaged over all
    weights that hold the unit: group importance after Fang et al. (DepGraph, CVPR 2023).
    """
    units = np.concatenate(group.parts)
    place = np.full(coupling.count, -1, np.int64)
    place[units] = np.arange(len(units))
    total, held = np.zeros(len(units)), np.zeros(len(units))
    for name, axes in coupling.weights.items():
        for number, axis in enumerate(axes):
            if axis is None:
                continue
            places = place[coupling.label[axis]]
            inside = places >= 0
            if not inside.any():
                continue
            squares = _squares(coupling, name)[number]
            if squares is None:
                continue
            norms = np.sqrt(np.bincount(places[inside], squares[inside], len(units)))
            here = np.bincount(places[inside], minlength=len(units)) > 0
            mean = float(norms[here].mean())
            if mean > 0 and np.isfinite(mean):
                total[here] += norms[here] / mean
                held[here] += 1
    result: Norms = total / np.maximum(held, 1)
    return result


def _squares(coupling: Coupling, name: str) -> list[Norms | None]:
    """Return per axis of a weight the sums of squares over all others, None for vectors that scale nothing."""
    known = coupling.norms.get(name)
    if known is not None:
        return known
    tensor = coupling.tensors.get(name)
    rank = len(coupling.weights[name])
    if (
        tensor is None
        or not tensor.dtype.is_floating_point()
        or (_wide(coupling, name) < 2 and name not in coupling.gains)
    ):
        known = [None] * rank
    else:
        squares = np.square(np.asarray(tensor.numpy(), np.float32))
        known = [
            squares.sum(axis=tuple(other for other in range(rank) if other != axis), dtype=np.float64)
            for axis in range(rank)
        ]
    coupling.norms[name] = known
    return known


def _wide(coupling: Coupling, name: str) -> int:
    return sum(1 for axis in coupling.weights[name] if axis is not None and len(axis) > 1)
