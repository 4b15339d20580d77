"""Nonsense under the name of every operator outside the ONNX standard is read, or refused in one line."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx
from aiop.graph_ir.operators import STANDARD_DOMAINS
from aiop.graph_ir.passes import canonicalise
from aiop.graph_ir.shapes import SHAPE_RULES

OPERATORS = sorted(
    (domain, kind)
    for domain, rules in SHAPE_RULES.items()
    if domain not in STANDARD_DOMAINS
    for kind in rules
)
SIZES = (0, 1, 1, 2, 3, 4, 4, 8)
INTEGERS = (0, -1, 1, 1, 2, 2, 3, 4, 8, 1 << 40, -(1 << 60))
NUMBERS = (
    "num_heads kv_num_heads q_num_heads axis bits block_size K N group channels_last transA transB transBatchA "
    "signal_ndim num_branches dim size step k swiglu_fusion window local_window_size onesided channels hidden_size "
    "past_present_share_buffer n_targets gather_axis sparse_block_size"
).split()
LISTS = "kernel_shape strides pads dilations qkv_hidden_sizes output_padding output_shape classlabels_ints".split()
TEXTS = {
    "activation": ("Relu", "Clip", "x"),
    "auto_pad": ("SAME_UPPER", "VALID", "x"),
    "direction": ("bidirectional", "x"),
    "attention_mode": ("local_plus_selected", "x"),
    "mode": ("linear", "x"),
}
DTYPES = (np.float32, np.float32, np.uint8, np.int32, np.int64)


def attributes(rng: random.Random) -> dict[str, Any]:
    given: dict[str, Any] = {name: rng.choice(INTEGERS) for name in rng.sample(NUMBERS, 8)}
    for name in rng.sample(LISTS, 2):
        given[name] = [rng.choice(INTEGERS) for _ in range(rng.choice((1, 2, 3, 4)))]
    for name in rng.sample(sorted(TEXTS), 2):
        given[name] = rng.choice(TEXTS[name])
    if rng.random() < 0.2:  # of another kind than the operator takes
        given[rng.choice(NUMBERS)] = rng.choice((0.5, "x", [1, 2], np.zeros(2, np.float32)))
    return {
        name: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in given.items()
    }


def nonsense(domain: str, kind: str, rng: random.Random) -> ModelProto:
    rank = rng.choice((0, 1, 2, 3, 3, 4, 4, 5))
    inputs, weights, names = [], [], []
    for index in range(rng.randrange(1, 10)):
        if index and rng.random() < 0.2:
            names.append("")
            continue
        shape = [rng.choice(SIZES) for _ in range(rank if rng.random() < 0.7 else rng.randrange(6))]
        names.append(f"x{index}")
        if index and rng.random() < 0.6:
            weights.append(numpy_helper.from_array(np.ones(shape, rng.choice(DTYPES)), names[-1]))
        else:
            inputs.append(helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, shape))
    outputs = [f"y{index}" for index in range(rng.choice((1, 1, 2, 3, 4)))]
    node = helper.make_node(kind, names, outputs, "node", domain=domain, **attributes(rng))
    graph = helper.make_graph([node], "network", inputs, [ValueInfoProto(name="y0")], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize(("domain", "kind"), OPERATORS, ids=lambda text: text or "ai.onnx")
def test_nonsense(domain: str, kind: str) -> None:
    rng = random.Random(f"{domain}::{kind}")
    refusals = []
    for _ in range(25):
        model = nonsense(domain, kind, rng)
        try:
            canonicalise(read_onnx(model))
        except AiopError as error:
            refusals.append(str(error))
    assert not [text for text in refusals if "\n" in text]
