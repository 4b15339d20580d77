"""Objects and labels of pixels -> panoptic segments (heuristics of Kirillov et al. 2019, "Panoptic segmentation")."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.tasks.latent.heads.decoding import Found
from aiop.tasks.latent.scene import SceneSpec

__all__ = ["merge"]

CONFIDENT = 0.4  # the least score of an object that becomes a segment
FREE = 0.5  # the least share of its mask that no better object has taken
AREA = 1 / 100  # the least area of a segment of stuff, as a share of the image


def merge(
    found: Found, spec: SceneSpec, confident: float = CONFIDENT, free: float = FREE, area: float = AREA
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Give every pixel to one segment at most.

    Objects come first, best first; each takes what is left of its mask, or nothing where too little is left. Every
    class of stuff takes the remaining pixels labelled with it; pixels labelled as things that no object took stay void.

    Returns:
        int32 ``(H, W)``: 0 for void, s for segment s - 1; and class of every segment, int64 ``(segments,)``
        (`SceneSpec.labels`; without classes of stuff no segment is stuff).
    """
    segments: npt.NDArray[np.int32] = np.zeros(found.semantic.shape, dtype=np.int32)
    classes: list[int] = []
    for row in np.flatnonzero(found.scores >= confident):
        mask: npt.NDArray[Any] = found.masks[row]
        left = mask & (segments == 0)
        count = int(left.sum())
        if count and count >= free * mask.sum():
            classes.append(int(found.classes[row]))
            segments[left] = len(classes)
    for label in range(len(spec.things), len(spec.things) + len(spec.stuff)):
        left = (found.semantic == label) & (segments == 0)
        if int(left.sum()) >= area * segments.size:
            classes.append(label)
            segments[left] = len(classes)
    return segments, np.asarray(classes, dtype=np.int64)
