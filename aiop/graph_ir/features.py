"""What a predictor sees of an operation and of a whole graph: numbers that mean the same in every search space."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.graph_ir.graph import ComputeGraph, Operation
from aiop.graph_ir.operators import INDEX, VOCABULARY
from aiop.graph_ir.passes import canonicalise
from aiop.graph_ir.values import Shape

__all__ = ["GRAPH_FEATURES", "NODE_FEATURES", "VOCABULARY", "GraphArrays", "encode", "fingerprint"]

FEATURES_VERSION = 2

NODE_FEATURES: tuple[str, ...] = (
    "log_channels_in", "log_channels_out", "log_positions_in", "log_positions_out", "level", "log_kernel_0",
    "log_kernel_1", "log_stride", "log_dilation", "log_groups", "padding", "bias", "log_macs", "log_params",
    "log_elements", "macs_share", "params_share", "depth", "log_depth", "fan_in", "fan_out",
)  # fmt: skip
"""Names of the columns of ``GraphArrays.node``. Logarithms are of base 2 and of one plus the number; ``level`` is the
logarithm of how many times smaller than the network's input a side is; ``depth`` is relative to the longest path."""

_LEVELS = 8
_PER_LEVEL = ("macs", "params", "weighted", "channels", "wide")
_COSTS = (
    "log_macs", "log_params", "log_activations", "log_elements", "log_operations", "log_weighted", "log_depth",
    "log_resolution", "log_channels_in", "log_outputs", "log_width",
)  # fmt: skip
GRAPH_FEATURES: tuple[str, ...] = (
    _COSTS
    + tuple(f"count_{name}" for name in VOCABULARY)
    + tuple(f"level{level}_{what}" for level in range(_LEVELS) for what in _PER_LEVEL)
)
"""Names of the columns of ``GraphArrays.graph``: costs, counts of operators, and both again per resolution level."""


@dataclass(frozen=True)
class GraphArrays:
    """One graph as numbers.

    ``op``: uint8 ``(N,)``, indices into the vocabulary; ``node``: float16 ``(N, F)``; ``edge_index``: int32 ``(2, E)``,
    row 0 the source; ``graph``: float32 ``(G,)``.
    """

    op: npt.NDArray[Any]
    node: npt.NDArray[Any]
    edge_index: npt.NDArray[Any]
    graph: npt.NDArray[Any]


def fingerprint() -> str:
    """Return the SHA-256 of the vocabulary and feature names: what weights and corpora were made with."""
    text = json.dumps([FEATURES_VERSION, VOCABULARY, NODE_FEATURES, GRAPH_FEATURES])
    return hashlib.sha256(text.encode()).hexdigest()


def encode(graph: ComputeGraph) -> GraphArrays:
    """Return the arrays of a graph's canonical form.

    The result does not depend on names, and on the order of operations only through the order of its rows.
    """
    graph = canonicalise(graph)
    operations = graph.operations
    edges = [(edge.source, edge.target) for edge in graph.edges()]
    depths, longest = _depths(len(operations), edges)
    fan_out = np.bincount(np.array([source for source, _ in edges], np.int64), minlength=len(operations))
    resolution, channels = _input_size(graph)
    macs = max(1, sum(operation.macs for operation in operations))
    params = max(1, sum(operation.params for operation in operations))
    rows = []
    levels = np.zeros((_LEVELS, len(_PER_LEVEL)))
    counts = np.zeros(len(VOCABULARY))
    widths = []
    for index, operation in enumerate(operations):
        c_in, p_in = _channels_positions(graph, operation, first=True)
        c_out, p_out = _channels_positions(graph, operation, first=False)
        level = math.log2(max(1.0, resolution * resolution / max(1, p_out))) / 2
        kernel = operation.kernel or (0,)
        rows.append(
            (
                _log(c_in), _log(c_out), _log(p_in), _log(p_out), level, _log(kernel[0]), _log(kernel[-1]),
                _log(max(operation.stride, default=1) - 1), _log(max(operation.dilation, default=1) - 1),
                _log(operation.groups - 1), _log(sum(operation.padding)), float(operation.bias), _log(operation.macs),
                _log(operation.params), _log(operation.output_elements), math.sqrt(operation.macs / macs),
                math.sqrt(operation.params / params), depths[index] / longest, _log(depths[index]),
                _log(len(operation.inputs)), _log(int(fan_out[index])),
            )
        )  # fmt: skip
        counts[INDEX[operation.op]] += 1
        if operation.macs:
            row = levels[min(_LEVELS - 1, round(level))]
            row += (operation.macs, operation.params, 1, math.log2(1 + c_out), 0)
            row[4] = max(row[4], c_out)
            widths.append(math.log2(1 + c_out))
    weighted = len(widths)
    outputs = sum(graph.tensors[key].elements for key in graph.outputs if key in graph.tensors)
    costs = [
        _log(macs), _log(params), _log(sum(o.output_elements for o in operations if o.macs)),
        _log(sum(o.output_elements for o in operations)), _log(len(operations)), _log(weighted), _log(longest),
        _log(resolution), _log(channels), _log(outputs), float(np.mean(widths)) if widths else 0.0,
    ]  # fmt: skip
    levels[:, 3] /= np.maximum(1, levels[:, 2])
    levels[:, [0, 1, 2, 4]] = np.log2(1 + levels[:, [0, 1, 2, 4]])
    return GraphArrays(
        op=np.array([INDEX[operation.op] for operation in operations], np.uint8),
        node=np.array(rows, np.float32).reshape(len(operations), len(NODE_FEATURES)).astype(np.float16),
        edge_index=np.array(edges, np.int32).reshape(-1, 2).T.copy(),
        graph=np.concatenate([costs, np.log2(1 + counts), levels.reshape(-1)]).astype(np.float32),
    )


def _log(number: float) -> float:
    return math.log2(1 + number) if number > 0 else 0.0


def _depths(count: int, edges: list[tuple[int, int]]) -> tuple[list[int], int]:
    """Return the longest path to every operation, and the longest of all (at least 1)."""
    depths = [0] * count
    for source, target in edges:  # ordered by target, so a source's depth is final
        if depths[source] >= depths[target]:
            depths[target] = depths[source] + 1
    return depths, max(1, max(depths, default=1))


def _input_size(graph: ComputeGraph) -> tuple[float, int]:
    """Return (side in pixels, channels) of the largest input."""
    shapes = [graph.tensors[key].shape for key in graph.inputs if key in graph.tensors]
    shape = max(shapes, key=math.prod, default=())
    channels, positions = _split(shape)
    return math.sqrt(max(1, positions)), channels


def _split(shape: Shape) -> tuple[int, int]:
    """Return (channels, positions) of a tensor: the second axis of an image, the last axis of a sequence."""
    if not shape:
        return 1, 1
    axis = 1 if len(shape) >= 4 else -1
    channels = shape[axis]
    return channels, math.prod(shape) // max(1, channels)


def _channels_positions(graph: ComputeGraph, operation: Operation, *, first: bool) -> tuple[int, int]:
    keys = operation.inputs if first else operation.outputs
    if not keys:
        return 0, 0
    shape = graph.tensors[keys[0]].shape
    if (
        operation.op == "Linear" and operation.weights and shape
    ):  # a matrix's own sizes, whatever the layout around it
        return shape[-1], math.prod(shape) // max(1, shape[-1])
    return _split(shape)
