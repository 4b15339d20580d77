"""A supernet that detects: shared weights from classification, one head for all bodies, trained on bodies as drawn.

What is drawn is all that training with a path filter (DetOFA, ICCV workshops 2023, arXiv 2303.13121) changes: bodies of
the `WholeSpace`, as a once-for-all network is trained (Cai et al., ICLR 2020), or only the `Survivors` of a filter.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from aiop.errors import AiopError
from aiop.graph_ir.checkpoint import resume_checkpoint, save_checkpoint, under
from aiop.strict import at_least, between
from aiop.tasks.latent import metrics
from aiop.tasks.latent.body import SPACE, Body, recalibrate
from aiop.tasks.latent.heads import TaskHead, head_for
from aiop.tasks.latent.heads.base import Prepared
from aiop.tasks.latent.scene import SceneSpec
from aiop.tasks.latent.supernet import LARGEST_CODE, SMALLEST_CODE, Supernet
from aiop.tasks.latent.training import (
    Progress,
    data_identity,
    one_cycle,
    optimiser_tensors,
    restore_optimiser,
    shuffled,
)

__all__ = [
    "DetectionSettings",
    "Detector",
    "Drawn",
    "Survivors",
    "Trained",
    "WholeSpace",
    "box_ap",
    "train_detector",
]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class DetectionSettings:
    """How a supernet learns to detect.

    steps: of the optimiser. batch: images of a step. bodies: that learn in a step. rate: AdamW's highest learning
    rate, for the head; body_rate: for the shared weights, as a multiple of it. decay: of weights of more than one
    dimension. warmup: share of the steps in which the rate rises. clip: largest norm of the gradient. every: steps
    between checkpoints.

    Raises:
        AiopError: for a value out of its range.
    """

    steps: int = 1300
    batch: int = 32
    bodies: int = 2
    rate: float = 1e-2
    body_rate: float = 0.5
    decay: float = 0.05
    warmup: float = 0.1
    clip: float = 5.0
    every: int = 100

    def __post_init__(self) -> None:
        at_least(self, 1, "steps", "bodies", "every")
        at_least(self, 2, "batch")  # batch norm needs two
        at_least(self, 0, "rate", "body_rate", "decay")
        at_least(self, 1e-3, "clip")
        between(self, 0, 1, "warmup")


class Drawn(Protocol):
    """The bodies that a training draws from. largest, smallest: that take turns with what is drawn."""

    @property
    def largest(self) -> str: ...

    @property
    def smallest(self) -> str: ...

    @property
    def identity(self) -> str:
        """What makes another set another."""

    def draw(self, random: np.random.Generator) -> str:
        """Draw a code."""


class WholeSpace:
    """Every body of the space ``digits-ofa``, each choice drawn uniformly."""

    largest = LARGEST_CODE
    smallest = SMALLEST_CODE
    identity = "whole space"

    def draw(self, random: np.random.Generator) -> str:
        """See `Drawn.draw`."""
        return SPACE.sample(random)


class Survivors:
    """Bodies that a filter left over, all drawn equally often.

    The extremes that take turns in a training are those of the whole space, as without a filter: the largest body holds
    all weights that the others share, and what survives is not always large.

    codes: n of the space ``digits-ofa``, at least one.
    """

    largest = LARGEST_CODE
    smallest = SMALLEST_CODE

    def __init__(self, codes: Sequence[str]) -> None:
        if not len(codes):
            raise AiopError("no body survives, and none can be trained: keep a larger share")
        self.codes = tuple(codes)
        self.identity = "and the extremes: " + hashlib.sha256("\n".join(self.codes).encode()).hexdigest()

    def draw(self, random: np.random.Generator) -> str:
        """See `Drawn.draw`."""
        return self.codes[int(random.integers(len(self.codes)))]


class Detector(nn.Module):
    """A supernet and a head that detects in the feature maps of any of its bodies.

    supernet: taken as it is, not copied. spec: labels of the data. seed: of the head's first weights.
    """

    def __init__(self, supernet: Supernet, spec: SceneSpec, seed: int = 0) -> None:
        super().__init__()
        self.supernet = supernet
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head: TaskHead = head_for("dense", spec, Body.channels, Body.strides)
        self.head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss(self, code: str, images: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """The head's loss on features of the body of a code; batch norms use the statistics of the batch."""
        return self.head.loss(self.head(self.supernet.features(images, code)), targets)

    def extract(self, code: str, calibration: Tensor) -> tuple[Body, TaskHead]:
        """Copies of a body and of the head, with batch statistics of their own, in evaluation mode.

        calibration: uint8 or float ``(n, 3, H, W)``, images of the training split.

        Raises:
            AiopError: for a code outside the grammar, or no image.
        """
        body, head = self.supernet.extract(code), copy.deepcopy(self.head)
        recalibrate(nn.Sequential(body, head), calibration)
        return body.eval(), head.eval()


@dataclass(frozen=True)
class Trained:
    """What a training cost: steps, and CPU seconds over all its parts where it was interrupted."""

    steps: int
    seconds: float


