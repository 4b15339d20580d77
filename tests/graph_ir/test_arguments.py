"""Constant arguments are kept the same from whichever slot an opset takes them."""

from __future__ import annotations

import numpy as np
import pytest

FLOW = "(float[2,6,4] x) => (float y)"


@pytest.mark.parametrize(
    ("text", "opset", "expected"),
    [
        ("y = Transpose(x)", 17, {"perm": (2, 1, 0)}),
        ("y = Slice<starts=[1], ends=[-1], axes=[1]>(x)", 9, {"starts": (0, 1, 0), "steps": (1, 1, 1)}),
        ("y = Slice(x, one, minus, one)", 17, {"starts": (0, 1, 0), "steps": (1, 1, 1)}),
        ("y = Slice(x, minus, far, two, minus)", 17, {"starts": (0, 0, 3), "steps": (1, 1, -1)}),
        ("y, z = Split<axis=1, split=[2, 4]>(x)", 11, {"axis": 1, "starts": (0, 2)}),
        ("z, y = Split<axis=-2>(x, sizes)", 17, {"axis": 1, "starts": (0, 2)}),
        ("y = Gather<axis=-1>(x, minus)", 17, {"axis": 2, "start": 3, "step": 1}),
        ("y = Gather<axis=1>(x, odd)", 17, {"axis": 1, "start": 1, "step": 2}),
        ("y = Gather<axis=1>(x, mixed)", 17, {"axis": 1, "indices": (3, 0, 1)}),
        ("y = Softmax(x)", 11, {"axis": 1}),
        ("y = Softmax(x)", 13, {"axis": 2}),
        ("y = Concat<axis=-1>(x, w, x)", 17, {"axis": 2, "parts": (4, -3, 4)}),
    ],
)
def test_arguments_are_resolved(graph, text: str, opset: int, expected: dict[str, object]) -> None:
    values = {
        "one": np.array([1]), "minus": np.array([-1]), "two": np.array([2]), "far": np.array([-99]),
        "sizes": np.array([2, 4]), "odd": np.array([1, 3, 5]), "mixed": np.array([3, 0, 1]), "w": (2, 6, 3),
    }  # fmt: skip
    words = set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())
    found = graph(
        f"{FLOW} {{ {text} }}", opset, **{key: each for key, each in values.items() if key in words}
    )
    kept = dict(found.operations[1].attributes)
    assert {key: kept.get(key) for key in expected} == expected


def test_long_lists_of_indices_are_told_apart(graph) -> None:
    order = np.random.default_rng(0).permutation(200)
    kept = [
        dict(graph("(float[200] x) => (float y) { y = Gather(x, i) }", i=each).operations[1].attributes)[
            "indices"
        ]
        for each in (order, order - 200, np.roll(order, 1))
    ]
    assert kept[0] == kept[1] != kept[2]  # counted from the end they are the same
