"""Scenes of handwritten digits on textured backgrounds, drawn from the scans that scikit-learn carries.

Every digit is a sticker: the dark ink of one of the 1,797 scans (Alpaydin & Kaynak 1998, 8 x 8 pixels) on a bright
backing that follows the ink. A sticker hides what lies under it, and the largest one is the scene's main thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from sklearn.datasets import load_digits

from aiop.errors import AiopError
from aiop.tasks.latent.scene import InMemoryScenes, Scene, SceneSpec
from aiop.tasks.latent.textures import STUFF, background, strokes

__all__ = ["KEYPOINTS", "digit_scenes", "scans_of"]

Array = npt.NDArray[Any]
Split = Literal["train", "test"]
SPLITS = ("train", "test")
KEYPOINTS = ("top", "bottom", "left", "right", "centre")
TEST_SHARE = 1 / 3  # of the scans of every class

FINE = 4  # a scan is enlarged this many times before it is warped
BORDER = 8  # enlarged pixels around the scan: room for the backing
BACKING = 4.0  # width of the backing around the ink, enlarged pixels
INK = 0.4  # a pixel with at least this share of ink is ink

COUNTS = (0.22, 0.26, 0.24, 0.16, 0.12)  # how often a scene has 1, 2, ... 5 digits, before any is refused
MAIN = (24.0, 38.0)  # height of the main digit's scan, pixels of an image of 64
OTHER = (12.0, 22.0)  # of every other one's
TILT = 30.0  # degrees to either side
SEEN = 0.45  # share of a digit that stays visible
LEAD = 1.25  # the main digit's visible area is at least this many times any other's
# Full brightness is 1. What lies under the digits is neither as bright as paper nor as dark as ink, most of the time.
GROUND = (0.2, 0.7)
PAPER = (0.6, 1.0)
DARK = (0.0, 0.4)
NOISE = (0.02, 0.08)  # deviation of the noise of a scene's pixels
STROKES = 4  # at most this many strokes of clutter


@dataclass(frozen=True)
class _Sticker:
    """One enlarged scan: shares of ink and of backing ``(2, F, F)``, and its keypoints ``(K, 2)``, x and y there."""

    layers: Array
    keypoints: Array


@dataclass(frozen=True)
class _Placed:
    """A sticker in a scene: its class, ink and cover ``(H, W)`` in [0, 1], and keypoints ``(K, 2)`` in pixels."""

    label: int
    ink: Array
    cover: Array
    keypoints: Array

    @property
    def mask(self) -> Array:
        return np.asarray(self.cover > 0.5)


@lru_cache(maxsize=1)
def _scans() -> tuple[Array, Array]:
    """Shares of ink ``(1797, 8, 8)`` in [0, 1] and classes ``(1797,)``."""
    scans = load_digits()
    return scans.images / 16.0, scans.target


@lru_cache(maxsize=2)
def scans_of(split: Split) -> Array:
    """Rows of the scans that scenes of a split may use, int64, increasing; the two splits share none.

    Which scan goes where never changes, so scenes of any two seeds are as disjoint as those of one.
    """
    _, labels = _scans()
    rng = np.random.default_rng(1797)
    chosen = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        cut = round(TEST_SHARE * len(rows))
        chosen.append(rows[:cut] if split == "test" else rows[cut:])
    return np.sort(np.concatenate(chosen))


@lru_cache(maxsize=1797)
def _sticker(row: int) -> _Sticker:
    """The sticker of a scan. An end of the ink lies in the middle of what a scan's pixel from the end is ink."""
    scan = _scans()[0][row]
    large = ndimage.zoom(scan, FINE, order=3, mode="grid-constant", grid_mode=True).clip(0, 1)
    large = np.pad(large, BORDER)
    ink = large >= INK
    away = ndimage.distance_transform_edt(~ink)
    backing = (BACKING - away + 0.5).clip(0, 1)
    backing[ndimage.binary_fill_holes(away <= BACKING)] = 1.0
    rows, columns = np.nonzero(ink)
    ends = []
    for position, end in (
        (rows, rows.min()),
        (rows, rows.max()),
        (columns, columns.min()),
        (columns, columns.max()),
    ):
        near = np.abs(position - end) < FINE
        x, y = columns[near].mean(), rows[near].mean()
        ends.append((x, end) if position is rows else (end, y))
    centre = ndimage.center_of_mass(large)
    keypoints = np.array([*ends, (centre[1], centre[0])], dtype=np.float64)
    return _Sticker(np.stack([large, backing]), keypoints)


def _place(rng: np.random.Generator, row: int, scale: tuple[float, float], size: int) -> _Placed:
    """Put a scan somewhere into a scene of ``size``: scaled, stretched, tilted."""
    sticker, label = _sticker(row), int(_scans()[1][row])
    height = rng.uniform(*scale) * size / 64
    fine = height / (8 * FINE) * np.array([rng.uniform(0.8, 1.2), 1.0])  # pixels per enlarged pixel: x, y
    angle = np.deg2rad(rng.uniform(-TILT, TILT))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = rng.uniform(0.45 * height, size - 1 - 0.45 * height, 2)
    middle = (sticker.layers.shape[1] - 1) / 2
    keypoints = ((sticker.keypoints - middle) * fine) @ turn.T + centre
    # The warp asks where a pixel of the scene comes from, in rows and columns: the inverse, its axes swapped.
    inverse = (turn.T / fine[:, None])[::-1, ::-1]
    offset = middle - inverse @ centre[::-1]
    layers = [
        ndimage.affine_transform(layer, inverse, offset, (size, size), order=1) for layer in sticker.layers
    ]
    return _Placed(label, layers[0], layers[1], keypoints)


