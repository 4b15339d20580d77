"""A COCO-format folder that the tests write: what is read back, and what is told of entries that cannot be used."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aiop.errors import AiopError
from aiop.tasks.latent.coco_folder import CocoFolder
from aiop.tasks.latent.coco_writer import ANNOTATIONS, IMAGES, write_coco_folder
from aiop.tasks.latent.digits import digit_scenes
from aiop.tasks.latent.scene import VOID

SECTIONS = ("categories", "images", "annotations")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coco") / "digits"
    write_coco_folder(digit_scenes("test", 5), folder)
    return folder


def read(folder: Path, size: int = 64) -> CocoFolder:
    return CocoFolder(folder / IMAGES, folder / ANNOTATIONS, size)


def small() -> dict[str, list[dict[str, Any]]]:
    """One image of 40 x 20: a cat as a polygon, a dog by its box, sky on the left half."""
    return {
        "categories": [
            {"id": 7, "name": "dog"},
            {"id": 3, "name": "cat", "keypoints": ["nose", "tail"]},
            {"id": 5, "name": "sky", "isthing": 0},
        ],
        "images": [{"id": 11, "file_name": "a.png", "width": 40, "height": 20}],
        "annotations": [
            {
                "id": 1,
                "image_id": 11,
                "category_id": 3,
                "bbox": [4, 2, 8, 12],
                "segmentation": [[4, 2, 12, 2, 12, 14, 4, 14]],
                "keypoints": [5, 3, 2, 0, 0, 0],
            },
            {"id": 2, "image_id": 11, "category_id": 7, "bbox": [24, 8, 10, 10], "iscrowd": 1},
            {
                "id": 3,
                "image_id": 11,
                "category_id": 5,
                "segmentation": {"size": [20, 40], "counts": [0, 400, 400]},
            },
        ],
    }


def write(folder: Path, content: dict[str, list[Any]]) -> Path:
    (folder / IMAGES).mkdir(exist_ok=True)
    Image.fromarray(np.full((20, 40, 3), 200, dtype=np.uint8)).save(folder / IMAGES / "a.png")
    lists = (
        f'"{name}": [\n' + ",\n".join(json.dumps(one) for one in content[name]) + "\n]" for name in SECTIONS
    )
    (folder / ANNOTATIONS).write_text("{\n" + ",\n".join(lists) + "\n}\n")
    return folder


def test_digit_scenes_come_back_as_they_were(digits: Path) -> None:
    scenes, found = digit_scenes("test", 5), read(digits)
    assert found.spec == scenes.spec
    assert len(found) == 5
    assert list(found.problems) == []
    for before, after in zip(scenes, found, strict=True):
        for name in ("image", "classes", "boxes", "masks", "semantic", "crowd", "keypoints"):
            np.testing.assert_allclose(getattr(after, name), getattr(before, name), atol=1e-4)


def test_a_larger_size_scales_the_labels(digits: Path) -> None:
    small_one, large = read(digits)[0], read(digits, 128)[0]
    assert large.image.shape == (128, 128, 3)
    np.testing.assert_allclose(large.boxes, 2 * small_one.boxes, atol=1e-4)
    assert large.masks[:, ::2, ::2].sum() == small_one.masks.sum()


def test_letterbox_classes_stuff_and_crowd(tmp_path: Path) -> None:
    found = read(write(tmp_path, small()), 20)  # 40 x 20 -> 20 x 10, five rows above and below
    assert found.spec.things == ("cat", "dog")  # by id
    assert found.spec.stuff == ("sky",)
    assert found.spec.keypoints == ("nose", "tail")
    scene = found[0]
    assert (scene.image[:5] == 127).all()
    assert (scene.image[5:15] == 200).all()
    assert scene.classes.tolist() == [0, 1]
    assert scene.crowd.tolist() == [False, True]
    assert scene.boxes.tolist() == [[2, 6, 6, 12], [12, 9, 17, 14]]
    cat = np.zeros((20, 20), dtype=bool)
    cat[6:12, 2:6] = True
    assert np.array_equal(scene.masks[0], cat)
    assert scene.keypoints[0].tolist() == [[2.5, 6.5, 2], [0, 0, 0]]
    semantic = np.full((20, 20), VOID)
    semantic[5:15, :10] = 2
    semantic[9:14, 12:17] = 1
    semantic[cat] = 0
    assert np.array_equal(scene.semantic, semantic)
    assert scene.main == 0  # the crowd does not count


def test_without_stuff_what_is_no_thing_is_one_class(tmp_path: Path) -> None:
    content = small()
    del content["categories"][2], content["annotations"][2]
    scene = read(write(tmp_path, content), 20)[0]
    assert set(np.unique(scene.semantic[5:15])) == {0, 1, 2}
    assert (scene.semantic[:5] == VOID).all()


def change(section: str, row: int, **values: Any) -> Callable[[dict[str, list[Any]]], None]:
    def apply(content: dict[str, list[Any]]) -> None:
        content[section][row].update(values)

    return apply


BAD = [
    (change("annotations", 0, bbox=[30, 2, 20, 5]), 11, "outside its image of 40 x 20"),
    (change("annotations", 0, bbox=[3, 2, 0, 5]), 11, "0 x 5"),
    (change("annotations", 0, bbox=[3, 2, float("nan"), 5]), 11, "not finite"),
    (change("annotations", 0, bbox=[3, 2, 10**400, 5]), 11, "not finite"),
    (change("annotations", 0, bbox="all"), 11, "no list of numbers"),
    (change("annotations", 0, category_id=99), 11, "category id 99"),
    (change("annotations", 0, category_id=[3]), 11, "category id [3]"),
    (change("annotations", 0, image_id=12), 11, "image id 12"),
    (change("annotations", 0, segmentation=[[1, 1, 5, 5]]), 11, "2 points"),
    (change("annotations", 0, segmentation=[[1, 1, 5, 5, 6, 7, 8]]), 11, "x without y"),
    (change("annotations", 0, keypoints=[1, 2, 2]), 11, "3 numbers where 6 belong in its keypoints"),
    (change("annotations", 0, keypoints=[1, 2, 9, 1, 1, 1]), 11, "visibility"),
    (change("annotations", 2, segmentation={"size": [20, 40], "counts": [0, 10**8]}), 13, "add up to"),
    (change("annotations", 2, segmentation={"size": [20, 40], "counts": [900, -100]}), 13, "add up to"),
    (change("annotations", 2, segmentation={"size": [20, 40], "counts": "zzzz"}), 13, "run lengths"),
    (change("annotations", 2, segmentation={"size": [9, 9], "counts": [81]}), 13, "20 x 40"),
    (change("annotations", 2, segmentation=None), 13, "neither a box nor a segmentation"),
    (change("categories", 0, name=None), 3, "category"),
    (change("categories", 0, id=3), 4, "there twice"),
]


@pytest.mark.parametrize(("spoil", "line", "cause"), BAD, ids=[cause for _, _, cause in BAD])
def test_a_bad_entry_is_told_by_file_and_line_and_left_out(
    tmp_path: Path, spoil: Callable[[dict[str, list[Any]]], None], line: int, cause: str
) -> None:
    content = small()
    spoil(content)
    folder = write(tmp_path, content)
    found = read(folder, 20)
    told = list(found.problems)
    assert told[0].startswith(f"{folder / ANNOTATIONS}, line {line}: ")
    assert cause in told[0]
    assert len(found) == 1
    found[0]  # the others serve


def test_images_that_cannot_be_used_are_left_out(tmp_path: Path) -> None:
    content = small()
    secret = tmp_path / "secret.png"
    Image.fromarray(np.zeros((20, 40, 3), dtype=np.uint8)).save(secret)
    folder = write(tmp_path, content)
    (folder / IMAGES / "text.png").write_text("no image")
    (folder / IMAGES / "link.png").symlink_to(secret)
    names = ["../secret.png", str(secret), "link.png", "text.png", "absent.png", "bad\0name", "a" * 5000, "."]
    content["images"] += [{"id": number, "file_name": name} for number, name in enumerate(names)]
    content["images"].append({"id": 50, "file_name": "a.png", "width": 400, "height": 20})
    content["annotations"].append({"id": 4, "image_id": 3, "category_id": 3, "bbox": [1, 1, 5, 5]})
    found = read(write(tmp_path, content), 20)
    told = list(found.problems)
    assert len(found) == 1
    assert len(told) == len(found.problems) == len(names) + 1  # nothing more is told of their annotations
    for line, cause in zip(told, ["outside the folder"] * 3 + ["cannot be read", "not there"], strict=False):
        assert cause in line
    assert "400 x 20" in told[-1]
    assert all("\0" not in line and len(line) < 500 for line in told)


def test_a_huge_image_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiop.tasks.latent.coco_images.MOST_PIXELS", 799)
    with pytest.raises(AiopError, match=r"no image that can be used.*800 pixels, more than 799"):
        read(write(tmp_path, small()), 20)


def test_an_image_that_breaks_off_counts_for_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path, small())
    file = folder / IMAGES / "a.png"
    noise = np.random.default_rng(0).integers(0, 255, (20, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[:400])
    found = read(folder, 20)
    with pytest.warns(UserWarning, match="line 8: image 'a.png' cannot be decoded"):
        scene = found[0]
    assert scene.main is None
    assert (scene.semantic == VOID).all()
    assert len(found.problems) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found[0] is scene  # told once


def test_many_problems_are_counted_not_told(tmp_path: Path) -> None:
    content = small()
    content["annotations"] += [{"id": number, "image_id": 11, "category_id": 8} for number in range(100)]
    told = list(read(write(tmp_path, content)).problems)
    assert len(told) == 21
    assert "80 more" in told[-1]


def test_nothing_usable_is_an_error_with_the_first_cause(tmp_path: Path) -> None:
    content = small()
    content["annotations"] = [{"id": 1, "image_id": 11, "category_id": 8}]
    with pytest.raises(AiopError, match=r"no annotation that can be used .*line 11: .*category id 8"):
        read(write(tmp_path, content))
    content["categories"] = []
    with pytest.raises(AiopError, match="0 classes of things"):
        read(write(tmp_path, content))
    with pytest.raises(AiopError, match="no folder"):
        CocoFolder(tmp_path / "none", tmp_path / ANNOTATIONS, 20)


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(AiopError, match="exists"):
        write_coco_folder(digit_scenes("test", 1), tmp_path / "there")

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aiop.tasks.latent.coco_writer._annotations", fail)
    with pytest.raises(KeyboardInterrupt):
        write_coco_folder(digit_scenes("test", 1), tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
