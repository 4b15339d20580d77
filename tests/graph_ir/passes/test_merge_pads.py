from __future__ import annotations

import numpy as np
import pytest

from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.graph_ir.passes.merge_pads import merge_pads

FLOW = "(float[1,4,8,8] x) => (float y)"
CONSTANTS = {
    "w": (6, 4, 3, 3), "right": np.array([0, 0, 0, 0, 0, 0, 1, 1]), "round": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "channels": np.array([0, 1, 0, 0, 0, 0, 0, 0]), "crop": np.array([0, 0, -1, -1, 0, 0, 0, 0]),
    "least": np.float32(-np.inf), "lowest": np.float32(np.finfo(np.float32).min), "zero": np.float32(0),
    "some": np.float32(0.5), "sides": np.array([1, 1, 1, 1]), "axes": np.array([2, 3]), "w5": (6, 5, 3, 3),
}  # fmt: skip


def hash_of(graph, nodes: str, opset: int = 18) -> str:
    return content_hash(canonicalise(graph(f"{FLOW} {{ {nodes} }}", opset, **CONSTANTS)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("y = Conv<pads=[0,0,1,1], strides=[2,2]>(x, w)", "p = Pad(x, right) y = Conv<strides=[2,2]>(p, w)"),
        (
            'y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)',
            "p = Pad(x, right) y = Conv<strides=[2,2]>(p, w)",
        ),
        ("y = Conv<pads=[1,1,2,2]>(x, w)", "p = Pad(x, right, zero) y = Conv<pads=[1,1,1,1]>(p, w)"),
        ("y = Conv<pads=[1,1,1,1]>(x, w)", "p = Pad(x, sides, , axes) y = Conv(p, w)"),
        (
            "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x)",
            "p = Pad(x, round) y = AveragePool<kernel_shape=[3,3]>(p)",
        ),
        (
            "y = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)",
            "p = Pad(x, round, least) y = MaxPool<kernel_shape=[3,3]>(p)",
        ),
        (
            "y = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)",
            "p = Pad(x, round, lowest) y = MaxPool<kernel_shape=[3,3]>(p)",
        ),
        (
            "r = Relu(x) y = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(r)",
            "r = Relu(x) p = Pad(r, round) y = MaxPool<kernel_shape=[3,3]>(p)",
        ),
        (
            "a = Conv<pads=[1,1,1,1]>(x, w) c = Conv<pads=[1,1,1,1]>(x, w) y = Sub(a, c)",
            "p = Pad(x, round) a = Conv(p, w) c = Conv(p, w) y = Sub(a, c)",
        ),
        (
            "y = AveragePool<kernel_shape=[2,2], strides=[2,2], count_include_pad=1>(x)",
            "y = AveragePool<kernel_shape=[2,2], strides=[2,2]>(x)",
        ),
    ],
)
def test_padding_has_one_spelling(graph, one: str, other: str) -> None:
    assert hash_of(graph, one) == hash_of(graph, other)


def test_pads_as_an_attribute(graph) -> None:
    old = "p = Pad<pads=[0,0,0,0,0,0,1,1], value=0.0>(x) y = Conv(p, w)"
    assert hash_of(graph, old, 10) == hash_of(graph, "p = Pad(x, right) y = Conv(p, w)")


def test_pads_that_differ_stay_apart(graph) -> None:
    texts = [
        "p = Pad(x, right) y = Conv(p, w)",
        "p = Pad(x, round) y = Conv(p, w)",
        "p = Pad(x, round, some) y = Conv(p, w)",
        'p = Pad<mode="reflect">(x, round) y = Conv(p, w)',
        'p = Pad<mode="edge">(x, round) y = Conv(p, w)',
        "p = Pad(x, round) y = AveragePool<kernel_shape=[3,3]>(p)",
        "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)",
        "p = Pad(x, round, some) y = MaxPool<kernel_shape=[3,3]>(p)",
        "y = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)",
    ]
    assert len({hash_of(graph, text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    "nodes",
    [
        "p = Pad(x, channels) y = Conv(p, w5)",
        "p = Pad(x, crop) y = Conv(p, w)",
        "p = Pad(x, round, some) y = Conv(p, w)",
        "p = Pad(x, round, least) y = AveragePool<kernel_shape=[3,3]>(p)",
        "p = Pad(x, round) y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(p)",  # which counts its own pads only
        "p = Pad(x, round) c = Conv(p, w) s = Relu(p) y = Concat<axis=1>(c, c)",  # something else reads it
        "p = Pad(x, round) y = Relu(p)",
    ],
)
def test_what_is_not_merged(graph, run_pass, nodes: str) -> None:
    before = graph(f"{FLOW} {{ {nodes} }}", 18, **CONSTANTS)
    assert len(run_pass(merge_pads, before)) == len(before.operations) - 1


def test_macs_stay(graph) -> None:
    before = graph(f"{FLOW} {{ p = Pad(x, right) y = Conv<strides=[2,2]>(p, w) }}", **CONSTANTS)
    after = merge_pads(before).graph
    assert after.macs == before.macs == 4 * 4 * 6 * 4 * 9
    assert after.operations[1].padding == (0, 0, 1, 1)
