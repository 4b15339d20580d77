"""Losses of dense prediction as pure functions; none reduces what it returns."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["centreness", "focal", "giou_loss"]


def focal(logits: Tensor, wanted: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss of every logit against 0 or 1 (Lin et al. 2017); both of one shape, which is returned."""
    cost = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    chance = torch.sigmoid(logits)
    missed = chance + wanted - 2 * chance * wanted  # 1 - the chance given to what is true
    weight = (1 - alpha) + (2 * alpha - 1) * wanted
    return weight * missed.pow(gamma) * cost


def giou_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """1 - generalised IoU (Rezatofighi et al. 2019) of boxes ``(n, 4)`` row by row: ``(n,)`` in [0, 2]."""
    low, high = torch.maximum(found[:, :2], wanted[:, :2]), torch.minimum(found[:, 2:], wanted[:, 2:])
    common = (high - low).clamp(min=0).prod(dim=1)
    area = (found[:, 2:] - found[:, :2]).clamp(min=0).prod(dim=1)
    union = area + (wanted[:, 2:] - wanted[:, :2]).prod(dim=1) - common
    low, high = torch.minimum(found[:, :2], wanted[:, :2]), torch.maximum(found[:, 2:], wanted[:, 2:])
    hull = (high - low).prod(dim=1)
    tiny = 1e-6
    return 1 - common / (union + tiny) + (hull - union) / (hull + tiny)


def centreness(places: Tensor, boxes: Tensor) -> Tensor:
    """How central places ``(n, 2)`` lie in their boxes ``(n, 4)``: 1 in the middle, 0 at the edge; ``(n,)``."""
    before = (places - boxes[:, :2]).clamp(min=0)
    after = (boxes[:, 2:] - places).clamp(min=0)
    share = torch.minimum(before, after) / torch.maximum(before, after).clamp(min=1e-6)
    return share.prod(dim=1).sqrt()
