"""A head that fits every body: trained on features of many, never on one body alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from aiop.errors import AiopError
from aiop.graph_ir.checkpoint import resume_checkpoint, save_checkpoint, under
from aiop.tasks.latent.heads.base import Prepared, TaskHead
from aiop.tasks.latent.latent_sampling import Source
from aiop.tasks.latent.training import (
    FitSettings,
    Progress,
    one_cycle,
    optimiser_tensors,
    parameter_groups,
    restore_optimiser,
    shuffled,
)

__all__ = ["HeadTraining", "train_shared_head"]


@dataclass(frozen=True)
class HeadTraining:
    """What a training cost: steps, and CPU seconds over all its parts where it was interrupted."""

    steps: int
    seconds: float


def train_shared_head(
    head: TaskHead,
    source: Source,
    prepared: Prepared,
    settings: FitSettings,
    *,
    seed: int,
    checkpoint: Path | None = None,
    identity: str = "",
    every: int = 100,
    progress: Progress | None = None,
) -> HeadTraining:
    """Train a head in place on the features that ``source`` gives; it is left in evaluation mode.

    The outcome depends on the head's weights at the start, the source, the data, the settings and the seed only,
    interrupted or not.

    checkpoint: a file from which an interrupted training goes on, written every ``every`` steps and at the end; a
    finished one is read and nothing is trained. identity: of all that the training depends on.

    Raises:
        AiopError: for a damaged checkpoint, or one of another ``identity``; where the loss stops being a number.
    """
    head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    head.train()
    optimiser = torch.optim.AdamW(parameter_groups(head, settings.rate, settings.decay), betas=(0.9, 0.99))
    done, seconds = 0, 0.0
    if checkpoint is not None:
        otherwise = "of a head trained with other settings: delete it, or give another folder"
        found = resume_checkpoint(checkpoint, lambda: {"identity": identity}, otherwise)
        if found is not None:
            done, seconds = _restore(head, optimiser, *found, path=checkpoint)
    before, begun = done, time.process_time()

    def save() -> None:
        if checkpoint is not None:
            state = {"identity": identity, "step": done, "seconds": seconds + time.process_time() - begun}
            save_checkpoint(checkpoint, _tensors(head, optimiser), state)

    for step, rows in enumerate(shuffled(len(prepared), settings.batch, settings.steps, seed)):
        if step < done:
            continue
        share = one_cycle(step, settings.steps, settings.warmup)
        for group in optimiser.param_groups:
            group["lr"] = group["highest"] * share
        images, targets = prepared.batch(rows)
        loss = head.loss(head(source.features(images, step)), targets)
        value = float(loss.detach())
        if value != value:
            raise AiopError(
                f"the loss of {head.group} is no number at step {step + 1}: lower the learning rate"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(head.parameters(), settings.clip)
        optimiser.step()
        done = step + 1
        if done % every == 0 and done < settings.steps:
            save()
        if progress is not None:
            progress(done, settings.steps, value)
    head.eval()
    result = HeadTraining(done, seconds + time.process_time() - begun)
    if done > before:
        save()
    return result


def _tensors(head: TaskHead, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {f"head.{name}": value for name, value in head.state_dict().items()}
    return tensors | optimiser_tensors(optimiser)


def _restore(
    head: TaskHead,
    optimiser: torch.optim.Optimizer,
    tensors: dict[str, Tensor],
    state: dict[str, object],
    path: Path,
) -> tuple[int, float]:
    """Put a checkpoint into head and optimiser; returns steps done and their seconds."""
    try:
        head.load_state_dict(under(tensors, "head."))
        restore_optimiser(optimiser, tensors)
        return int(str(state["step"])), float(str(state["seconds"]))
    except (KeyError, ValueError, RuntimeError):
        raise AiopError(f"checkpoint {path} is not of this head: delete it to train from the start") from None