def train_detector(
    detector: Detector,
    data: Prepared,
    drawn: Drawn,
    settings: DetectionSettings,
    *,
    seed: int,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train head and shared weights in place; the detector's own weights are where it starts.

    Every step trains ``settings.bodies`` bodies on one batch: in turn the largest, the smallest and a drawn one, beside
    further drawn ones. The outcome depends on the arguments alone, interrupted or not.

    data: prepared by the detector's head. checkpoint: a file from which an interrupted training goes on, written every
    ``settings.every`` steps and at the end; a finished one is read and nothing is trained.

    Raises:
        AiopError: for a damaged checkpoint, or one of another training, and where the loss is no number any more.
    """
    detector.train()
    optimiser = _optimiser(detector, settings)
    done, seconds = 0, 0.0

    def identity() -> dict[str, str]:
        return _identity(detector, data, drawn, settings, seed)

    first: dict[str, str] = {}
    if checkpoint is not None:
        first = identity()  # before a step is made: it holds what the weights were
        otherwise = "of a detection supernet trained with other {key}: delete it, or name another file"
        found = resume_checkpoint(checkpoint, lambda: first, otherwise)
        if found is not None:
            done, seconds = _restore(detector, optimiser, *found, path=checkpoint)
    before, begun = done, time.process_time()

    def save() -> None:
        if checkpoint is not None:
            tensors = {f"detector.{name}": value for name, value in detector.state_dict().items()}
            state = {"step": done, "seconds": seconds + time.process_time() - begun}
            save_checkpoint(checkpoint, tensors | optimiser_tensors(optimiser), state | first)

    for step, rows in enumerate(shuffled(len(data), settings.batch, settings.steps, seed)):
        if step < done:
            continue
        share = one_cycle(step, settings.steps, settings.warmup)
        for group in optimiser.param_groups:
            group["lr"] = group["highest"] * share
        # Every step draws from a generator of its own: nothing of it needs to be kept for going on.
        random = np.random.default_rng((seed, step))
        turn = (drawn.largest, drawn.smallest, drawn.draw(random))[step % 3]
        codes = [turn, *(drawn.draw(random) for _ in range(settings.bodies - 1))]
        images, targets = data.batch(rows)
        optimiser.zero_grad(set_to_none=True)
        value = 0.0
        for code in codes:
            loss = detector.loss(code, images, targets) / len(codes)
            loss.backward()  # type: ignore[no-untyped-call]
            value += float(loss.detach())
        if not math.isfinite(value):
            raise AiopError(
                f"the loss of the detection supernet is {value} at step {step + 1}: lower the learning rate, "
                f"{settings.rate}"
            )
        nn.utils.clip_grad_norm_(detector.parameters(), settings.clip)
        optimiser.step()
        done = step + 1
        if done % settings.every == 0 and done < settings.steps:
            save()
        if progress is not None:
            progress(done, settings.steps, value)
    result = Trained(done, seconds + time.process_time() - begun)
    if done > before:
        save()
    detector.eval()
    return result


def box_ap(detector: Detector, code: str, calibration: Tensor, data: Prepared, batch: int = 64) -> float:
    """Box AP 50:95 in % of the body of a code with the shared weights, statistics of body and head its own.

    calibration: images as `Detector.extract` takes them. data: prepared by the detector's head.

    Raises:
        AiopError: for a code outside the grammar, or no image to calibrate with.
    """
    body, head = detector.extract(code, calibration)
    truth = data.memo.get("truth")
    if truth is None:
        truth = data.memo["truth"] = metrics.ground_truth(data.truth(), head.spec)
    found: list[Any] = []
    with torch.inference_mode():
        for rows in torch.split(torch.arange(len(data)), batch):
            found += head.decode(head(body(data.batch(rows)[0])))
    return metrics.average_precision(truth, found, "bbox")


def _optimiser(detector: Detector, settings: DetectionSettings) -> torch.optim.AdamW:
    """Matrices decay; vectors, and the supernet's kernel matrices that start as the identity, do not."""
    groups: list[dict[str, Any]] = []
    slow = settings.rate * settings.body_rate
    for part, rate in ((cast(nn.Module, detector.head), settings.rate), (detector.supernet, slow)):
        named = list(part.named_parameters())
        still = [name for name, value in named if value.dim() <= 1 or name.startswith("kernels.")]
        for decay, values in (
            (settings.decay, [value for name, value in named if name not in still]),
            (0.0, [value for name, value in named if name in still]),
        ):
            groups.append({"params": values, "lr": rate, "weight_decay": decay, "highest": rate})
    return torch.optim.AdamW(groups, betas=(0.9, 0.99))


def _identity(
    detector: Detector, data: Prepared, drawn: Drawn, settings: DetectionSettings, seed: int
) -> dict[str, str]:
    """What makes another training another; the data by its size and a few of its images."""
    weights = hashlib.sha256()
    for value in detector.state_dict().values():
        weights.update(value.detach().contiguous().numpy().tobytes())
    return {
        "settings": json.dumps({name: value for name, value in asdict(settings).items() if name != "every"}),
        "seed": str(seed),
        "bodies": drawn.identity,
        "data": data_identity(data),
        "starting weights": weights.hexdigest(),
    }


def _restore(
    detector: Detector,
    optimiser: torch.optim.Optimizer,
    tensors: dict[str, Tensor],
    state: dict[str, Any],
    path: Path,
) -> tuple[int, float]:
    """Put a checkpoint into detector and optimiser; returns steps done and their seconds."""
    try:
        detector.load_state_dict(under(tensors, "detector."))
        restore_optimiser(optimiser, tensors)
        return int(state["step"]), float(state["seconds"])
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise AiopError(
            f"checkpoint {path} is not of this detection supernet: delete it to train from the start"
        ) from None
