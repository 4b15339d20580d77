"""The algebra of strided views, against numpy doing the same to an array of its own indices."""

from __future__ import annotations

import numpy as np
import pytest

from aiop.graph_ir.passes.strided import Strided, box, merged, whole


def _elements(view: Strided) -> np.ndarray:
    places = np.asarray(view.offset)
    for axis in view.axes:
        for extent, stride in axis:
            places = places[..., None] + np.arange(extent) * stride
    return places.reshape(view.shape)


def _agree(view: Strided | None, expected: np.ndarray) -> None:
    assert view is not None
    assert view.shape == expected.shape
    np.testing.assert_array_equal(_elements(view), expected)


ARRAY = np.arange(2 * 6 * 4).reshape(2, 6, 4)
VIEW = whole("x", (2, 6, 4))


def test_permuted_grouped_and_cut_as_numpy_does() -> None:
    turned, array = VIEW.permuted((1, 2, 0)), ARRAY.transpose(1, 2, 0)
    _agree(turned, array)
    _agree(turned.grouped((2, 3, 8)), array.reshape(2, 3, 8))
    _agree(turned.cut(0, 1, 2, 2), array[1:5:2])
    _agree(turned.cut(1, 3, -1, 4), array[:, ::-1])
    joined, flat = turned.grouped((6, 8)), array.reshape(6, 8)
    assert joined is not None
    _agree(joined.cut(1, 2, 2, 3), flat[:, 2:8:2])  # whole steps of the digit outside
    _agree(joined.cut(1, 4, 1, 4), flat[:, 4:])
    _agree(joined.cut(1, 5, 1, 1), flat[:, 5:6])


def test_what_would_begin_within_a_digit_is_refused() -> None:
    turned = VIEW.permuted((2, 1, 0))
    assert turned.grouped((16, 3)) is None  # of four runs of six, sixteen are no whole number
    joined = turned.grouped((24, 2))
    assert joined is not None
    assert joined.cut(0, 5, 1, 3) is None  # from the end of one run of six into the next
    assert joined.cut(0, 22, 1, 3) is None  # past the end


def test_repeated_as_broadcasting_and_tiling_do() -> None:
    _agree(VIEW.repeated((3, 2, 6, 4)), np.broadcast_to(ARRAY, (3, 2, 6, 4)))
    _agree(VIEW.repeated((2, 12, 4)), np.tile(ARRAY, (1, 2, 1)))
    assert VIEW.repeated((2, 6, 6)) is None
    assert VIEW.repeated((6, 4)) is None


@pytest.mark.parametrize(
    ("digits", "expected"),
    [
        (((2, 12), (3, 4), (4, 1)), ((24, 1),)),
        (((3, 1), (2, 3)), ((3, 1), (2, 3))),
        (((2, 0), (3, 0), (4, 1)), ((6, 0), (4, 1))),
    ],
)
def test_digits_that_count_on_are_one(digits, expected) -> None:
    assert merged(digits) == expected


def test_a_cut_is_found_again_from_its_digits() -> None:
    cut = VIEW.cut(1, 1, 2, 2)
    assert cut is not None
    axes = box(ARRAY.size, cut.offset, merged(digit for axis in cut.axes for digit in axis))
    assert axes is not None
    found: Strided | None = VIEW.grouped([size for size, *_ in axes])
    for axis, (_, start, step, count) in enumerate(axes):
        found = None if found is None else found.cut(axis, start, step, count)
    assert found is not None
    np.testing.assert_array_equal(_elements(found).reshape(-1), ARRAY[:, 1:5:2].reshape(-1))
