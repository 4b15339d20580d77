"""Textured backgrounds: the four stuff classes of the digit scenes, drawn from a random generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["STUFF", "background", "strokes"]

Array = npt.NDArray[Any]
STUFF = ("plain", "stripes", "checks", "noise")
ONE_TEXTURE = 0.35  # share of the scenes whose whole background is of one texture


def _pattern(kind: str, rng: np.random.Generator, size: int) -> Array:
    """How much of the second colour each pixel has: float ``(size, size)`` in [0, 1]."""
    if kind == "noise":
        blotches = ndimage.gaussian_filter(
            rng.standard_normal((size, size)), rng.uniform(0.6, 1.8), mode="wrap"
        )
        return np.asarray(0.5 + 0.25 * blotches / blotches.std()).clip(0, 1)
    angle = rng.uniform(0, np.pi)
    rows, columns = np.mgrid[:size, :size]
    along = np.cos(angle) * columns + np.sin(angle) * rows
    across = np.cos(angle) * rows - np.sin(angle) * columns
    if kind == "plain":  # a slow slope of brightness
        return np.asarray(0.5 + 0.25 * (along - along.mean()) / size)
    period = rng.uniform(4, 11) * size / 64
    phase, other = rng.uniform(0, 2 * np.pi, 2)
    wave = np.sin(2 * np.pi * along / period + phase)
    if kind == "checks":
        wave = wave * np.sin(2 * np.pi * across / period + other)
    return np.asarray(0.5 + 2 * wave).clip(0, 1)  # flat tops, edges of about a pixel


def background(rng: np.random.Generator, size: int) -> tuple[Array, Array]:
    """One texture, or two that differ with a straight line between them.

    Returns:
        image: float ``(size, size, 3)`` in [0, 1].
        stuff: int64 ``(size, size)``, index into `STUFF` of every pixel.
    """
    kinds = rng.permutation(len(STUFF))[:2]
    side = np.zeros((size, size), dtype=np.int64)
    if rng.random() >= ONE_TEXTURE:
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.25, 0.25)
        rows, columns = np.mgrid[:size, :size] / size - 0.5
        side = (np.cos(angle) * columns + np.sin(angle) * rows > offset).astype(np.int64)
    image = np.empty((size, size, 3))
    for index in np.unique(side):
        first = rng.uniform(0.05, 0.95, 3)
        second = (first + rng.uniform(0.15, 0.45) * rng.choice([-1, 1], 3)).clip(0, 1)
        share = _pattern(STUFF[kinds[index]], rng, size)[..., None]
        image[side == index] = (first + share * (second - first))[side == index]
    return image, kinds[side]


def strokes(image: Array, rng: np.random.Generator, most: int) -> None:
    """Draw up to ``most`` short straight strokes of any colour into ``image``, float ``(size, size, 3)``."""
    size = len(image)
    rows, columns = np.mgrid[:size, :size]
    for _ in range(int(rng.integers(most + 1))):
        x, y = rng.uniform(0, size, 2)
        angle, half = rng.uniform(0, np.pi), rng.uniform(2, 7) * size / 64
        thick = rng.uniform(0.6, 1.6) * size / 64
        along = np.cos(angle) * (columns - x) + np.sin(angle) * (rows - y)
        across = np.cos(angle) * (rows - y) - np.sin(angle) * (columns - x)
        outside = np.hypot(np.maximum(np.abs(along) - half, 0), across)
        ink = (thick - outside + 0.5).clip(0, 1)[..., None]
        image += ink * (rng.uniform(0, 1, 3) - image)
