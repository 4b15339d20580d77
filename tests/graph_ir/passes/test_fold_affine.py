from __future__ import annotations

import numpy as np
import pytest

from aiop.graph_ir import read_onnx
from aiop.graph_ir.passes.fold_affine import fold_affine

FLOW = "(float[2,3,6,6] x) => (float y)"
ROWS = "(float[2,5,3] x) => (float y)"
NORM = {"s": (8,), "b": (8,), "m": (8,), "v": np.ones(8, np.float32)}
CONV = "c = Conv(x, w)"
BATCH_NORM = "n = BatchNormalization(c, s, b, m, v)"


def test_batch_norm_becomes_a_bias(graph, run_pass) -> None:
    before = graph(f"{FLOW} {{ {CONV} {BATCH_NORM} y = Relu(n) }}", w=(8, 3, 1, 1), **NORM)
    assert run_pass(fold_affine, before) == ["n = Conv(x)", "y = Relu(n)"]
    conv = fold_affine(before).graph.operations[1]
    assert conv.bias
    assert conv.params == 8 * 3 + 8
    assert conv.macs == 8 * 3 * 2 * 36
    assert not before.operations[1].bias  # the graph before is as it was


def test_a_layer_with_a_bias_keeps_its_parameters(graph, run_pass) -> None:
    before = graph(f"{FLOW} {{ c = Conv(x, w, b) {BATCH_NORM} y = Relu(n) }}", w=(8, 3, 1, 1), **NORM)
    assert run_pass(fold_affine, before) == ["n = Conv(x)", "y = Relu(n)"]
    assert fold_affine(before).graph.operations[1].params == 8 * 3 + 8


@pytest.mark.parametrize(
    ("flow", "nodes", "weights"),
    [
        (FLOW, f"{CONV} a = Mul(c, p) y = Add(a, q)", {"w": (8, 3, 1, 1), "p": (8, 1, 1), "q": (1, 8, 1, 1)}),
        (FLOW, "c = ConvTranspose(x, w) y = Add(c, q)", {"w": (3, 8, 2, 2), "q": (8, 1, 1)}),
        (ROWS, "c = MatMul(x, w) y = Add(q, c)", {"w": (3, 8), "q": (8,)}),
        (ROWS, "c = MatMul(x, w) y = Sub(c, q)", {"w": (3, 8), "q": (8,)}),
    ],
)
def test_scales_and_shifts_per_channel_are_merged(graph, run_pass, flow: str, nodes: str, weights) -> None:
    before = graph(f"{flow} {{ {nodes} }}", **weights)
    left = run_pass(fold_affine, before)
    assert len(left) == 1
    assert left[0].startswith("y = ")
    assert fold_affine(before).graph.params == np.prod(weights["w"]) + 8


@pytest.mark.parametrize(
    ("nodes", "weights"),
    [
        # something else reads the layer's output
        (f"{CONV} {BATCH_NORM} y = Add(n, c)", {"w": (8, 3, 1, 1), **NORM}),
        # not after a layer
        ("a = Relu(x) y = BatchNormalization(a, s, b, m, v)", {**NORM}),
        # not one number per channel
        (f"{CONV} y = Add(c, q)", {"w": (8, 3, 1, 1), "q": (6,)}),
        (f"{CONV} y = Add(c, q)", {"w": (8, 3, 1, 1), "q": (8, 6, 6)}),
        # not trained
        (f"{CONV} y = Add(c, k)", {"w": (8, 3, 1, 1), "k": np.float32(2)}),
        # of two tensors
        (f"{CONV} y = Add(c, x)", {"w": (3, 3, 1, 1)}),
        # grows the output
        (f"{CONV} y = Add(c, q)", {"w": (1, 3, 1, 1), "q": (1, 5, 1, 1)}),
    ],
)
def test_what_is_not_merged(graph, run_pass, nodes: str, weights) -> None:
    flow = "(float[2,8,6,6] x) => (float y)" if "w" not in weights else FLOW
    before = graph(f"{flow} {{ {nodes} }}", **weights)
    assert len(run_pass(fold_affine, before)) == len(before.operations) - 1


def test_a_product_of_two_vectors_is_a_number(graph, run_pass) -> None:
    before = graph("(float[8] x) => (float y) { c = MatMul(x, w) y = Add(c, k) }", w=(8,), k=np.float32(2))
    assert len(run_pass(fold_affine, before)) == 2


def test_a_layer_that_is_an_output_is_not_merged(network, run_pass) -> None:
    model = network(
        f"(float[2,3,6,6] x) => (float c, float n) {{ {CONV} {BATCH_NORM} }}", w=(8, 3, 1, 1), **NORM
    )
    assert len(run_pass(fold_affine, read_onnx(model))) == 2
