"""All passes together."""

from __future__ import annotations

import numpy as np
import pytest

from aiop.graph_ir import read_onnx
from aiop.graph_ir.passes import PASSES, canonicalise

LIGHT = ["densenet121", "inception_v1", "resnet50", "shufflenet"]


@pytest.mark.parametrize("name", LIGHT)
def test_the_canonical_form_is_one(onnx_light, name: str) -> None:
    once = canonicalise(read_onnx(onnx_light / f"light_{name}.onnx"))
    assert canonicalise(once) == once
    assert not any(step(once).changed for step in PASSES)


@pytest.mark.parametrize("name", LIGHT)
def test_passes_leave_the_macs_and_the_graph_read(onnx_light, name: str) -> None:
    graph = read_onnx(onnx_light / f"light_{name}.onnx")
    again = read_onnx(onnx_light / f"light_{name}.onnx")
    assert canonicalise(graph).macs == graph.macs
    assert graph == again


def test_resnet_is_convolutions_sums_and_rectifiers(onnx_light) -> None:
    graph = canonicalise(read_onnx(onnx_light / "light_resnet50.onnx"))
    kinds = [operation.op for operation in graph.operations]
    # He et al. 2015: 53 convolutions, 16 blocks, 49 rectifiers, one pool before and one after, one matrix
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    assert counts == {
        "Input": 1, "Conv": 53, "Add": 16, "Relu": 49, "MaxPool": 1, "GlobalAvgPool": 1, "Linear": 1, "Softmax": 1,
    }  # fmt: skip


def test_one_step_opens_the_way_for_another(graph) -> None:
    # the zero hides that both branches are the same, the view that the sums are one chain
    found = canonicalise(
        graph(
            "(float[1,4,8,8] x) => (float y) { a = Relu(x) z = Mul(x, zero) b = Add(x, z) c = Relu(b) "
            "d = Add(a, x) e = Cast<to=1>(d) y = Add(e, c) }",
            zero=np.float32(0),
        )
    )
    assert [(operation.op, operation.inputs) for operation in found.operations[1:]] == [
        ("Relu", ("x",)),
        ("Add", ("a", "x", "a")),
    ]
