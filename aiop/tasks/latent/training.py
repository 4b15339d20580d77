"""Training a body and a head together, the same way for every body, with its cost measured."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from aiop.errors import AiopError
from aiop.graph_ir.checkpoint import under
from aiop.strict import at_least, between
from aiop.tasks.latent.heads.base import Prepared, TaskHead

__all__ = [
    "FitSettings",
    "Fitted",
    "LabelSettings",
    "Progress",
    "data_identity",
    "fit",
    "one_cycle",
    "optimiser_tensors",
    "parameter_groups",
    "restore_optimiser",
    "shuffled",
]

Progress = Callable[[int, int, float], None]  # step (from 1), steps, loss of that step


@dataclass(frozen=True)
class FitSettings:
    """How a training goes.

    steps: of the optimiser. batch: images per step.
    rate: AdamW's highest learning rate, for the head. body_rate: for the body, as a multiple of `rate`.
    decay: weight decay of weights of more than one dimension. warmup: share of the steps in which the rate rises.
    clip: largest norm of the gradient.

    Raises:
        AiopError: for a value out of its range.
    """

    steps: int = 300
    batch: int = 32
    rate: float = 2e-3
    body_rate: float = 1.0
    decay: float = 0.05
    warmup: float = 0.15
    clip: float = 5.0

    def __post_init__(self) -> None:
        at_least(self, 1, "steps")
        at_least(self, 2, "batch")  # batch norm needs two
        at_least(self, 0, "rate", "body_rate", "decay")
        at_least(self, 1e-3, "clip")
        between(self, 0, 1, "warmup")


@dataclass(frozen=True)
class LabelSettings(FitSettings):
    """How a training goes that labels a body.

    recalibrate: batch statistics of body and head are estimated anew when the training is over, from the images for
        calibration. Otherwise those of the body are estimated before it, and those of both then follow its batches: a
        short training leaves a mixture of what was before and a few small batches.
    one_seed: one seed for all bodies of a group, so that they see the same images in the same order, with the heads of
        all methods, and begin with the same head where they begin with a fresh one: what differs is the body's.

    Labels made before a setting marked ``later`` came count as made with its default.
    """

    recalibrate: bool = field(default=False, metadata={"later": True})
    one_seed: bool = field(default=False, metadata={"later": True})


@dataclass(frozen=True)
class Fitted:
    """What a training took: seconds of CPU time of this process, loss of every step."""

    seconds: float
    losses: tuple[float, ...]


def one_cycle(step: int, steps: int, warmup: float) -> float:
    """Multiple of the highest rate at a step (0 .. steps - 1): up from 1/10 in a line, then down a cosine to 0.

    >>> [round(one_cycle(step, 11, 0.1), 2) for step in (0, 1, 6, 10)]
    [0.1, 1.0, 0.5, 0.02]
    """
    rising = max(1, round(warmup * steps))
    if step < rising:
        return 0.1 + 0.9 * step / rising
    turn = torch.pi * (step - rising) / max(1, steps - rising)
    return float(0.5 * (1 + torch.cos(torch.tensor(turn))))


def data_identity(data: Prepared) -> str:
    """What tells the data of a training from others: its size, and the images and classes of a few rows."""
    images, targets = data.batch(torch.arange(min(16, len(data))))
    seen = hashlib.sha256(images.contiguous().numpy().tobytes() + targets["class"].numpy().tobytes())
    return f"{len(data)} {seen.hexdigest()}"


def shuffled(count: int, batch: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Rows ``(batch,)`` of every step, pass after pass through all `count` in new orders; the same for the same seed.

    A batch that a pass cannot fill takes the rest from the next pass.
    """
    generator = torch.Generator().manual_seed(seed)
    waiting = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(waiting) < batch:
            waiting = torch.cat([waiting, torch.randperm(count, generator=generator)])
        yield waiting[:batch]
        waiting = waiting[batch:]


def parameter_groups(module: nn.Module, rate: float, decay: float) -> list[dict[str, object]]:
    """Groups of an optimiser: only weights of more than one dimension decay; a schedule scales ``highest``."""
    weights = [weight for weight in module.parameters() if weight.dim() > 1]
    others = [weight for weight in module.parameters() if weight.dim() <= 1]
    return [
        {"params": weights, "lr": rate, "weight_decay": decay, "highest": rate},
        {"params": others, "lr": rate, "weight_decay": 0.0, "highest": rate},
    ]


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimiser as a checkpoint holds it; `restore_optimiser` reads it back."""
    return {
        f"optimiser.{index}.{key}": value
        for index, values in optimiser.state_dict()["state"].items()
        for key, value in values.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put the state that `optimiser_tensors` returned, among other tensors, into an optimiser of the same weights."""
    kept: dict[int, dict[str, Tensor]] = {}
    for name, value in under(tensors, "optimiser.").items():
        index, _, key = name.partition(".")
        kept.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": kept})


def fit(
    body: nn.Module,
    head: TaskHead,
    prepared: Prepared,
    settings: FitSettings,
    *,
    seed: int,
    freeze_body: bool = False,
    progress: Progress | None = None,
) -> Fitted:
    """Train a head, and its body with it unless that is frozen, in place; both are left in evaluation mode.

    A frozen body keeps its batch statistics too. The outcome depends on the weights at the start, the data, the
    settings and the seed only.

    Raises:
        AiopError: where the loss stops being a number.
    """
    body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    body.train(not freeze_body)
    head.train()
    groups = parameter_groups(head, settings.rate, settings.decay)
    if not freeze_body:
        groups += parameter_groups(body, settings.rate * settings.body_rate, settings.decay)
    trained = [weight for group in groups for weight in group["params"]]  # type: ignore[attr-defined]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.99))
    losses: list[float] = []
    start = time.process_time()
    for step, rows in enumerate(shuffled(len(prepared), settings.batch, settings.steps, seed)):
        share = one_cycle(step, settings.steps, settings.warmup)
        for group in optimiser.param_groups:
            group["lr"] = group["highest"] * share
        images, targets = prepared.batch(rows)
        with torch.set_grad_enabled(not freeze_body):
            features = body(images)
        loss = head.loss(head(features), targets)
        losses.append(float(loss.detach()))
        if losses[-1] != losses[-1]:
            raise AiopError(
                f"the loss of {head.group} is no number at step {step + 1}: lower the learning rate"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, settings.clip)
        optimiser.step()
        if progress is not None:
            progress(step + 1, settings.steps, losses[-1])
    body.eval()
    head.eval()
    return Fitted(time.process_time() - start, tuple(losses))
