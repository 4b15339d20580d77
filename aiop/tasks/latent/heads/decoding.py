"""From raw outputs of dense prediction to objects: non-maximum suppression, and masks from prototypes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Found", "box_overlaps", "find", "object_masks", "suppressed"]

CANDIDATES = 100  # the best of an image that are looked at
LEAST = 0.1  # the least score
KEPT = 20  # objects of an image, at most
OVERLAP = 0.6  # of two of one class that overlap by more than this IoU the better stays


@dataclass(frozen=True)
class Found:
    """What was found in one image; m objects, best first.

    classes int64 ``(m,)``; scores float32 ``(m,)`` in [0, 1]; boxes float32 ``(m, 4)``, pixels;
    masks bool ``(m, H, W)``, inside their boxes; semantic uint8 ``(H, W)``, class of every pixel.
    """

    classes: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    masks: npt.NDArray[np.bool_]
    semantic: npt.NDArray[np.uint8]


def box_overlaps(boxes: Tensor) -> Tensor:
    """IoU of every two boxes of one image: ``(n, k, 4)`` -> ``(n, k, k)``; 0 for two empty ones."""
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    common = (high - low).clamp(min=0).prod(dim=3)
    areas = (boxes[:, :, 2:] - boxes[:, :, :2]).clamp(min=0).prod(dim=2)
    return common / (areas[:, :, None] + areas[:, None, :] - common).clamp(min=1e-9)


def suppressed(boxes: Tensor, classes: Tensor, valid: Tensor, overlap: float = OVERLAP) -> Tensor:
    """Greedy non-maximum suppression within every image and class at once: which stay, bool ``(n, k)``.

    Args:
        boxes: ``(n, k, 4)``, best first in every image.
        classes: ``(n, k)``.
        valid: bool ``(n, k)``, those that count at all.
        overlap: IoU above which the worse of two goes.
    """
    rivals = (box_overlaps(boxes) > overlap) & (classes[:, :, None] == classes[:, None, :])
    rivals = rivals.triu(1)  # only the better of two suppresses
    stay = valid.clone()
    for row in range(boxes.shape[1]):
        stay &= ~(rivals[:, row] & stay[:, row, None])
    return stay


def object_masks(coefficients: Tensor, prototypes: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Masks of k objects of one image, cut at their boxes (YOLACT, Bolya et al. 2019): bool ``(k, size, size)``.

    Args:
        coefficients: ``(k, p)``.
        prototypes: ``(p, h, w)``.
        boxes: ``(k, 4)``, pixels.
        size: height and width of the image.
    """
    logits = torch.einsum("kp,phw->khw", coefficients, prototypes)
    logits = functional.interpolate(logits[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0]
    line = torch.arange(size) + 0.5
    across = (line >= boxes[:, :1]) & (line <= boxes[:, 2:3])
    down = (line >= boxes[:, 1:2]) & (line <= boxes[:, 3:4])
    return (logits > 0) & across[:, None, :] & down[:, :, None]


def find(outputs: dict[str, Tensor], size: int) -> list[Found]:
    """Objects and labels of pixels in every image of a batch.

    Args:
        outputs: "logits" ``(n, L, C)`` and "centreness" ``(n, L)`` before the sigmoid, "boxes" ``(n, L, 4)`` in
            pixels, "coefficients" ``(n, L, p)``, "prototypes" ``(n, p, h, w)``, "semantic" ``(n, labels, h, w)``.
        size: height and width of the images.
    """
    logits = outputs["logits"]
    n, places, classes = logits.shape
    scores = (torch.sigmoid(logits) * torch.sigmoid(outputs["centreness"])[:, :, None]).sqrt()
    best, index = scores.reshape(n, -1).topk(min(CANDIDATES, places * classes), dim=1)
    place, label = index // classes, index % classes
    boxes = outputs["boxes"].gather(1, place[:, :, None].expand(-1, -1, 4)).clamp(0, size)
    stay = suppressed(boxes, label, best >= LEAST)
    stay &= stay.cumsum(dim=1) <= KEPT
    semantic = functional.interpolate(
        outputs["semantic"], (size, size), mode="bilinear", align_corners=False
    ).argmax(dim=1)
    found = []
    for image in range(n):
        kept = stay[image]
        coefficients = outputs["coefficients"][image][place[image][kept]]
        masks = object_masks(coefficients, outputs["prototypes"][image], boxes[image][kept], size)
        found.append(
            Found(
                _array(label[image][kept]),
                _array(best[image][kept]),
                _array(boxes[image][kept]),
                _array(masks),
                _array(semantic[image].to(torch.uint8)),
            )
        )
    return found


def _array(values: Tensor) -> npt.NDArray[Any]:
    return np.asarray(values.numpy())
