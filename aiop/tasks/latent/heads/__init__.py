"""Heads that turn a body's feature maps into tasks: classes, keypoints, boxes, masks, labels of pixels, segments."""

from __future__ import annotations

from collections.abc import Sequence

from aiop.errors import AiopError, suggest
from aiop.tasks.latent.heads.base import TASKS, BodyLike, Prepared, Record, TaskHead, to_input
from aiop.tasks.latent.heads.classification import ClassificationHead
from aiop.tasks.latent.heads.dense import DenseHead
from aiop.tasks.latent.heads.keypoints import KeypointHead
from aiop.tasks.latent.scene import SceneSpec

__all__ = [
    "GROUPS",
    "TASKS",
    "BodyLike",
    "ClassificationHead",
    "DenseHead",
    "KeypointHead",
    "Prepared",
    "Record",
    "TaskHead",
    "head_for",
    "to_input",
]

HEADS: dict[str, type[TaskHead]] = {
    head.group: head for head in (ClassificationHead, KeypointHead, DenseHead)
}
GROUPS = tuple(HEADS)


def head_for(
    group: str,
    spec: SceneSpec,
    channels: Sequence[int],
    strides: Sequence[int],
    threshold: float | None = None,
) -> TaskHead:
    """A fresh head of a group (`GROUPS`) for bodies of these channels and strides; weights from torch's generator.

    threshold: of PCK, for keypoints; None is the head's own.

    Raises:
        AiopError: for an unknown group, or data that the head cannot serve.
    """
    if group not in HEADS:
        raise AiopError(
            f"group {group!r} is unknown{suggest(group, GROUPS)}: expected one of {', '.join(GROUPS)}"
        )
    if threshold is not None and group == KeypointHead.group:
        return KeypointHead(spec, channels, strides, threshold=threshold)
    return HEADS[group](spec, channels, strides)
