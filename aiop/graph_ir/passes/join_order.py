"""Concatenations of permuted tensors: the same elements joined before the permutation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from aiop.graph_ir.passes.strided import Digit, Strided

__all__ = ["Join", "joined_before"]


class Join(NamedTuple):
    """Sizes to join tensors by before a permutation, the shape that gives, and the permutation as a view of it."""

    parts: tuple[int, ...]
    shape: tuple[int, ...]
    view: Strided


def joined_before(name: str, parts: Sequence[int], runs: int, views: Sequence[Strided]) -> Join | None:
    """Return how to join what ``views`` permute, under ``name``; ``None`` where they are permuted in different ways.

    ``parts`` are the sizes joined in each of ``runs`` runs, those of constants negative; a view for each of the others.
    A view that takes up one place of the axis joined along need not be permuted.
    """
    sizes = [part for part in parts if part > 0]
    laid = [view.grouped((runs, part)) for view, part in zip(views, sizes, strict=True)]
    largest = max(range(len(laid)), key=lambda at: sizes[at])
    model = laid[largest]
    if model is None or not model.axes[1]:
        return None
    outer = tuple(extent for extent, _ in model.axes[0])
    tail = tuple(extent for extent, _ in model.axes[1][1:])
    order = _order([*model.axes[0], *model.axes[1]])
    without = _order([*model.axes[0], *model.axes[1][1:]])
    heads: list[int] = []
    for view in laid:
        if view is None:
            return None
        first, inner = view.axes
        one = tuple(extent for extent, _ in inner) == tail
        if tuple(extent for extent, _ in first) != outer:
            return None
        if not one and (not inner or tuple(extent for extent, _ in inner[1:]) != tail):
            return None
        if _order([*first, *inner]) != (without if one else order):
            return None
        heads.append(1 if one else inner[0][0])
    if any(part % math.prod(tail) for part in parts):
        return None
    total = sum(heads) + sum(-part // math.prod(tail) for part in parts if part < 0)
    every = [*outer, total, *tail]
    shape = tuple(every[at] for at in order)
    strides = [0] * len(order)
    reach = within = 1
    for at in reversed(order):
        strides[at] = reach
        if at == len(outer):
            within = reach
        reach *= every[at]
    found = tuple(part // math.prod(tail) * within for part in parts)
    axes = tuple([((extent, stride),) for extent, stride in zip(every, strides, strict=True)])
    return Join(found, shape, Strided(name, 0, axes))


def _order(digits: Sequence[Digit]) -> list[int]:
    return sorted(range(len(digits)), key=lambda at: -digits[at][1])
