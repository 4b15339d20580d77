"""Scenes as a folder in COCO's format: PNG images and one JSON file."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from aiop.errors import AiopError
from aiop.tasks.latent.coco_images import pillow
from aiop.tasks.latent.coco_shapes import run_lengths
from aiop.tasks.latent.scene import Scene, Scenes, SceneSpec

__all__ = ["ANNOTATIONS", "IMAGES", "write_coco_folder"]

IMAGES = "images"
ANNOTATIONS = "annotations.json"


def _annotations(scene: Scene, image: int, spec: SceneSpec) -> list[dict[str, Any]]:
    """The objects of a scene, then its stuff; category ids are labels + 1."""
    height, width = scene.semantic.shape
    found = []
    for row, label in enumerate(scene.classes):
        left, top, right, bottom = (float(side) for side in scene.boxes[row])
        entry: dict[str, Any] = {
            "image_id": image,
            "category_id": int(label) + 1,
            "bbox": [left, top, right - left, bottom - top],
            "area": int(scene.masks[row].sum()),
            "iscrowd": int(scene.crowd[row]),
            "segmentation": {"size": [height, width], "counts": run_lengths(scene.masks[row])},
        }
        if spec.keypoints:
            points = scene.keypoints[row]
            entry["keypoints"] = [float(value) for point in points for value in point]
            entry["num_keypoints"] = int((points[:, 2] > 0).sum())
        found.append(entry)
    for label in range(len(spec.things), len(spec.things) + len(spec.stuff)):
        mask = scene.semantic == label
        if mask.any():
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            sides = (columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])
            found.append(
                {
                    "image_id": image,
                    "category_id": label + 1,
                    "bbox": [float(side) for side in sides],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": {"size": [height, width], "counts": run_lengths(mask)},
                }
            )
    return found


def _categories(spec: SceneSpec) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, name in enumerate((*spec.things, *spec.stuff), start=1):
        thing = number <= len(spec.things)
        entry: dict[str, Any] = {"id": number, "name": name, "isthing": int(thing)}
        if thing and spec.keypoints:
            entry["keypoints"] = list(spec.keypoints)
        found.append(entry)
    return found


def write_coco_folder(scenes: Scenes, folder: Path) -> None:
    """Write ``folder/images/*.png`` and ``folder/annotations.json``, all of it or nothing.

    Every entry of the JSON file has a line of its own, so that messages about it can name the line.

    Raises:
        AiopError: the folder exists or cannot be written, or Pillow is not installed.
    """
    image_tools = pillow()
    if folder.exists():
        raise AiopError(f"{folder} exists: give the name of a folder that does not")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise AiopError(f"{folder} cannot be written: {error.strerror}") from None
    try:
        (unfinished / IMAGES).mkdir()
        images, annotations = [], []
        for number, scene in enumerate(scenes, start=1):
            name = f"{number:06d}.png"
            image_tools.fromarray(scene.image).save(unfinished / IMAGES / name)
            height, width = scene.semantic.shape
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            annotations += _annotations(scene, number, scenes.spec)
        for number, entry in enumerate(annotations, start=1):
            entry["id"] = number
        sections = {"categories": _categories(scenes.spec), "images": images, "annotations": annotations}
        lists = (
            f"{json.dumps(name)}: [\n" + ",\n".join(map(json.dumps, entries)) + "\n]"
            for name, entries in sections.items()
        )
        (unfinished / ANNOTATIONS).write_text("{\n" + ",\n".join(lists) + "\n}\n", encoding="utf-8")
        unfinished.chmod(0o755)  # a temporary folder is closed to others
        unfinished.rename(folder)
    except OSError as error:
        raise AiopError(f"{folder} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
