"""A folder of images and a JSON file in COCO's format (Lin et al. 2014) as scenes of one size.

Entries that cannot be used are left out and told by file and line; the others serve.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.tasks.latent.coco_images import GREY, inside, measure, pillow, pixels_of
from aiop.tasks.latent.coco_json import Entry, Problems, read_sections
from aiop.tasks.latent.coco_shapes import Fit, Polygons, Runs, numbers, read_shape
from aiop.tasks.latent.scene import VOID, Scene, SceneSpec

__all__ = ["CocoFolder"]

Array = npt.NDArray[Any]
MEMORY = 1 << 29  # bytes of scenes that are kept once they have been read
LOOSE = 1.0  # pixels that a box may lie outside its image: many tools round


@dataclass(frozen=True)
class _Object:
    """One annotation: label, left, top, right, bottom in the image, shape (None: the box), keypoints ``(K, 3)``."""

    label: int
    box: Array | None
    shape: Polygons | Runs | None
    keypoints: Array
    crowd: bool


@dataclass
class _Image:
    """A file that can be read, its line in the JSON, its size, and its annotations."""

    path: Path
    name: str
    line: int
    width: int
    height: int
    objects: list[_Object]


class CocoFolder:
    """Images and annotations in COCO's format as `Scenes`; an image is read when its scene is asked for.

    An image is scaled to its longer side and put in the middle of a grey square. Classes are those of the file, in the
    order of their ids; a category with ``"isthing": 0`` is stuff. Where there is stuff, pixels that nothing covers are
    void, as are those around an image. Where masks overlap the smaller object is on top. An annotation without a
    segmentation is as good as its box. Of objects too small for one pixel nothing remains.

    Args:
        images: folder of the images; ``file_name`` is relative to it and may not lead out of it.
        annotations: JSON file.
        size: height and width of the scenes, pixels.

    Attributes:
        spec: what the labels speak of.
        problems: what was left out, by file and line.

    Raises:
        AiopError: the folder or the file cannot be read, the file is not JSON of COCO's format, or nothing in it can
            be used.
    """

    def __init__(self, images: Path, annotations: Path, size: int) -> None:
        pillow()  # says what to install before any work is done
        images, annotations = Path(images), Path(annotations)
        if not images.is_dir():
            raise AiopError(f"{images} is no folder: give the folder of the images")
        self.problems = Problems(annotations)
        sections = read_sections(annotations, ("categories", "images", "annotations"))
        self._labels: dict[Any, int] = {}  # category id -> label
        self.spec = self._classes(sections["categories"], size)
        self._images, known = self._files(sections["images"], images.resolve())
        kept = sum(self._annotate(entry, known) for entry in sections["annotations"])
        if not self._images or not kept:
            what = "image" if not self._images else "annotation"
            first = f" (the first problem: {self.problems.told[0]})" if self.problems.told else ""
            raise AiopError(
                f"{annotations} has no {what} that can be used{first}; mend the file or give another"
            )
        self._read: dict[int, Scene] = {}
        self._memory = 0

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[Scene]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, row: int) -> Scene:
        if not -len(self) <= row < len(self):
            raise IndexError(f"scene {row} of {len(self)}")
        row %= len(self)
        scene = self._read.get(row)
        if scene is None:
            scene = self._scene(self._images[row])
            size = scene.image.nbytes + scene.masks.nbytes + scene.semantic.nbytes
            if self._memory + size <= MEMORY:
                self._memory += size
                self._read[row] = scene
        return scene

    def _classes(self, entries: list[Entry], size: int) -> SceneSpec:
        """Read the categories: labels by id, things first; keypoints are those of the first class that has any."""
        things: dict[int, str] = {}
        stuff: dict[int, str] = {}
        keypoints: tuple[str, ...] = ()
        for entry in entries:
            value = entry.value if isinstance(entry.value, dict) else {}
            number, name = value.get("id"), value.get("name")
            if not isinstance(number, int) or isinstance(number, bool) or not isinstance(name, str):
                self.problems.add(entry.line, "a category without a whole number as id and a name")
                continue
            if number in things or number in stuff or name in things.values() or name in stuff.values():
                self.problems.add(entry.line, f"category {name!r}, id {number}, is there twice")
                continue
            (stuff if value.get("isthing", 1) == 0 else things)[number] = name
            points = value.get("keypoints", [])
            if isinstance(points, list) and all(isinstance(point, str) for point in points):
                keypoints = keypoints or tuple(points)
        order = [*sorted(things), *sorted(stuff)]
        if not things or len(order) >= VOID:
            raise AiopError(
                f"{self.problems.file} names {len(things)} classes of things and {len(stuff)} of stuff: "
                f"give at least 1 of things and fewer than {VOID} together"
            )
        self._labels = {number: label for label, number in enumerate(order)}
        return SceneSpec(
            size,
            tuple(things[number] for number in sorted(things)),
            tuple(stuff[number] for number in sorted(stuff)),
            keypoints,
        )

    def _files(self, entries: list[Entry], root: Path) -> tuple[list[_Image], dict[Any, _Image | None]]:
        """Images that can be read, and by id all that are named: None where one is left out."""
        images: list[_Image] = []
        known: dict[Any, _Image | None] = {}
        for entry in entries:
            value = entry.value if isinstance(entry.value, dict) else {}
            number, name = value.get("id"), value.get("file_name")
            if not isinstance(number, (int, str)) or not isinstance(name, str):
                self.problems.add(entry.line, "an image without id and file_name")
                continue
            if number in known:
                self.problems.add(entry.line, f"image id {number!r} is there twice")
                continue
            known[number] = None
            try:
                path = inside(root, name)
                width, height = measure(path)
                said = (value.get("width", width), value.get("height", height))
                if said != (width, height):
                    raise ValueError(f"has {width} x {height} pixels, not {said[0]} x {said[1]} as stated")
            except ValueError as error:
                self.problems.add(entry.line, f"image {name!r} {error}")
                continue
            image = known[number] = _Image(path, name, entry.line, width, height, [])
            images.append(image)
        return images, known

    def _annotate(self, entry: Entry, known: dict[Any, _Image | None]) -> bool:
        """Read one annotation into its image; whether it serves."""
        value = entry.value if isinstance(entry.value, dict) else {}
        number, label = value.get("image_id"), value.get("category_id")
        name = f"annotation {value.get('id')!r}"
        if not isinstance(number, (int, str)) or number not in known:
            self.problems.add(entry.line, f"{name} is of image id {number!r}, which no image has")
            return False
        if not isinstance(label, int) or label not in self._labels:
            self.problems.add(entry.line, f"{name} is of category id {label!r}, which no category has")
            return False
        image = known[number]
        if image is None:  # told where the image stands
            return False
        try:
            image.objects.append(self._object(value, image))
        except ValueError as error:
            self.problems.add(entry.line, f"{name} has {error}")
            return False
        return True

    def _object(self, value: dict[str, Any], image: _Image) -> _Object:
        """Read what an annotation says.

        Raises:
            ValueError: what is wrong with it.
        """
        box = shape = None
        if value.get("bbox") is not None:
            left, top, width, height = numbers(value["bbox"], 4)
            box = np.array([left, top, left + width, top + height])
            limits = (image.width + LOOSE, image.height + LOOSE)
            if width <= 0 or height <= 0:
                raise ValueError(f"a box of {width:g} x {height:g} pixels")
            if min(left, top) < -LOOSE or box[2] > limits[0] or box[3] > limits[1]:
                place = " ".join(f"{side:g}" for side in box)
                raise ValueError(f"a box ({place}) outside its image of {image.width} x {image.height}")
        if value.get("segmentation") not in (None, []):
            shape = read_shape(value["segmentation"], image.width, image.height)
        if box is None and shape is None:
            raise ValueError("neither a box nor a segmentation")
        count = len(self.spec.keypoints)
        keypoints = np.zeros((count, 3), dtype=np.float64)
        if count and value.get("keypoints") is not None:
            try:
                keypoints = np.array(numbers(value["keypoints"], 3 * count)).reshape(count, 3)
            except ValueError as error:
                raise ValueError(f"{error} in its keypoints") from None
            if not np.isin(keypoints[:, 2], (0, 1, 2)).all():
                raise ValueError("a keypoint whose visibility is not 0, 1 or 2")
        return _Object(self._labels[value["category_id"]], box, shape, keypoints, bool(value.get("iscrowd")))

    def _scene(self, image: _Image) -> Scene:
        fit = Fit(image.width, image.height, self.spec.size)
        objects = image.objects
        try:
            pixels = pixels_of(image.path, fit)
        except ValueError as error:
            # Its header was sound; what it shows counts for nothing: no object, every pixel void.
            told = self.problems.add(image.line, f"image {image.name!r} cannot be decoded: {error}")
            warnings.warn(told, stacklevel=3)
            pixels, objects = np.full((fit.size, fit.size, 3), GREY, dtype=np.uint8), []
            semantic = np.full((fit.size, fit.size), VOID, dtype=np.uint8)
        else:
            things = len(self.spec.things)
            ground = VOID if self.spec.stuff else things
            semantic = fit.square(np.full(fit.inner[::-1], ground, dtype=np.uint8), VOID)
        drawn = [(one, mask) for one in objects if (mask := _mask(one, fit)).any()]
        for one, mask in sorted(
            drawn, key=lambda pair: (pair[0].label < len(self.spec.things), -pair[1].sum())
        ):
            semantic[mask] = one.label
        drawn = [(one, mask) for one, mask in drawn if one.label < len(self.spec.things)]
        count = len(drawn)
        keypoints = np.zeros((count, len(self.spec.keypoints), 3), dtype=np.float32)
        boxes = np.zeros((count, 4), dtype=np.float32)
        for row, (one, mask) in enumerate(drawn):
            boxes[row] = _box(one, mask, fit)
            seen = one.keypoints[:, 2] > 0
            keypoints[row, seen, :2] = fit.points(one.keypoints[seen, :2])
            keypoints[row, :, 2] = one.keypoints[:, 2]
        return Scene(
            image=pixels,
            classes=np.array([one.label for one, _ in drawn], dtype=np.int64),
            boxes=boxes,
            masks=np.array([mask for _, mask in drawn], dtype=bool).reshape(count, fit.size, fit.size),
            keypoints=keypoints,
            semantic=semantic,
            crowd=np.array([one.crowd for one, _ in drawn], dtype=bool),
            name=image.name,
        )


def _corners(one: _Object, fit: Fit) -> Array:
    assert one.box is not None
    box = one.box.clip(0, [fit.width, fit.height, fit.width, fit.height])
    return fit.points(box.reshape(2, 2)).ravel()


def _mask(one: _Object, fit: Fit) -> Array:
    """Its shape, or its box, in the square: bool ``(size, size)``."""
    if one.shape is not None:
        return one.shape.mask(fit)
    left, top, right, bottom = _corners(one, fit).round().astype(int)
    mask = np.zeros((fit.size, fit.size), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def _box(one: _Object, mask: Array, fit: Fit) -> Array:
    """Left, top, right, bottom in the square: its box as annotated, else that of its mask."""
    if one.box is not None:
        return _corners(one, fit)
    down, right = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([right[0], down[0], right[-1] + 1, down[-1] + 1])
