from __future__ import annotations

import numpy as np
import pytest

from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise

IMAGE = "(float[1,4,6,6] x) => (float y)"
CONSTANTS = {
    "axes": np.array([2, 3]), "inner": np.array([-2, -1]), "w": (4, 5), "middle": np.array([1, 2]),
    "rows": np.array([1]), "flat": np.array([1, 4, 36]), "last": np.array([-1]),
}  # fmt: skip


def hash_of(graph, nodes: str, opset: int = 18) -> str:
    return content_hash(
        canonicalise(graph(f"{IMAGE} {{ {nodes} f = Flatten(p) y = MatMul(f, w) }}", opset, **CONSTANTS))
    )


@pytest.mark.parametrize(
    ("nodes", "opset"),
    [
        ("p = AveragePool<kernel_shape=[6,6]>(x)", 18),
        ("p = ReduceMean(x, axes)", 18),
        ("p = ReduceMean(x, inner)", 18),
        ("p = ReduceMean<keepdims=0>(x, inner)", 18),
        ("p = ReduceMean<axes=[2,3]>(x)", 13),
        ("p = ReduceMean<axes=[-1,-2], keepdims=0>(x)", 11),
        ("r = Reshape(x, flat) p = ReduceMean<keepdims=0>(r, last)", 18),
        ("t = Transpose<perm=[0,2,3,1]>(x) p = ReduceMean<keepdims=0>(t, middle)", 18),
        ("r = Reshape(x, flat) t = Transpose<perm=[0,2,1]>(r) p = ReduceMean(t, rows)", 18),
    ],
)
def test_a_mean_of_all_positions_is_a_global_pool(graph, nodes: str, opset: int) -> None:
    assert hash_of(graph, nodes, opset) == hash_of(graph, "p = GlobalAveragePool(x)")


@pytest.mark.parametrize(
    ("nodes", "opset"),
    [
        ("p = ReduceMax(x, axes)", 18),
        ("p = ReduceMax<axes=[-1,-2], keepdims=0>(x)", 11),
        ("p = MaxPool<kernel_shape=[6,6]>(x)", 18),
    ],
)
def test_a_maximum_of_all_positions_is_one(graph, nodes: str, opset: int) -> None:
    assert hash_of(graph, nodes, opset) == hash_of(graph, "p = GlobalMaxPool(x)")


def test_other_reductions_stay_apart(graph) -> None:
    flow = "(float[1,4,6,6] x) => (float y)"
    texts = [
        "y = GlobalAveragePool(x)",
        "y = GlobalMaxPool(x)",
        "y = ReduceMean<axes=[1]>(x)",
        "y = ReduceMean<axes=[2]>(x)",
        "y = ReduceMean<axes=[3]>(x)",
        "y = ReduceMean(x)",
        "y = ReduceMin<axes=[2,3]>(x)",
        "y = ReduceSumSquare<axes=[2,3]>(x)",
        "y = ReduceL1<axes=[2,3]>(x)",
        "y = ReduceL2<axes=[2,3]>(x)",
        "y = AveragePool<kernel_shape=[5,5]>(x)",
    ]
    hashes = {content_hash(canonicalise(graph(f"{flow} {{ {text} }}", 17))) for text in texts}
    assert len(hashes) == len(texts)
