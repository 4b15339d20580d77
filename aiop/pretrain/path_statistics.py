"""What only walking through a graph tells: numbers that no input of the network holds and no label is needed for."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from aiop.graph_ir.features import NODE_FEATURES, GraphArrays

__all__ = ["PATH_STATISTICS", "path_statistics"]

PATH_STATISTICS = ("log_paths", "log_mean_length", "log_receptive_field", "log_weighted_path", "log_breadth")
"""Logarithms of base 2: of the number of ways from an input to an output, of their mean length in operations, of the
side of the image that an output position can see, of the most weighted operations on one way, and of the most
operations at one depth."""

_KERNEL, _STRIDE, _DILATION, _PARAMS = (
    NODE_FEATURES.index(name) for name in ("log_kernel_0", "log_stride", "log_dilation", "log_params")
)


def path_statistics(graph: GraphArrays) -> NDArray[np.float32]:
    """Return the `PATH_STATISTICS` of a graph, float32 (5,), one pass over its edges.

    Operations of a graph are in topological order, as the encoder leaves them.
    """
    count = len(graph.op)
    if not count:
        return np.zeros(len(PATH_STATISTICS), np.float32)
    node = graph.node.astype(np.float64)
    kernel = np.maximum(np.rint(np.exp2(node[:, _KERNEL])) - 1, 1)
    reach = ((kernel - 1) * np.rint(np.exp2(node[:, _DILATION]))).tolist()
    stride = np.rint(np.exp2(node[:, _STRIDE])).tolist()
    weighted = (node[:, _PARAMS] > 0).astype(int).tolist()
    before: list[list[int]] = [[] for _ in range(count)]
    last = [True] * count
    for source, target in graph.edge_index.T.tolist():
        before[target].append(source)
        last[source] = False
    ways, lengths = (
        [1] * count,
        [0.0] * count,
    )  # numbers of ways grow beyond any float: they stay whole numbers
    field, jump, weights, depth = [1.0] * count, [1.0] * count, [0] * count, [0] * count
    for place in range(count):
        if sources := before[place]:
            ways[place] = sum(ways[source] for source in sources)
            lengths[place] = sum(ways[source] / ways[place] * (1 + lengths[source]) for source in sources)
            field[place] = max(field[source] for source in sources)
            jump[place] = max(jump[source] for source in sources)
            weights[place] = max(weights[source] for source in sources)
            depth[place] = 1 + max(depth[source] for source in sources)
        field[place] += reach[place] * jump[place]
        jump[place] *= stride[place]
        weights[place] += weighted[place]
    ends = [place for place in range(count) if last[place]]
    total = sum(ways[place] for place in ends)
    mean = sum(ways[place] / total * lengths[place] for place in ends)
    numbers = (1 + mean, max(field), 1 + max(weights), max(np.bincount(depth).tolist()))
    return np.array([math.log2(total), *(math.log2(number) for number in numbers)], np.float32)
