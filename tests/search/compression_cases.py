"""A small residual network with random weights, and predictors that need no training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from aiop.graph_ir import ComputeGraph
from aiop.predictor import NetworkPrediction, Prediction

TASK = "classification/made-up/pictures-top1"
COST = "latency/made-up/clock"


def network(width: int = 16, blocks: int = 2, size: int = 12, seed: int = 0) -> onnx.ModelProto:
    """Stem, residual blocks of two 3x3 convolutions, pooling, a linear layer."""
    rng = np.random.default_rng(seed)
    nodes, weights = [], []

    def weight(name: str, *shape: int) -> str:
        values = rng.standard_normal(shape) * np.sqrt(2 / max(np.prod(shape[1:]), 1))
        weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(name: str, source: str, inputs: int) -> str:
        names = [source, weight(f"{name}.w", width, inputs, 3, 3), weight(f"{name}.b", width)]
        nodes.append(helper.make_node("Conv", names, [name], name=name, pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [name], [f"{name}.relu"], name=f"{name}.relu"))
        return f"{name}.relu"

    last = conv("stem", "image", 3)
    for block in range(blocks):
        inner = conv(f"b{block}.two", conv(f"b{block}.one", last, width), width)
        nodes.append(helper.make_node("Add", [last, inner], [f"b{block}.add"], name=f"b{block}.add"))
        last = f"b{block}.add"
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pool"], name="pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], name="flat"),
        helper.make_node(
            "Gemm", ["flat", weight("fc.w", width, 10), weight("fc.b", 10)], ["logits"], name="fc"
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class StubPredictor:
    """Predicts what functions of graphs say."""

    def __init__(
        self,
        value: Callable[[ComputeGraph], float] = lambda graph: 60 + 5 * np.log10(graph.params),
        inside: Callable[[ComputeGraph], bool] = lambda graph: True,
        mark: str = "0" * 64,
    ) -> None:
        self.value, self.inside = value, inside
        self.names = (TASK, COST)
        self.card = {"weights_sha256": mark}
        self.calls = 0

    def task_card(self, name: str) -> Any:
        if name not in self.names:
            from aiop.errors import AiopError

            raise AiopError(f"no task {name!r}")
        return SimpleNamespace(unit="%" if name == TASK else "ms", direction="max" if name == TASK else "min")

    def predict(self, networks: Any, tasks: str = "*") -> Any:
        if isinstance(networks, ComputeGraph):
            return self._one(networks, self.names if tasks == "*" else (tasks,))
        self.calls += 1
        return [self._one(graph, (tasks,)) for graph in networks]

    def _one(self, graph: ComputeGraph, tasks: Sequence[str]) -> NetworkPrediction:
        found = []
        for task in tasks:
            value = float(self.value(graph)) if task == TASK else graph.params / 1e4
            unit = self.task_card(task).unit
            found.append(Prediction(task, value, unit, value - 2, value + 2, value, bool(self.inside(graph))))
        return NetworkPrediction(graph.name, graph.macs, graph.params, tuple(found))
