"""What a predictor sees, by arithmetic on a network of three operations."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from aiop.graph_ir import read_onnx
from aiop.graph_ir.features import GRAPH_FEATURES, NODE_FEATURES, encode, fingerprint
from aiop.graph_ir.operators import INDEX, VOCABULARY, canonical

NETWORK = """(float[1,3,16,16] image) => (float y) {
    a = Conv<strides=[2,2], pads=[1,1,1,1]>(image, w, b)
    p = GlobalAveragePool(a)
    f = Flatten(p)
    y = Gemm<transB=1>(f, v)
}"""
WEIGHTS = {"w": (8, 3, 3, 3), "b": (8,), "v": (10, 8)}
CONV_MACS, LINEAR_MACS = 8 * 8 * 8 * 27, 80


@pytest.fixture
def rows(graph):
    arrays = encode(graph(NETWORK, **WEIGHTS))
    assert [VOCABULARY[index] for index in arrays.op] == ["Input", "Conv", "GlobalAvgPool", "Linear"]
    return [dict(zip(NODE_FEATURES, row.astype(float), strict=True)) for row in arrays.node]


def log2(number: float) -> float:
    return math.log2(1 + number)


def test_a_convolution(rows) -> None:
    assert rows[1] == pytest.approx(
        {
            "log_channels_in": log2(3), "log_channels_out": log2(8), "log_positions_in": log2(256),
            "log_positions_out": log2(64), "level": 1.0, "log_kernel_0": log2(3), "log_kernel_1": log2(3),
            "log_stride": log2(1), "log_dilation": 0.0, "log_groups": 0.0, "padding": log2(4), "bias": 1.0,
            "log_macs": log2(CONV_MACS), "log_params": log2(8 * 27 + 8), "log_elements": log2(512),
            "macs_share": math.sqrt(CONV_MACS / (CONV_MACS + LINEAR_MACS)), "params_share": math.sqrt(224 / 304),
            "depth": 1 / 3, "log_depth": 1.0, "fan_in": 1.0, "fan_out": 1.0,
        },
        abs=4e-3,
    )  # fmt: skip


def test_a_matrix_and_an_input(rows) -> None:
    wanted = {
        "log_channels_out": log2(10), "log_positions_out": 1.0, "level": 4.0,
        "log_kernel_0": 0.0, "bias": 0.0, "log_macs": log2(80), "depth": 1.0, "fan_out": 0.0,
    }  # fmt: skip
    assert {name: rows[3][name] for name in wanted} == pytest.approx(wanted, abs=4e-3)
    assert (rows[0]["fan_in"], rows[0]["log_channels_in"], rows[0]["depth"]) == (0, 0, 0)


def test_the_whole_graph(graph) -> None:
    arrays = encode(graph(NETWORK, **WEIGHTS))
    found = dict(zip(GRAPH_FEATURES, arrays.graph.astype(float), strict=True))
    wanted = {
        "log_macs": log2(CONV_MACS + LINEAR_MACS), "log_params": log2(304), "log_activations": log2(522),
        "log_elements": log2(768 + 512 + 8 + 10), "log_operations": log2(4), "log_weighted": log2(2),
        "log_depth": log2(3), "log_resolution": log2(16), "log_channels_in": log2(3), "log_outputs": log2(10),
        "log_width": (log2(8) + log2(10)) / 2, "count_Conv": 1.0, "count_Linear": 1.0, "count_Relu": 0.0,
        "level1_macs": log2(CONV_MACS), "level4_macs": log2(80), "level0_macs": 0.0, "level1_channels": log2(8),
        "level1_wide": log2(8), "level4_params": log2(80), "level1_weighted": 1.0,
    }  # fmt: skip
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=1e-4)


# Digests of operators and edges, and sums of the features, when the shipped weights were trained. Where one differs,
# predictions do: such a change needs a new FEATURES_VERSION, and new weights.
@pytest.mark.parametrize(
    ("name", "digest", "nodes", "whole"),
    [
        ("densenet121", "b65d054a97cd0678", 28367.4, 592.95),
        ("inception_v2", "7c68760f7eb01e82", 12652.9, 576.63),
        ("resnet50", "8a68795caadfb06e", 10288.7, 603.21),
        ("shufflenet", "f7d133c1e82e178f", 9337.1, 526.88),
    ],
)
def test_networks_are_encoded_as_the_weights_know_them(
    onnx_light, name: str, digest: str, nodes: float, whole: float
) -> None:
    arrays = encode(read_onnx(onnx_light / f"light_{name}.onnx"))
    content = arrays.op.tobytes() + arrays.edge_index.astype("<i4").tobytes()
    assert hashlib.sha256(content).hexdigest().startswith(digest)
    assert arrays.node.astype(float).sum() == pytest.approx(nodes, rel=1e-4)
    assert arrays.graph.astype(float).sum() == pytest.approx(whole, rel=1e-4)


def test_arrays_are_as_declared(graph) -> None:
    arrays = encode(graph(NETWORK, **WEIGHTS))
    assert (arrays.op.dtype, arrays.op.shape) == (np.uint8, (4,))
    assert (arrays.node.dtype, arrays.node.shape) == (np.float16, (4, len(NODE_FEATURES)))
    assert (arrays.edge_index.dtype, arrays.edge_index.tolist()) == (np.int32, [[0, 1, 2], [1, 2, 3]])
    assert (arrays.graph.dtype, arrays.graph.shape) == (np.float32, (len(GRAPH_FEATURES),))


@pytest.mark.parametrize(
    "text",
    [
        "(float[1,3,8,8] x) => (float y) { y = Flatten(x) }",  # nothing is left of it
        "(float s) => (float y) { y = Relu(s) }",  # a scalar
        "(float[0,4] x) => (float y) { y = Relu(x) }",
        "(float[2,4] x) => (float y) { y = Relu(x) z = Tanh(x) }",
    ],
)
def test_degenerate_graphs_have_finite_features(network, text: str) -> None:
    arrays = encode(read_onnx(network(text)))
    assert len(arrays.op) >= 1
    assert arrays.edge_index.shape[0] == 2
    assert np.isfinite(arrays.node).all()
    assert np.isfinite(arrays.graph).all()


def test_names_are_told_apart() -> None:
    assert len(set(NODE_FEATURES)) == len(NODE_FEATURES)
    assert len(set(GRAPH_FEATURES)) == len(GRAPH_FEATURES)
    assert len(set(VOCABULARY)) == len(VOCABULARY) == len(INDEX) <= 256


def test_the_fingerprint_is_a_digest_of_them() -> None:
    assert len(fingerprint()) == 64
    assert fingerprint() == fingerprint()


@pytest.mark.parametrize("kind", ["Conv", "Gemm", "Attention", "Softmax", "GridSample", "Loop"])
def test_every_operator_maps_into_the_vocabulary(kind: str) -> None:
    assert canonical(kind) in INDEX
    assert canonical(kind) != "Unknown"
