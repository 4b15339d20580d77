"""NAS-Bench-201 (Dong and Yang, ICLR 2020): one cell of four nodes and six edges, repeated 15 times.

A code such as ``|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|`` lists,
for each of the nodes 1, 2 and 3, the operation on the edge from every earlier node. A node is the sum of its
edges, and node 3 is the cell's output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from aiop.errors import suggest
from aiop.tasks.spaces.base import Form, SearchSpace, register_space
from aiop.tasks.spaces.blocks import conv_norm, relu_conv_norm
from aiop.tasks.spaces.writer import OUTPUT, Feature, OnnxWriter

if TYPE_CHECKING:
    import onnx

    from aiop.tasks.spaces.writer import WeightMode

__all__ = ["OPERATIONS", "Cell", "NasBench201", "cell", "classifier", "residual_block", "stem"]

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
STAGE_CHANNELS = (16, 32, 64)
CELLS_PER_STAGE = 5

#: Operations of the edges 0->1, 0->2, 1->2, 0->3, 1->3, 2->3.
Cell = tuple[str, str, str, str, str, str]


@register_space
class NasBench201(SearchSpace[Cell]):
    """15,625 cells; the forms differ in the input and the number of classes only."""

    name = "nas-bench-201"
    forms: ClassVar[Mapping[str, Form]] = {
        "cifar10": Form((3, 32, 32), 10),
        "cifar100": Form((3, 32, 32), 100),
        "imagenet16-120": Form((3, 16, 16), 120),
    }
    default_form = "cifar100"  # the network that the benchmark's cost columns describe
    example = "|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"

    def parse(self, code: str) -> Cell:
        """See `SearchSpace.parse`."""
        groups = code.split("+")
        if len(groups) != 3:
            raise self.refuse(code, f"expected 3 groups joined by '+', found {len(groups)}")
        operations: list[str] = []
        for node, group in enumerate(groups, start=1):
            if len(group) < 2 or group[0] != "|" or group[-1] != "|":
                raise self.refuse(code, f"group {node} must start and end with '|'")
            edges = group[1:-1].split("|")
            if len(edges) != node:
                raise self.refuse(code, f"group {node} must have {node} operations, found {len(edges)}")
            for source, edge in enumerate(edges):
                operation, _, index = edge.partition("~")
                if operation not in OPERATIONS:
                    hint = suggest(operation, OPERATIONS)
                    raise self.refuse(code, f'"{operation}" is not an operation{hint}')
                if index != str(source):
                    raise self.refuse(code, f'"{edge}" must read "{operation}~{source}" at its place')
                operations.append(operation)
        a, b, c, d, e, f = operations
        return (a, b, c, d, e, f)

    def format(self, architecture: Cell) -> str:
        """See `SearchSpace.format`."""
        a, b, c, d, e, f = architecture
        return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"

    def sample(self, rng: np.random.Generator) -> str:
        """See `SearchSpace.sample`."""
        a, b, c, d, e, f = (OPERATIONS[i] for i in rng.integers(len(OPERATIONS), size=6))
        return self.format((a, b, c, d, e, f))

    def neighbours(self, code: str) -> list[str]:
        """See `SearchSpace.neighbours`: another operation on one edge, 24 cells."""
        operations = self.parse(code)
        return [
            self.format((*operations[:edge], other, *operations[edge + 1 :]))  # type: ignore[arg-type]
            for edge, operation in enumerate(operations)
            for other in OPERATIONS
            if other != operation
        ]

    def _write(
        self, architecture: Cell, name: str, form: Form, weights: WeightMode, seed: int
    ) -> onnx.ModelProto:
        writer = OnnxWriter(name, *form.shape, weights=weights, seed=seed)
        x = stem(writer, STAGE_CHANNELS[0])
        for stage, channels in enumerate(STAGE_CHANNELS, start=1):
            if stage > 1:
                x = residual_block(writer, x, channels, f"reduce{stage - 1}")
            for index in range(CELLS_PER_STAGE):
                x = cell(writer, x, architecture, channels, f"stage{stage}.cell{index}")
        classifier(writer, x, form.classes)
        return writer.finish((1, form.classes))


def stem(writer: OnnxWriter, channels: int) -> Feature:
    """3x3 convolution and batch norm, without an activation."""
    return writer.batch_norm(writer.conv(writer.image, channels, 3, "stem.conv"), "stem.norm")


def residual_block(writer: OnnxWriter, x: Feature, channels: int, name: str) -> Feature:
    """Halve the resolution: two pre-activated 3x3 convolutions beside a pooled 1x1 shortcut."""
    y = relu_conv_norm(writer, x, channels, 3, f"{name}.block0", stride=2)
    y = relu_conv_norm(writer, y, channels, 3, f"{name}.block1")
    pooled = writer.average_pool(x, 2, f"{name}.shortcut.pool", stride=2)
    shortcut = writer.conv(pooled, channels, 1, f"{name}.shortcut.conv")
    return writer.add(shortcut, y, f"{name}.add")


def classifier(writer: OnnxWriter, x: Feature, classes: int) -> Feature:
    """Batch norm, ReLU, global average pooling and a fully connected layer."""
    x = writer.relu(writer.batch_norm(x, "head.norm"), "head.relu")
    x = writer.flatten(writer.global_average_pool(x, "head.pool"), "head.flatten")
    return writer.linear(x, classes, "head.classifier", output=OUTPUT)


def cell(writer: OnnxWriter, x: Feature, operations: Cell, channels: int, name: str) -> Feature:
    """One cell; edges from its input change to ``channels``, all others keep them."""
    nodes = [x]
    edges = iter(operations)
    for node in (1, 2, 3):
        terms = [
            _edge(writer, nodes[source], next(edges), channels, f"{name}.node{node}.edge{source}")
            for source in range(node)
        ]
        nodes.append(writer.sum(terms, f"{name}.node{node}.add"))
    return nodes[3]


def _edge(writer: OnnxWriter, x: Feature, operation: str, channels: int, name: str) -> Feature:
    if operation == "nor_conv_3x3":
        return relu_conv_norm(writer, x, channels, 3, name)
    if operation == "nor_conv_1x1":
        return relu_conv_norm(writer, x, channels, 1, name)
    if operation == "skip_connect":
        # Where channels change, the reference class owns a ReLU but does not apply it at stride 1.
        return x if x.channels == channels else conv_norm(writer, x, channels, 1, name)
    if x.channels != channels:
        raise ValueError(f'operation "{operation}" of {name} changes channels, which no space asks for')
    if operation == "avg_pool_3x3":
        return writer.average_pool(x, 3, name + ".pool", padding=1)
    # A zero tensor, as in the reference: convolutions that feed it stay in the network and its cost.
    return writer.zeros_like(x, name + ".zero")
