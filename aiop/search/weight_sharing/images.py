"""Images to train cells on: digits cut out of the drawn scenes, or the scans themselves; nothing is downloaded.

`digits` is what cells are compared on by default: the main digit of a scene of `aiop.tasks.latent.digits` with some of
its surroundings, at 16 x 16. Whole scenes at that size are learnt too slowly to tell cells apart in the seconds that a
cell has. `scans` lack ground, tilt and neighbours, and there are no more than 1,797 of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from aiop.errors import AiopError, suggest
from aiop.graph_ir.checkpoint import load_checkpoint, save_checkpoint

__all__ = ["IMAGES", "Images", "image_set"]

SIZE = 16
CLASSES = 10
_SCENE, _SURROUNDINGS = (
    32,
    1.3,
)  # pixels of a scene; side of what is cut out, of the larger side of the digit's box
_VERSION = 1


@dataclass(frozen=True)
class Images:
    """Labelled images for training, cut in two halves, and held-out ones.

    train, test: float32 ``(n, 3, H, W)``, each channel of mean 0 and deviation 1 over ``train``.
    train_labels, test_labels: int64 ``(n,)``, from 0 to ``classes - 1``.
    """

    name: str
    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: int = CLASSES

    @property
    def half(self) -> int:
        """Rows of ``train`` before which weights are trained, from which on cells are judged."""
        return len(self.train) // 2


def _digits(split: str, count: int) -> tuple[Tensor, Tensor]:
    from aiop.tasks.latent.digits import digit_scenes

    images, labels = [], []
    for scene in digit_scenes("train" if split == "train" else "test", count, 0, _SCENE):
        main = scene.main
        assert main is not None  # a drawn scene has one
        left, top, right, bottom = scene.boxes[main].tolist()
        images.append(_cut(torch.from_numpy(scene.image), left, top, right, bottom))
        labels.append(int(scene.classes[main]))
    return torch.stack(images), torch.tensor(labels)


def _cut(image: Tensor, left: float, top: float, right: float, bottom: float) -> Tensor:
    """uint8 ``(H, W, 3)`` -> uint8 ``(3, SIZE, SIZE)``: a square around a box; beyond the edge the edge goes on."""
    pixels = image.shape[0]
    side = _SURROUNDINGS * max(right - left, bottom - top)
    steps = (torch.arange(SIZE) + 0.5) / SIZE - 0.5
    columns = ((left + right) / 2 + side * steps) / pixels * 2 - 1
    rows = ((top + bottom) / 2 + side * steps) / pixels * 2 - 1
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)[None]
    whole = image.permute(2, 0, 1)[None].float()
    found = functional.grid_sample(whole, grid, padding_mode="border", align_corners=False)
    return found[0].round().to(torch.uint8)


def _scans(split: str, count: int) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    from aiop.tasks.latent.digits import scans_of

    scans = load_digits()
    rows = np.resize(
        scans_of("train" if split == "train" else "test"), count
    )  # over again where there are fewer
    images = torch.from_numpy(scans.images[rows]).float()[:, None] * (255 / 16)
    larger = functional.interpolate(images, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    return larger.round().to(torch.uint8).repeat(1, 3, 1, 1), torch.from_numpy(scans.target[rows]).long()


IMAGES: Mapping[str, Callable[[str, int], tuple[Tensor, Tensor]]] = {"digits": _digits, "scans": _scans}
"""Name -> what makes so many images of a split: uint8 ``(n, 3, H, W)`` and labels."""


def image_set(name: str, *, train: int = 6000, test: int = 2000, cache: Path | None = None) -> Images:
    """Return a set of images.

    Args:
        name: one of `IMAGES`.
        train: images for training, both halves together.
        test: held-out ones, of other writers' scans than the former.
        cache: folder in which what was drawn is kept; drawn anew each time where None.

    Raises:
        AiopError: an unknown name, or a cache that cannot be used.
    """
    if name not in IMAGES:
        raise AiopError(
            f'there are no images "{name}" to train on{suggest(name, IMAGES)}: choose one of {", ".join(IMAGES)}'
        )
    path = None if cache is None else cache / f"{name}-{train}-{test}-{_VERSION}.safetensors"
    if path is not None and path.exists():
        tensors, _ = load_checkpoint(path)
    else:
        tensors = {}
        for split, count in (("train", train), ("test", test)):
            tensors[split], tensors[f"{split}_labels"] = IMAGES[name](split, count)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_checkpoint(path, tensors, {"images": name})
    first = tensors["train"].float()
    mean, deviation = first.mean(dim=(0, 2, 3), keepdim=True), first.std(dim=(0, 2, 3), keepdim=True)

    def scaled(split: str) -> Tensor:
        return ((tensors[split].float() - mean) / deviation).contiguous(memory_format=torch.channels_last)

    return Images(name, scaled("train"), tensors["train_labels"], scaled("test"), tensors["test_labels"])
