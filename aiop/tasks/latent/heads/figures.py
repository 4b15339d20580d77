"""Figures of the four dense tasks from what was found in every image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aiop.tasks.latent import metrics
from aiop.tasks.latent.heads.base import Prepared
from aiop.tasks.latent.heads.decoding import Found
from aiop.tasks.latent.heads.panoptic import merge
from aiop.tasks.latent.scene import VOID, SceneSpec

__all__ = ["confusion", "dense_figures"]


def confusion(
    measured: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8], labels: int
) -> npt.NDArray[np.int64]:
    """How many pixels of each label (rows) were given each label (columns); those of `VOID` are left out."""
    known = measured != VOID
    pairs = measured[known].astype(np.int64) * labels + predicted[known]
    return np.bincount(pairs, minlength=labels**2).reshape(labels, labels)


def dense_figures(found: Sequence[Found], prepared: Prepared, spec: SceneSpec) -> dict[str, float]:
    """Box AP and mask AP (50:95), mean IoU and panoptic quality, %, over the scenes that were prepared."""
    truth = prepared.memo.get("truth")
    if truth is None:
        truth = prepared.memo["truth"] = metrics.ground_truth(prepared.truth(), spec)
    counts = np.zeros((spec.labels, spec.labels), dtype=np.int64)
    for scene, prediction in zip(prepared.truth(), found, strict=True):
        counts += confusion(scene.semantic, prediction.semantic, spec.labels)
    merged = [merge(prediction, spec) for prediction in found]
    return {
        "detection": metrics.average_precision(truth, found, "bbox"),
        "instance": metrics.average_precision(truth, found, "segm"),
        "semantic": metrics.mean_iou(counts),
        "panoptic": metrics.panoptic_quality(prepared.truth(), spec, merged),
    }
