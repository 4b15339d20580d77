"""Lines of JSON entries, and shapes against COCO's own reading of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from faster_coco_eval import mask as reference

from aiop.errors import AiopError
from aiop.tasks.latent.coco_json import read_sections
from aiop.tasks.latent.coco_shapes import Fit, Runs, read_shape, run_lengths


def file(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "some.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_entries_have_their_values_and_lines(tmp_path: Path) -> None:
    text = '\n{"info": {"images": [1]},\n "images": [\n  {"id": 1,\n "x": "\\n"}, 5,\n\n [2]\n ], "empty" : []\n}\n'
    found = read_sections(file(tmp_path, text), ("images", "empty", "absent"))
    assert [(entry.value, entry.line) for entry in found["images"]] == [
        ({"id": 1, "x": "\n"}, 4),
        (5, 5),
        ([2], 7),
    ]
    assert found["empty"] == found["absent"] == []


@pytest.mark.parametrize("indent", [None, 1, 4])
def test_values_are_those_of_the_standard_library(tmp_path: Path, indent: int | None) -> None:
    content = {"a": [{"x": [1.5, None, True], "y": 'ü"]'}, {}, [[]]], "b": {"a": [3]}, "c": [-0.25]}
    found = read_sections(file(tmp_path, json.dumps(content, indent=indent)), ("a", "c"))
    assert {name: [entry.value for entry in entries] for name, entries in found.items()} == {
        "a": content["a"],
        "c": content["c"],
    }


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "no JSON object"),
        ("[1]", "no JSON object"),
        ('{"a": [1,\n2', "line 2 is not JSON"),
        ('{"a": [1,\n,2]}', "line 2 is not JSON"),
        ('{"a": [1]\n "b": 1}', "line 2 is not JSON"),
        ('{"a"\n:\n{}}', "line 1: 'a' is no list"),
        ('{"a": [' + "[" * 100_000 + "]}", "nests too deeply"),
        ('{"a": [' + "9" * 5000 + "]}", "too long"),
        (b'{"a": "\xff"}', "not UTF-8"),
    ],
)
def test_what_is_no_json_is_told_with_its_line(tmp_path: Path, text: str | bytes, cause: str) -> None:
    with pytest.raises(AiopError, match=cause):
        read_sections(file(tmp_path, text), ("a",))


def test_missing_and_oversized_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AiopError, match="No such file"):
        read_sections(tmp_path / "none.json", ("a",))
    monkeypatch.setattr("aiop.tasks.latent.coco_json.MOST_BYTES", 3)
    with pytest.raises(AiopError, match="7 bytes"):
        read_sections(file(tmp_path, '{"a":1}'), ("a",))


def masks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        rng.random((37, 23)) < 0.3,
        rng.random((5, 400)) < 0.9,
        np.zeros((8, 9), dtype=bool),
        np.ones((8, 9), dtype=bool),
        np.pad(np.ones((300, 2), dtype=bool), 250),  # long runs: numbers of several signs
    ]


@pytest.mark.parametrize("row", range(5))
def test_run_lengths_packed_and_plain_are_cocos(row: int) -> None:
    mask = masks()[row]
    height, width = mask.shape
    packed = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
    counts = packed["counts"].decode() if isinstance(packed["counts"], bytes) else packed["counts"]
    fit = Fit(width, height, max(width, height))  # nothing is scaled
    left, top = fit.corner
    for value in (counts, run_lengths(mask)):
        shape = read_shape({"size": [height, width], "counts": value}, width, height)
        assert isinstance(shape, Runs)
        found = shape.mask(fit)
        assert np.array_equal(found[top : top + height, left : left + width], mask)
        assert found.sum() == mask.sum()


def test_polygons_cover_what_cocos_cover() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radii = rng.uniform(10, 30, 9)
        outline = (
            np.stack([32 + radii * np.cos(angles), 32 + radii * np.sin(angles)], axis=1).ravel().tolist()
        )
        expected = reference.decode(reference.frPyObjects([outline], 64, 64))[..., 0].astype(bool)
        found = read_shape([outline], 64, 64).mask(Fit(64, 64, 64))
        assert (found & expected).sum() / (found | expected).sum() > 0.96


def test_areas_and_middles_of_polygons_are_those_of_geometry() -> None:
    rng = np.random.default_rng(2)
    for _ in range(10):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radii = rng.uniform(10, 30, 9)
        x, y = 32 + radii * np.cos(angles), 32 + radii * np.sin(angles)
        cross = x * np.roll(y, -1) - np.roll(x, -1) * y
        area = cross.sum() / 2  # the shoelace formula, and its centroid
        centre = [((one + np.roll(one, -1)) * cross).sum() / (6 * area) for one in (x, y)]
        found = read_shape([np.stack([x, y], axis=1).ravel().tolist()], 64, 64).mask(Fit(64, 64, 64))
        assert found.sum() == pytest.approx(area, rel=0.02)
        rows, columns = np.nonzero(found)
        assert [columns.mean() + 0.5, rows.mean() + 0.5] == pytest.approx(centre, abs=0.2)


def test_a_triangle_has_half_of_its_square() -> None:
    found = read_shape([[0, 0, 32, 0, 0, 32]], 64, 64).mask(Fit(64, 64, 64))
    rows, columns = np.mgrid[:64, :64]
    # Below the diagonal x + y = 32 by the middles of pixels, but for those it halves.
    assert found[rows + columns < 31].all()
    assert not found[rows + columns > 31].any()


def test_shrunk_run_lengths_keep_pixels_covered_by_half() -> None:
    mask = np.zeros((40, 20), dtype=bool)
    mask[8:16, 4:11] = True  # shrunk by 2: columns 2 .. 4, the last wholly; column 5 by half
    shape = read_shape({"size": [40, 20], "counts": run_lengths(mask)}, 20, 40)
    found = shape.mask(Fit(20, 40, 20))  # 10 x 20 in the middle: 5 columns on the left
    expected = np.zeros((20, 20), dtype=bool)
    expected[4:8, 7:11] = True
    assert np.array_equal(found, expected)
