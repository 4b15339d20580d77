"""Labels of a body: the truth of an individual training, and the cheap guess of a shared head tuned briefly."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aiop.tasks.latent.body import Body, recalibrate
from aiop.tasks.latent.draws import seed_of
from aiop.tasks.latent.heads.base import Prepared, TaskHead
from aiop.tasks.latent.supernet import Supernet
from aiop.tasks.latent.training import LabelSettings, Progress, fit

__all__ = ["Figures", "GroupData", "extracted", "fresh_head", "pseudo_label", "true_label"]


@dataclass(frozen=True)
class GroupData:
    """What the labels of one group of tasks are measured on.

    make: a fresh head. train, test: of this group. calibration: float ``(n, 3, H, W)``, images of the training split
    that the statistics of extracted bodies are estimated from.
    """

    group: str
    make: Callable[[], TaskHead]
    train: Prepared
    test: Prepared
    calibration: Tensor


@dataclass(frozen=True)
class Figures:
    """Figures in % by task, and what they cost: CPU seconds of the training, and of the evaluation after it."""

    figures: dict[str, float]
    seconds: float
    evaluation_seconds: float


def extracted(supernet: Supernet, code: str, calibration: Tensor) -> Body:
    """The body of a code with the supernet's weights and statistics of its own, in evaluation mode."""
    body = supernet.extract(code)
    recalibrate(body, calibration)
    return body.eval()


def fresh_head(data: GroupData, seed: int) -> TaskHead:
    """A head whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return data.make()


def true_label(
    code: str,
    supernet: Supernet,
    data: GroupData,
    settings: LabelSettings,
    seed: int,
    progress: Progress | None = None,
) -> Figures:
    """Train a body individually, from the supernet's weights and with a fresh head, and evaluate both.

    Raises:
        AiopError: where the loss stops being a number.
    """
    return _label(code, supernet, fresh_head(data, seed_of(seed, "head")), data, settings, seed, progress)


def pseudo_label(
    code: str,
    supernet: Supernet,
    shared_head: TaskHead,
    data: GroupData,
    settings: LabelSettings,
    seed: int,
    progress: Progress | None = None,
) -> Figures:
    """Attach a copy of a shared head to a body, tune both briefly, and evaluate both.

    Raises:
        AiopError: where the loss stops being a number.
    """
    return _label(code, supernet, copy.deepcopy(shared_head), data, settings, seed, progress)


def _label(
    code: str,
    supernet: Supernet,
    head: TaskHead,
    data: GroupData,
    settings: LabelSettings,
    seed: int,
    progress: Progress | None,
) -> Figures:
    begun = time.process_time()
    body = supernet.extract(code)
    if not settings.recalibrate:
        recalibrate(body, data.calibration)
    fit(body, head, data.train, settings, seed=seed, progress=progress)
    if settings.recalibrate:
        recalibrate(nn.Sequential(body, head).eval(), data.calibration)
    trained = time.process_time()
    figures = head.evaluate(body, data.test)
    return Figures(figures, trained - begun, time.process_time() - trained)
