"""A task as numbers: what is measured, of what kind, on which data or device, and nothing of which search space.

Tasks that nobody trained on have such a description too, so that a predictor can say something about them.
"""

from __future__ import annotations

import hashlib
import math
import re
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from aiop.errors import AiopError
from aiop.tasks import get_space
from aiop.tasks.task import DOMAINS, Task

__all__ = ["DESCRIPTION", "DESCRIPTION_VERSION", "describe"]

DESCRIPTION_VERSION = 1

_METRICS = (
    "top1",
    "top5",
    "ap",
    "miou",
    "macc",
    "aacc",
    "ssim",
    "loss",
    "latency",
    "energy",
    "throughput",
    "time",
)
_UNITS = ("%", "loss", "SSIM", "ms", "s", "mJ", "images/s")
_HEADS = ("classification", "detection", "segmentation", "regression", "generation", "jigsaw")
# Words of devices and data sets beyond counting: hashed, each with a sign, so that few collide in all places.
_HASHED = 32

DESCRIPTION: tuple[str, ...] = (
    "higher_is_better", "log", "log_resolution", "log_classes", "form_known", "log_batch", "log_epochs",
    *(f"domain_{name}" for name in DOMAINS),
    *(f"metric_{name}" for name in _METRICS),
    *(f"unit_{name}" for name in _UNITS),
    *(f"head_{name}" for name in _HEADS),
    *(f"word_{number}" for number in range(_HASHED)),
)  # fmt: skip
"""Names of the entries of what `describe` returns."""


def describe(task: Task) -> NDArray[np.float32]:
    """Return a task's description, float32 (D,), entries of order 1.

    The input side, the number of outputs and the kind of head are those of the form of the search space that was
    measured; of a task whose space is not one of the package (``form_known`` 0) they are 0.
    """
    text = f"{task.metric} {task.dataset} {task.name.split('/')[-1]}".lower()
    words = sorted({word for word in re.split(r"[^a-z0-9.]+", text) if word and not word.isdigit()})
    side = classes = 0.0
    head = ""
    with suppress(AiopError):
        form = get_space(task.space).form(task.form or None)
        side, classes, head = float(max(form.shape[1:])), float(form.classes), form.head
    metric = [any(word.startswith(kind) for word in task.metric.split("-")) for kind in _METRICS]
    vector = [
        1.0 if task.direction == "max" else -1.0,
        float(task.transform == "log"),
        math.log2(1 + side) / 8,
        math.log10(1 + classes) / 2,
        float(bool(head)),
        math.log2(_number(r"batch (\d+)|batch(\d+)", text)) / 8,
        math.log2(_number(r"(\d+)[ -]?ep(?:och|\b)", text)) / 8,
        *(float(task.domain == name) for name in DOMAINS),
        *map(float, metric),
        *(float(task.unit == name) for name in _UNITS),
        *(float(head == name) for name in _HEADS),
        *_hashed(words),
    ]
    return np.array(vector, np.float32)


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return max(1.0, float(next(group for group in found.groups() if group))) if found else 1.0


def _hashed(words: list[str]) -> list[float]:
    """Sums of +-1 in the buckets of the words, of Euclidean length 2 at most."""
    sums = np.zeros(_HASHED)
    for word in words:
        digest = hashlib.sha256(word.encode()).digest()
        sums[digest[0] % _HASHED] += 1.0 if digest[1] % 2 else -1.0
    return [float(value) for value in 2 * sums / max(2.0, float(np.linalg.norm(sums)))]
