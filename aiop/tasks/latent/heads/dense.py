"""Boxes, masks, labels of pixels and panoptic segments from one feature pyramid and one training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from aiop.errors import AiopError
from aiop.tasks.latent.heads.assignment import IGNORED, assign, levels_of, locations
from aiop.tasks.latent.heads.base import Prepared, Record, TaskHead
from aiop.tasks.latent.heads.decoding import find
from aiop.tasks.latent.heads.figures import dense_figures
from aiop.tasks.latent.heads.fpn import Pyramid, block, enlarged
from aiop.tasks.latent.heads.losses import centreness, focal, giou_loss
from aiop.tasks.latent.scene import VOID, Scene, SceneSpec

__all__ = ["DenseHead"]

RARE = 0.01  # chance of an object at a place before anything is learnt (Lin et al. 2017)
FINER = 2  # labels of pixels and masks are this much finer than the finest feature map


class DenseHead(TaskHead):
    """FPN; anchor-free boxes (FCOS), masks from prototypes (YOLACT), labels of pixels; all four dense tasks.

    Args:
        spec: labels of the data. channels, strides: of the body's feature maps, finest first.
        width: channels of the pyramid. prototypes: of masks.

    Raises:
        AiopError: where the size of the images is no multiple of the coarsest stride.
    """

    tasks: ClassVar[tuple[str, ...]] = ("detection", "instance", "semantic", "panoptic")
    group: ClassVar[str] = "dense"

    def __init__(
        self,
        spec: SceneSpec,
        channels: Sequence[int],
        strides: Sequence[int],
        width: int = 32,
        prototypes: int = 8,
    ) -> None:
        super().__init__(spec, channels, strides)
        if spec.size % self.strides[-1]:
            raise AiopError(
                f"images of {spec.size} pixels do not fit feature maps of stride {self.strides[-1]}: "
                f"choose a size that is a multiple of {self.strides[-1]}"
            )
        self.pyramid = Pyramid(self.channels, width)
        self.class_tower = block(width, width, 3)
        self.box_tower = block(width, width, 3)
        self.classes = nn.Conv2d(width, len(spec.things), 1)
        self.shape = nn.Conv2d(width, 5 + prototypes, 1)  # four distances, centre-ness, coefficients
        self.scales = nn.Parameter(torch.ones(len(self.strides)))
        self.merged = block(width, width, 3)
        self.pixels = nn.Conv2d(width, FINER**2 * (spec.labels + prototypes), 1)
        for layer in (self.classes, self.shape):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.classes.bias, -math.log((1 - RARE) / RARE))  # type: ignore[arg-type]
        self.places: Tensor
        self.steps: Tensor
        self.register_buffer("places", locations(spec.size, self.strides), persistent=False)
        steps = torch.tensor(self.strides)[levels_of(spec.size, self.strides)].float()
        self.register_buffer("steps", steps, persistent=False)
        self.cell = self.strides[0] // FINER  # pixels to a side of one label of the finer maps

    def record(self, scene: Scene) -> Record | None:
        classes, boxes = torch.from_numpy(scene.classes), torch.from_numpy(scene.boxes).float()
        label, owner = assign(boxes, classes, torch.from_numpy(scene.crowd), self.spec.size, self.strides)
        side = self.spec.size // self.cell
        cells = torch.from_numpy(scene.masks).view(-1, side, self.cell, side, self.cell)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(scene.image.transpose(2, 0, 1))),
            "class": label,
            "object": owner,
            "boxes": boxes,
            "masks": (cells.float().mean(dim=(2, 4)) >= 0.5).to(torch.uint8),
            "semantic": _commonest(torch.from_numpy(scene.semantic), self.cell),
        }

    def collate(self, records: list[Record]) -> Record:
        """As the base, boxes and masks filled up with zeros to the most objects of any image."""
        most = max(1, *(len(record["boxes"]) for record in records))
        filled = [
            {
                name: functional.pad(value, (0, 0) * (value.dim() - 1) + (0, most - len(value)))
                if name in ("boxes", "masks")
                else value
                for name, value in record.items()
            }
            for record in records
        ]
        return super().collate(filled)

    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """Outputs as `decoding.find` describes them; L places of all levels, finest first."""
        levels = self.pyramid(features)
        logits, shapes = [], []
        for level, scale in zip(levels, self.scales, strict=True):
            logits.append(self.classes(self.class_tower(level)).permute(0, 2, 3, 1).flatten(1, 2))
            shape = self.shape(self.box_tower(level)).permute(0, 2, 3, 1).flatten(1, 2)
            shapes.append(torch.cat([shape[:, :, :4] * scale, shape[:, :, 4:]], dim=2))
        shape = torch.cat(shapes, dim=1)
        away = torch.exp(shape[:, :, :4].clamp(-6, 6)) * self.steps[:, None]
        merged = levels[0]
        for level in levels[1:]:
            merged = merged + enlarged(level, merged)
        pixels = functional.pixel_shuffle(self.pixels(self.merged(merged)), FINER)
        return {
            "logits": torch.cat(logits, dim=1),
            "boxes": torch.cat([self.places - away[:, :, :2], self.places + away[:, :, 2:]], dim=2),
            "centreness": shape[:, :, 4],
            "coefficients": torch.tanh(shape[:, :, 5:]),
            "semantic": pixels[:, : self.spec.labels],
            "prototypes": pixels[:, self.spec.labels :],
        }

    def loss(self, outputs: dict[str, Tensor], targets: Record) -> Tensor:
        """Focal, GIoU, centre-ness, mask and pixel losses, and what things cost once more; all with weight 1.

        Most places and pixels are background, and a short training learns little else. Therefore places that answer
        for an object, and pixels of things, also pay the cross-entropy of their class by themselves.
        """
        label = targets["class"].long()
        image, place = (label >= 0).nonzero(as_tuple=True)
        count = max(1, len(image))
        wanted = torch.zeros_like(outputs["logits"])
        wanted[image, place, label[image, place]] = 1.0
        judged = (label != IGNORED).float()[:, :, None]
        total = (focal(outputs["logits"], wanted) * judged).sum() / count
        semantic = targets["semantic"].long()
        known = (semantic != VOID).sum().clamp(min=1)
        total = total + functional.cross_entropy(
            outputs["semantic"], semantic, ignore_index=VOID, reduction="sum"
        ).div(known)
        thing = semantic < len(self.spec.things)
        if thing.any():
            scores = outputs["semantic"].permute(0, 2, 3, 1)[thing]
            total = total + functional.cross_entropy(scores, semantic[thing])
        if not len(image):
            return total
        total = total + functional.cross_entropy(outputs["logits"][image, place], label[image, place])
        owner = targets["object"].long()[image, place]
        boxes = targets["boxes"][image, owner]
        central = centreness(self.places[place], boxes)
        apart = giou_loss(outputs["boxes"][image, place], boxes)
        total = total + (apart * central).sum() / central.sum().clamp(min=1e-3)
        total = total + functional.binary_cross_entropy_with_logits(
            outputs["centreness"][image, place], central
        )
        return total + self._mask_loss(outputs, targets, image, place, owner, boxes)

    def _mask_loss(
        self,
        outputs: dict[str, Tensor],
        targets: Record,
        image: Tensor,
        place: Tensor,
        owner: Tensor,
        boxes: Tensor,
    ) -> Tensor:
        """Cross-entropy of the pixels inside each object's box, mean over the places that answer for objects."""
        prototypes = outputs["prototypes"]
        n, p, height, width = prototypes.shape
        # Places of one image share its prototypes: one product per image, its places in rows filled up with zeros.
        slot = torch.arange(len(image)) - torch.searchsorted(image, image)
        rows = prototypes.new_zeros((n, int(slot.max()) + 1, p))
        rows = rows.index_put((image, slot), outputs["coefficients"][image, place])
        logits = torch.bmm(rows, prototypes.flatten(2))[image, slot].view(-1, height, width)
        cells = boxes / self.cell
        down, across = torch.arange(height) + 0.5, torch.arange(width) + 0.5
        inside = ((across > cells[:, :1]) & (across < cells[:, 2:3])).float()[:, None, :] * (
            (down > cells[:, 1:2]) & (down < cells[:, 3:4])
        ).float()[:, :, None]
        wanted = targets["masks"][image, owner].float()
        costs = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * inside
        return (costs.sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp(min=1)).mean()

    def decode(self, outputs: dict[str, Tensor]) -> list[Any]:
        """A `Found` per image."""
        return list(find(outputs, self.spec.size))

    def figures(self, predictions: list[Any], prepared: Prepared) -> dict[str, float]:
        """Box AP, mask AP, mean IoU and panoptic quality, %."""
        return dense_figures(predictions, prepared, self.spec)


def _commonest(labels: Tensor, cell: int) -> Tensor:
    """The commonest label of every square of cells, the least of equals: uint8 ``(H, W)`` -> ``(H/cell, W/cell)``."""
    height, width = labels.shape
    squares = labels.view(height // cell, cell, width // cell, cell).permute(0, 2, 1, 3).flatten(2)
    return squares.long().mode(dim=2).values.to(torch.uint8)
