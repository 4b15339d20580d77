"""Training and judging a network of cells: steps of SGD on given rows of images, and the loss on others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from aiop.errors import AiopError
from aiop.search.weight_sharing.settings import DuelSettings
from aiop.tasks.latent.training import shuffled

__all__ = ["Judged", "batches", "judge", "train"]

_AT_ONCE = 250


class Judged(NamedTuple):
    """Mean cross entropy in nats, and share of images whose class is hit, in percent."""

    loss: float
    top1: float


def batches(
    rows: Tensor, settings: DuelSettings, seed: int, steps: int | None = None
) -> list[tuple[Tensor, int, int]]:
    """Return the rows ``(batch,)`` of every step and by how many pixels their images are moved, down and right.

    The same for the same seed: what is compared sees the same. ``steps`` replaces those of the settings.
    """
    batch = min(settings.batch, len(rows))
    count = (settings.steps if steps is None else steps) or max(1, len(rows) // batch)
    generator = torch.Generator().manual_seed(seed)
    shift = settings.shift
    moves = torch.randint(-shift, shift + 1, (count, 2), generator=generator).tolist()
    chosen = shuffled(len(rows), batch, count, seed)
    return [(rows[which], int(down), int(right)) for which, (down, right) in zip(chosen, moves, strict=True)]


def train(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    plan: Sequence[tuple[Tensor, int, int]],
    rate: Callable[[int], float],
    settings: DuelSettings,
) -> None:
    """Train a network in place by SGD, whose momentum begins at 0.

    Args:
        network: images ``(n, 3, H, W)`` -> logits.
        images: all there are, float32 ``(N, 3, H, W)``, channels last.
        labels: int64 ``(N,)``.
        plan: see `batches`.
        rate: step, from 0 -> learning rate.
        settings: of momentum, decay and clipping.

    Raises:
        AiopError: where the loss stops being a number.
    """
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    weights = list(network.parameters())
    optimiser = torch.optim.SGD(weights, rate(0), momentum=settings.momentum, weight_decay=settings.decay)
    for step, (rows, down, right) in enumerate(plan):
        optimiser.param_groups[0]["lr"] = rate(step)
        batch = torch.roll(images[rows], (down, right), (2, 3)) if down or right else images[rows]
        loss = functional.cross_entropy(network(batch), labels[rows])
        if not torch.isfinite(loss):
            raise AiopError(
                f"the loss is no number at step {step + 1}: lower the learning rate {rate(step):g}"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights, settings.clip)
        optimiser.step()


@torch.no_grad()
def judge(network: nn.Module, images: Tensor, labels: Tensor, rows: Tensor | None = None) -> Judged:
    """Return how a network does on images, all or some ``rows``; without running statistics batches of 250 norm it."""
    network.eval()
    chosen = torch.arange(len(images)) if rows is None else rows
    logits = torch.cat([network(images[part]) for part in torch.split(chosen, _AT_ONCE)])
    truth = labels[chosen]
    loss = float(functional.cross_entropy(logits, truth))
    return Judged(loss, 100 * float((logits.argmax(dim=1) == truth).float().mean()))
