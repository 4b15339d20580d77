"""Which place of the feature maps answers for which object: FCOS (Tian et al. 2019) with centre sampling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["BACKGROUND", "IGNORED", "assign", "levels_of", "locations"]

BACKGROUND, IGNORED = -1, -2  # classes of a place that answers for no object, and of one that is not judged
RADIUS = 1.5  # places as near as this to an object's centre answer for it, in strides
SPAN = 4.0  # a level takes objects whose longer side is at most this many of its strides, the coarsest all others


def locations(size: int, strides: Sequence[int]) -> Tensor:
    """Centres of the cells of all levels in pixels, finest level first, row by row: float32 ``(L, 2)``, x and y."""
    levels = []
    for stride in strides:
        line = (torch.arange(size // stride) + 0.5) * stride
        down, across = torch.meshgrid(line, line, indexing="ij")
        levels.append(torch.stack([across.reshape(-1), down.reshape(-1)], dim=1))
    return torch.cat(levels)


def levels_of(size: int, strides: Sequence[int]) -> Tensor:
    """Level of every place of `locations`: int64 ``(L,)``."""
    counts = torch.tensor([(size // stride) ** 2 for stride in strides])
    return torch.repeat_interleave(torch.arange(len(strides)), counts)


def assign(
    boxes: Tensor, classes: Tensor, crowd: Tensor, size: int, strides: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Class and object of every place.

    A place answers for an object of its level when it lies in the object's box within `RADIUS` strides of the
    centre, or when its cell holds the centre; of two objects it takes the smaller. Places inside the boxes of crowds
    are ignored unless they answer for an object.

    Args:
        boxes: float ``(m, 4)``, left, top, right, bottom, pixels.
        classes: int ``(m,)``.
        crowd: bool ``(m,)``.
        size: of the image.
        strides: of the levels, finest first.

    Returns:
        class int16 ``(L,)``, or `BACKGROUND` or `IGNORED`; object int16 ``(L,)``, -1 where there is none.
    """
    places, levels = locations(size, strides), levels_of(size, strides)
    step = torch.tensor([float(stride) for stride in strides])
    label = torch.full((len(places),), BACKGROUND, dtype=torch.int16)
    owner = torch.full((len(places),), -1, dtype=torch.int16)
    if not len(boxes):
        return label, owner
    x, y = places[:, 0, None], places[:, 1, None]
    inside = (x > boxes[:, 0]) & (y > boxes[:, 1]) & (x < boxes[:, 2]) & (y < boxes[:, 3])
    label[(inside & crowd).any(dim=1)] = IGNORED
    sides = boxes[:, 2:] - boxes[:, :2]
    wanted = (sides.amax(dim=1)[:, None] > SPAN * step[:-1]).sum(dim=1)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    reach = step[levels][:, None]
    away = (places[:, None] - centres).abs()
    near = (away <= RADIUS * reach[:, :, None]).all(dim=2) & inside
    holds = (away <= 0.5 * reach[:, :, None]).all(dim=2)
    answers = (near | holds) & (levels[:, None] == wanted) & ~crowd
    areas = torch.where(answers, sides.prod(dim=1), torch.inf)
    least, chosen = areas.min(dim=1)
    taken = least < torch.inf
    label[taken] = classes[chosen[taken]].to(torch.int16)
    owner[taken] = chosen[taken].to(torch.int16)
    return label, owner
