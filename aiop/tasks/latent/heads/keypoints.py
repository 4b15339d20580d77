"""Keypoints of a scene's main object, on a crop of it: deconvolutions to heatmaps (Xiao et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from aiop.errors import AiopError
from aiop.tasks.latent.heads.base import Prepared, Record, TaskHead
from aiop.tasks.latent.metrics import pck
from aiop.tasks.latent.scene import Scene, SceneSpec

__all__ = ["KeypointHead", "crop_of", "heatmaps"]

ENLARGED = 1.25  # a crop's side over its object's longer side
SIGMA = 1.0  # of the Gaussian around a keypoint, cells of the heatmap
THRESHOLD = 0.1  # of PCK, unless another is given


def crop_of(scene: Scene, row: int, size: int) -> tuple[Tensor, Tensor]:
    """The square around one object, resized, and the object's keypoints in it.

    The square has `ENLARGED` times the longer side of the object's box; what lies outside the image is black.

    Returns:
        uint8 ``(3, size, size)``, and float32 ``(K, 3)``: x, y in pixels of the crop, visibility.
    """
    left, top, right, bottom = (float(value) for value in scene.boxes[row])
    side = max(right - left, bottom - top, 1.0) * ENLARGED
    x, y = (left + right - side) / 2, (top + bottom - side) / 2
    height, width = scene.image.shape[:2]
    image = torch.from_numpy(np.ascontiguousarray(scene.image.transpose(2, 0, 1))).float()[None]
    # The centre of the crop's pixel j lies at x + (j + 1/2) side / size; grid_sample wants [-1, 1] over the image.
    steps = (torch.arange(size) + 0.5) * (side / size)
    across, down = (x + steps) * (2 / width) - 1, (y + steps) * (2 / height) - 1
    grid = torch.stack([across[None, :].expand(size, size), down[:, None].expand(size, size)], dim=-1)
    crop = functional.grid_sample(
        image, grid[None], mode="bilinear", padding_mode="zeros", align_corners=False
    )
    points = torch.from_numpy(scene.keypoints[row].astype(np.float32)).clone()
    points[:, :2] = (points[:, :2] - torch.tensor([x, y])) * (size / side)
    return crop[0].round().clamp(0, 255).to(torch.uint8), points


def heatmaps(points: Tensor, shape: tuple[int, int], stride: float) -> Tensor:
    """Gaussians of height 1 around points ``(n, K, 2 or more)`` in pixels -> ``(n, K, *shape)``."""
    down = (torch.arange(shape[0]) + 0.5) - points[:, :, 1:2] / stride
    across = (torch.arange(shape[1]) + 0.5) - points[:, :, :1] / stride
    spread = -0.5 / SIGMA**2
    return torch.exp(spread * down**2)[..., :, None] * torch.exp(spread * across**2)[..., None, :]


class KeypointHead(TaskHead):
    """Two deconvolutions from the coarsest feature map to one heatmap per keypoint: the ``keypoints`` task.

    Args:
        spec: labels of the data. channels, strides: of the body's feature maps, finest first.
        width: channels of the deconvolutions.
        threshold: of PCK, how far a prediction may be off, as a share of the object's longer side. The tighter, the
            more two good bodies differ.

    Raises:
        AiopError: where the data has no keypoints.
    """

    tasks: ClassVar[tuple[str, ...]] = ("keypoints",)
    group: ClassVar[str] = "keypoints"

    def __init__(
        self,
        spec: SceneSpec,
        channels: Sequence[int],
        strides: Sequence[int],
        width: int = 32,
        threshold: float = THRESHOLD,
    ) -> None:
        super().__init__(spec, channels, strides)
        self.threshold = threshold
        if not spec.keypoints:
            raise AiopError("the data has no keypoints: use data that has them, or leave keypoints out")
        layers: list[nn.Module] = []
        fed = self.channels[-1]
        for _ in range(2):
            layers += [nn.ConvTranspose2d(fed, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            fed = width
        self.layers = nn.Sequential(*layers)
        self.maps = nn.Conv2d(width, len(spec.keypoints), 1)
        nn.init.normal_(self.maps.weight, std=0.01)
        nn.init.zeros_(self.maps.bias)  # type: ignore[arg-type]
        self.cell = self.strides[-1] / 4

    def record(self, scene: Scene) -> Record | None:
        main = scene.main
        if main is None or not (scene.keypoints[main, :, 2] > 0).any():
            return None
        image, points = crop_of(scene, main, self.spec.size)
        return {"image": image, "points": points}

    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        return {"maps": self.maps(self.layers(features[-1]))}

    def loss(self, outputs: dict[str, Tensor], targets: Record) -> Tensor:
        """Squared difference to the Gaussians, summed over a map, mean over the keypoints that are labelled."""
        maps, points = outputs["maps"], targets["points"]
        wanted = heatmaps(points, (maps.shape[2], maps.shape[3]), self.cell)
        labelled = (points[:, :, 2] > 0).float()
        squares = (maps - wanted).square().sum(dim=(2, 3))
        return (squares * labelled).sum() / labelled.sum().clamp(min=1)

    def decode(self, outputs: dict[str, Tensor]) -> list[Any]:
        """Per image float32 ``(K, 2)``, pixels of the crop: the peak, moved to the top of a Gaussian through it."""
        maps = outputs["maps"]
        n, k, height, width = maps.shape
        flat = maps.reshape(n, k, -1).clamp(min=1e-3).log()  # the logarithm of a Gaussian is a parabola
        peak = flat.argmax(dim=2)
        places = []
        for at, step, extent in ((peak % width, 1, width), (peak // width, width, height)):
            before = flat.gather(2, (peak - step * (at > 0))[..., None])[..., 0]
            here = flat.gather(2, peak[..., None])[..., 0]
            after = flat.gather(2, (peak + step * (at < extent - 1))[..., None])[..., 0]
            bend = (2 * here - before - after).clamp(min=1e-6)
            inside = (at > 0) & (at < extent - 1)
            shift = ((after - before) / (2 * bend)).clamp(-0.5, 0.5) * inside
            places.append((at + 0.5 + shift) * self.cell)
        return list(torch.stack(places, dim=-1).numpy())

    def figures(self, predictions: list[Any], prepared: Prepared) -> dict[str, float]:
        """PCK at the head's threshold, %."""
        if "points" not in prepared.memo:
            prepared.memo["points"] = np.stack(
                [crop_of(scene, scene.main or 0, self.spec.size)[1].numpy() for scene in prepared.truth()]
            )
        measured: npt.NDArray[np.float32] = prepared.memo["points"]
        sizes = np.full(len(measured), self.spec.size / ENLARGED)
        return {"keypoints": pck(np.stack(predictions), measured, sizes, self.threshold)}
