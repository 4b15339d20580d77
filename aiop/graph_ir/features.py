"""What a predictor sees of an operation and of a whole graph: numbers that mean the same in every search space."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.graph_ir.elementwise import FREE, MULTIPLYING
from aiop.graph_ir.extents import COMMUTATIVE, Extent, extents
from aiop.graph_ir.graph import ComputeGraph, Operation
from aiop.graph_ir.operators import INDEX, VOCABULARY
from aiop.graph_ir.passes import canonicalise

__all__ = [
    "COSTS",
    "GRAPH_FEATURES",
    "NODE_FEATURES",
    "RELATIVE",
    "VOCABULARY",
    "GraphArrays",
    "encode",
    "encode_canonical",
    "fingerprint",
]

FEATURES_VERSION = 3

NODE_FEATURES: tuple[str, ...] = (
    "log_channels_in", "log_channels_out", "log_positions_in", "log_positions_out", "level", "log_kernel_0",
    "log_kernel_1", "log_stride", "log_dilation", "log_groups", "padding", "bias", "log_macs", "log_params",
    "log_elements", "macs_share", "params_share", "depth", "log_depth", "fan_in", "fan_out",
)  # fmt: skip
"""Names of the columns of ``GraphArrays.node``. Logarithms are of base 2 and of one plus the number; ``level`` is the
logarithm of how many times smaller than the network's input a side is; ``depth`` is relative to the longest path."""

RELATIVE = slice(NODE_FEATURES.index("macs_share"), NODE_FEATURES.index("log_depth") + 1)
"""The columns of ``GraphArrays.node`` that relate an operation to its whole graph: operations that are alike in all
others still differ in these from graph to graph."""

_NOT_ELEMENTWISE = MULTIPLYING.union(*FREE.values())
_LEVELS = 8
_PER_LEVEL = ("macs", "params", "weighted", "channels", "wide")
_COSTS = (
    "log_macs", "log_params", "log_activations", "log_elements", "log_operations", "log_weighted", "log_depth",
    "log_resolution", "log_channels_in", "log_outputs", "log_width", "log_elementwise",
)  # fmt: skip
GRAPH_FEATURES: tuple[str, ...] = (
    _COSTS
    + tuple(f"count_{name}" for name in VOCABULARY)
    + tuple(f"level{level}_{what}" for level in range(_LEVELS) for what in _PER_LEVEL)
)
"""Names of the columns of ``GraphArrays.graph``: costs, counts of operators, and both again per resolution level."""

COSTS = slice(0, len(_COSTS))
"""The columns of ``GraphArrays.graph`` that are costs and sizes of the whole graph."""


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
    return encode_canonical(canonicalise(graph))


def encode_canonical(graph: ComputeGraph) -> GraphArrays:
    """As `encode`, for a graph that is in canonical form already."""
    operations = graph.operations
    edges = [(edge.source, edge.target) for edge in graph.edges()]
    depths, longest = _depths(len(operations), edges)
    fan_out = np.bincount(np.array([source for source, _ in edges], np.int64), minlength=len(operations))
    measure = extents(graph)
    resolution, channels = _input_size(graph, measure)
    macs = max(1, sum(operation.macs for operation in operations))
    params = max(1, sum(operation.params for operation in operations))
    rows = []
    levels = np.zeros((_LEVELS, len(_PER_LEVEL)))
    counts = np.zeros(len(VOCABULARY))
    widths = []
    for index, operation in enumerate(operations):
        c_in, p_in = _read(operation, measure)
        c_out, p_out = measure[operation.outputs[0]] if operation.outputs else (0, 0)
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
        _log(sum(_computed(operation, measure) for operation in operations)),
    ]  # fmt: skip
    levels[:, 3] /= np.maximum(1, levels[:, 2])
    levels[:, [0, 1, 2, 4]] = np.log2(1 + levels[:, [0, 1, 2, 4]])
    return GraphArrays(
        op=np.array([INDEX[operation.op] for operation in operations], np.uint8),
        node=np.array(rows, np.float32).reshape(len(operations), len(NODE_FEATURES)).astype(np.float16),
        edge_index=np.array(edges, np.int32).reshape(-1, 2).T.copy(),
        graph=np.concatenate([costs, np.log2(1 + counts), levels.reshape(-1)]).astype(np.float32),
    )


def _computed(operation: Operation, measure: dict[str, Extent]) -> int:
    """Return how many elements an operation computes one by one: activations, norms, pools, the scores of attention."""
    if operation.op == "Attention" and operation.outputs:
        heads = int(str(dict(operation.attributes).get("heads", 1)))
        # both products take a width per score; a width is the channels of one head
        return operation.macs * heads // (2 * max(1, measure[operation.outputs[0]].channels))
    return 0 if operation.op in _NOT_ELEMENTWISE else operation.output_elements


def _log(number: float) -> float:
    return math.log2(1 + number) if number > 0 else 0.0


def _depths(count: int, edges: list[tuple[int, int]]) -> tuple[list[int], int]:
    """Return the longest path to every operation, and the longest of all (at least 1)."""
    depths = [0] * count
    for source, target in edges:  # ordered by target, so a source's depth is final
        if depths[source] >= depths[target]:
            depths[target] = depths[source] + 1
    return depths, max(1, max(depths, default=1))


def _input_size(graph: ComputeGraph, measure: dict[str, Extent]) -> tuple[float, int]:
    """Return (side in pixels, channels) of the largest input."""
    sizes = [measure[key] for key in graph.inputs if key in measure]
    channels, positions = max(sizes, key=math.prod, default=Extent(1, 1))
    return math.sqrt(max(1, positions)), channels


def _read(operation: Operation, measure: dict[str, Extent]) -> tuple[int, int]:
    """Return (channels, positions) of what an operation reads: its first input, or the largest where none is first."""
    if not operation.inputs:
        return 0, 0
    if operation.op in COMMUTATIVE:
        return max((measure[key] for key in operation.inputs), key=lambda extent: (math.prod(extent), extent))
    channels, positions = measure[operation.inputs[0]]
    matrix = operation.weights[0].shape if operation.op == "Linear" and operation.weights else ()
    if len(matrix) == 2:
        # A matrix says itself how wide its input is: a view that flattened an image before it is left out.
        elements, columns = channels * positions, measure[operation.outputs[0]].channels
        channels = matrix[0] if matrix[1] == columns else matrix[1]
        positions = elements // max(1, channels)
    return channels, positions