def _visible(stack: list[_Placed]) -> list[Array]:
    """What is seen of each sticker of a stack, its first the lowest: bool ``(H, W)`` each."""
    seen: list[Array] = []
    above = np.zeros_like(stack[0].mask)
    for placed in reversed(stack):
        seen.append(placed.mask & ~above)
        above = above | placed.mask
    return seen[::-1]


def _fits(stack: list[_Placed], main: _Placed) -> bool:
    """Whether every sticker of a stack is seen well enough, and the main one is the largest by far."""
    areas = [float(mask.sum()) for mask in _visible(stack)]
    if any(area < SEEN * placed.mask.sum() for area, placed in zip(areas, stack, strict=True)):
        return False
    first = next(area for area, placed in zip(areas, stack, strict=True) if placed is main)
    return all(first >= LEAD * area for area, placed in zip(areas, stack, strict=True) if placed is not main)


def _stack(rng: np.random.Generator, rows: Array, size: int) -> list[_Placed]:
    """The stickers of a scene from the lowest to the highest; one that finds no place after 4 attempts is left out."""
    main = _place(rng, int(rng.choice(rows)), MAIN, size)
    stack = [main]
    for _ in range(int(rng.choice(len(COUNTS), p=COUNTS))):
        for _ in range(4):
            placed = _place(rng, int(rng.choice(rows)), OTHER, size)
            level = int(rng.integers(len(stack) + 1))
            tried = [*stack[:level], placed, *stack[level:]]
            if _fits(tried, main):
                stack = tried
                break
    return stack


def _scene(rng: np.random.Generator, rows: Array, size: int, name: str) -> Scene:
    image, stuff = background(rng, size)
    semantic = (stuff + 10).astype(np.uint8)
    strokes(image, rng, STROKES)
    image = GROUND[0] + (GROUND[1] - GROUND[0]) * image
    stack = _stack(rng, rows, size)
    for placed in stack:
        paper, ink = rng.uniform(*PAPER, 3), rng.uniform(*DARK, 3)
        sticker = paper + placed.ink[..., None] * (ink - paper)
        image += placed.cover[..., None] * (sticker - image)
    light = np.array([[1.0, 1.0], [1.0, 1.0]]) + rng.uniform(-0.25, 0.25, (2, 2))
    image *= ndimage.zoom(light, size / 2, order=1, grid_mode=True, mode="nearest")[..., None]
    image += rng.uniform(*NOISE) * rng.standard_normal(image.shape)

    masks = np.stack(_visible(stack))
    boxes = np.empty((len(stack), 4), dtype=np.float32)
    keypoints = np.zeros((len(stack), len(KEYPOINTS), 3), dtype=np.float32)
    for row, (placed, mask) in enumerate(zip(stack, masks, strict=True)):
        semantic[mask] = placed.label
        down, right = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
        boxes[row] = right[0], down[0], right[-1] + 1, down[-1] + 1
        for index, (x, y) in enumerate(placed.keypoints):
            column, line = round(float(x)), round(float(y))
            if 0 <= column < size and 0 <= line < size:  # outside the image it is not labelled
                keypoints[row, index] = x, y, 2 if mask[line, column] else 1
    return Scene(
        image=np.asarray(image * 255).clip(0, 255).round().astype(np.uint8),
        classes=np.array([placed.label for placed in stack], dtype=np.int64),
        boxes=boxes,
        masks=masks,
        keypoints=keypoints,
        semantic=semantic,
        crowd=np.zeros(len(stack), dtype=bool),
        name=name,
    )


def digit_scenes(split: Split, count: int, seed: int = 0, size: int = 64) -> InMemoryScenes:
    """Scenes of 1 to 5 digits; scene ``i`` of a seed is the same however many are drawn.

    Args:
        split: ``"train"`` or ``"test"``; scenes of one use no scan of the other's, whatever their seeds.
        count: number of scenes, at least 1.
        seed: of everything that is drawn.
        size: height and width of a scene, pixels, at least 32.

    Raises:
        AiopError: for an unknown split, no scene or a scene too small to hold digits.
    """
    if split not in SPLITS:
        raise AiopError(f"split {split!r} is unknown: expected one of {', '.join(SPLITS)}")
    if count < 1 or size < 32 or seed < 0:
        raise AiopError(
            f"no digit scenes: count {count}, size {size}, seed {seed}; expected at least 1, 32 and 0"
        )
    rows = scans_of(split)
    spec = SceneSpec(size, tuple(map(str, range(10))), STUFF, KEYPOINTS)
    scenes = [
        _scene(
            np.random.default_rng([seed, SPLITS.index(split), index]),
            rows,
            size,
            f"{split}/{seed}/{index:05d}",
        )
        for index in range(count)
    ]
    return InMemoryScenes(spec, scenes)
