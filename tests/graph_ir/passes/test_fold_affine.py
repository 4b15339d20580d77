from __future__ import annotations

import numpy as np
import pytest

from aiop.graph_ir import read_onnx
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
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


IMAGE = "(float[2,8,6,6] x) => (float y)"
AFFINE = {"p": (8, 1, 1), "q": (1, 8, 1, 1), "w": (4, 8, 1, 1), **NORM}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # before a convolution nothing takes a batch norm in
        (
            "n = BatchNormalization(x, s, b, m, v) r = Relu(n) y = Conv(r, w)",
            "a = Mul(x, p) n = Add(a, q) r = Relu(n) y = Conv(r, w)",
        ),
        ("n = BatchNormalization(x, s, b, m, v) y = Relu(n)", "a = Mul(p, x) n = Sub(a, q) y = Relu(n)"),
        # a batch norm after another, a scale after a norm
        (
            "n = BatchNormalization(x, s, b, m, v) y = Relu(n)",
            "a = BatchNormalization(x, s, b, m, v) n = BatchNormalization(a, s, b, m, v) y = Relu(n)",
        ),
        (
            "y = InstanceNormalization(x, s, b)",
            "n = InstanceNormalization(x, s, b) a = Mul(n, p) y = Add(a, q)",
        ),
        # a scale without shift goes into the weights
        ("c = Conv(x, w) y = Relu(c)", "c = Conv(x, w) a = Mul(c, k) y = Relu(a)"),
        ("c = Conv(x, w, d) y = Relu(c)", "c = Conv(x, w, d) a = Div(c, k) y = Relu(a)"),
        ("c = Conv(x, w, d) y = Relu(c)", "c = Conv(x, w) a = Add(c, k) e = Add(a, k) y = Relu(e)"),
    ],
)
def test_affine_maps_have_one_form(graph, one: str, other: str) -> None:
    more = {"k": (4, 1, 1), "d": (4,)}
    hashes = {
        content_hash(canonicalise(graph(f"{IMAGE} {{ {nodes} }}", **AFFINE, **more)))
        for nodes in (one, other)
    }
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("flow", "nodes", "weights"),
    [
        # through a view, into a transposed and a depthwise convolution, and a matrix
        (ROWS, "c = MatMul(x, w) f = Reshape(c, flat) y = BatchNormalization(f, s, b, m, v)", {"w": (3, 8)}),
        (FLOW, "c = ConvTranspose(x, w) y = BatchNormalization(c, s, b, m, v)", {"w": (3, 8, 2, 2)}),
        (FLOW, "c = ConvTranspose<group=3>(x, w) y = Add(c, t)", {"w": (3, 4, 2, 2), "t": (12, 1, 1)}),
        (FLOW, "c = Conv<group=3>(x, w) y = Mul(c, t)", {"w": (12, 1, 3, 3), "t": (12, 1, 1)}),
    ],
)
def test_every_layer_takes_it_in(graph, flow: str, nodes: str, weights) -> None:
    found = canonicalise(graph(f"{flow} {{ {nodes} }}", **weights, **NORM, flat=np.array([10, 8])))
    assert len(found.operations) == 2


def test_positions_are_not_channels(graph) -> None:
    # one number for each of 8 channels, but along the rows
    found = canonicalise(
        graph("(float[1,8,3] x) => (float y) { c = MatMul(x, w) y = Add(c, q) }", w=(3, 5), q=(8, 1))
    )
    assert [operation.op for operation in found.operations] == ["Input", "Linear", "Add"]
