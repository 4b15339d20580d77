"""What a vision data set gives: images with things, masks, keypoints and a label of every pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["VOID", "InMemoryScenes", "Scene", "SceneSpec", "Scenes"]

Array = npt.NDArray[Any]
VOID = 255  # the semantic label of pixels that count for nothing


@dataclass(frozen=True)
class SceneSpec:
    """What the labels of a data set speak of.

    size: height and width of every image, pixels.
    things: names of the C classes of countable objects; an object's class is its index here.
    stuff: names of the S classes of what cannot be counted; a pixel of one is labelled C + its index.
    keypoints: names of the K keypoints of an object; none where the data set has none.
    """

    size: int
    things: tuple[str, ...]
    stuff: tuple[str, ...] = ()
    keypoints: tuple[str, ...] = ()

    @property
    def labels(self) -> int:
        """Classes of pixels: things, then stuff; without stuff, one class for whatever is no thing."""
        return len(self.things) + max(1, len(self.stuff))


@dataclass(frozen=True)
class Scene:
    """One image and its labels; m objects, which do not overlap where masks are of what is visible.

    image: uint8 ``(H, W, 3)``.
    classes: int64 ``(m,)``.
    boxes: float32 ``(m, 4)``, left, top, right, bottom in pixels, of the visible part, right and bottom excluded.
    masks: bool ``(m, H, W)``, what is visible.
    keypoints: float32 ``(m, K, 3)``, x, y, visibility (COCO: 0 not labelled, 1 hidden, 2 visible).
    semantic: uint8 ``(H, W)``, class of every pixel (`SceneSpec.labels`), `VOID` where unknown.
    crowd: bool ``(m,)``, objects that stand for many and are not judged (COCO's iscrowd).
    name: of the image, for messages.
    """

    image: Array
    classes: Array
    boxes: Array
    masks: Array
    keypoints: Array
    semantic: Array
    crowd: Array
    name: str = ""

    @property
    def main(self) -> int | None:
        """Row of the object of which most pixels are visible, the first of equals; the scene's class is its class."""
        countable = np.flatnonzero(~self.crowd)
        if not len(countable):
            return None
        areas = self.masks[countable].reshape(len(countable), -1).sum(axis=1)
        return int(countable[int(areas.argmax())])


class Scenes(Protocol):
    """A sequence of scenes of one size and one set of classes; a scene may be read from disk when it is asked for."""

    @property
    def spec(self) -> SceneSpec:
        """What the labels speak of."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Scene: ...

    def __iter__(self) -> Iterator[Scene]: ...


class InMemoryScenes:
    """Scenes that are all in memory."""

    def __init__(self, spec: SceneSpec, scenes: Sequence[Scene]) -> None:
        self._spec = spec
        self._scenes = tuple(scenes)

    @property
    def spec(self) -> SceneSpec:
        """What the labels speak of."""
        return self._spec

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, row: int) -> Scene:
        return self._scenes[row]

    def __iter__(self) -> Iterator[Scene]:
        return iter(self._scenes)
