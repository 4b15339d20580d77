"""Scenes of digits, and training on them: the same steps, images and rates for every network that is compared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from aiop.graph_ir.tensor_file import atomic_path
from aiop.tasks.latent.digits import digit_scenes
from aiop.tasks.latent.heads.base import to_input
from aiop.tasks.latent.training import one_cycle, parameter_groups, shuffled

__all__ = ["FINE_TUNING", "OWN", "TRAINING", "Images", "Plan", "accuracy", "fit", "load_images", "resized"]

TRAIN, TEST = 6_000, 1_500
CALIBRATION = 256
"""Training images that methods may look at before they cut."""


@dataclass(frozen=True)
class Plan:
    """How a training goes: AdamW by a warmed-up cosine whose highest rate is ``rate``, so many steps of a batch.

    For the first ``zoom`` of the steps images are crops around the main digit that grow to whole scenes: without them a
    network from scratch may look at clutter for hundreds of steps before it learns anything.
    """

    steps: int
    rate: float
    batch: int = 32
    decay: float = 0.02
    smoothing: float = 0.1
    clip: float = 5.0
    zoom: float = 0.0


TRAINING = Plan(steps=700, rate=4e-3, zoom=0.5)
FINE_TUNING = Plan(steps=60, rate=1e-3)
OWN = {
    "vgg": replace(TRAINING, steps=400),
    "resnet": replace(TRAINING, steps=400),
    "transformer": replace(TRAINING, rate=2e-3),
}
"""Kinds that learn faster than the others, or at another rate."""


@dataclass(frozen=True, eq=False)
class Images:
    """Scenes and the class of each one's main digit: uint8 ``(n, 3, 64, 64)`` and int64 ``(n,)``, twice.

    train_boxes: float32 ``(n, 4)``, of the main digits: left, top, right, bottom in pixels.
    """

    train: Tensor
    train_classes: Tensor
    train_boxes: Tensor
    test: Tensor
    test_classes: Tensor

    def calibration(self) -> np.ndarray:
        """Images of training as networks read them, float32 ``(CALIBRATION, 3, 64, 64)`` within [-1, 1]."""
        return to_input(self.train[:CALIBRATION]).contiguous().numpy()


def load_images(folder: Path) -> Images:
    """Read the scenes, drawn by a seed of their own; a folder that has none gets them."""
    path = folder / f"digits-{TRAIN}-{TEST}.safetensors"
    if not path.exists():
        tensors: dict[str, Tensor] = {}
        for split, count in (("train", TRAIN), ("test", TEST)):
            scenes = digit_scenes(split, count, seed=0)  # type: ignore[arg-type]
            pictures = np.ascontiguousarray(
                np.stack([scenes[row].image for row in range(count)]).transpose(0, 3, 1, 2)
            )
            mains = [scenes[row].main or 0 for row in range(count)]
            classes = [int(scenes[row].classes[main]) for row, main in enumerate(mains)]
            tensors |= {split: torch.from_numpy(pictures), f"{split}_classes": torch.tensor(classes)}
            if split == "train":
                boxes = np.stack([scenes[row].boxes[main] for row, main in enumerate(mains)])
                tensors["train_boxes"] = torch.from_numpy(boxes)
        with atomic_path(path) as temporary:
            save_file(tensors, temporary)
    return Images(**load_file(path))


def fit(
    network: nn.Module, images: Images, plan: Plan, seed: int, size: int = 64, *, channels_last: bool = False
) -> None:
    """Train a network that reads images of ``size`` on the classes of the scenes, in place; it ends in evaluation mode.

    The images of every step depend on the plan and the seed only. ``channels_last`` is faster, but torch 2.13 writes
    beyond its memory there where an unpadded 1 x 1 convolution of stride 2 reads images, as some cut networks have it.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network.to(memory_format=layout).train()  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(parameter_groups(network, plan.rate, plan.decay), betas=(0.9, 0.99))
    for step, rows in enumerate(shuffled(len(images.train), plan.batch, plan.steps, seed)):
        for group in optimiser.param_groups:
            group["lr"] = group["highest"] * one_cycle(step, plan.steps, 0.15)
        pictures = to_input(images.train[rows])
        if step < plan.zoom * plan.steps:
            pictures = _zoomed(pictures, images.train_boxes[rows], step / (plan.zoom * plan.steps))
        logits = network(resized(pictures, size).contiguous(memory_format=layout))
        loss = nn.functional.cross_entropy(logits, images.train_classes[rows], label_smoothing=plan.smoothing)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), plan.clip)
        optimiser.step()
    network.eval()


def _zoomed(pictures: Tensor, boxes: Tensor, share: float) -> Tensor:
    """Crop images to 1.2 times their boxes at ``share`` 0, to all of them at 1, and to what is between in between."""
    size = pictures.shape[-1]
    corners = 2 * boxes / size - 1
    middle = (corners[:, :2] + corners[:, 2:]) / 2
    half = 0.6 * (corners[:, 2:] - corners[:, :2]).amax(dim=1, keepdim=True)
    middle, half = (1 - share) * middle, half + share * (1 - half)
    warp = torch.zeros(len(boxes), 2, 3)
    warp[:, 0, 0] = warp[:, 1, 1] = half[:, 0]
    warp[:, :, 2] = middle
    grid = nn.functional.affine_grid(warp, list(pictures.shape), align_corners=False)
    return nn.functional.grid_sample(pictures, grid, align_corners=False, padding_mode="reflection")


def resized(pictures: Tensor, size: int) -> Tensor:
    """Images ``(n, 3, H, W)`` scaled to ``size``, averaged where that is smaller; as they are where it is theirs."""
    if pictures.shape[-1] == size:
        return pictures
    return nn.functional.interpolate(pictures, (size, size), mode="bilinear", antialias=True)


def accuracy(network: nn.Module, images: Images, size: int = 64) -> float:
    """Return the top-1 accuracy on the scenes of the test, %, of a network that reads images of ``size``."""
    with torch.inference_mode():
        parts = torch.split(images.test, 125)
        found = [network(resized(to_input(part), size).contiguous()).argmax(dim=1) for part in parts]
    return 100.0 * float((torch.cat(found) == images.test_classes).double().mean())
