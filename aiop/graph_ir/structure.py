"""Networks as counts of chains of operations: hashed Weisfeiler-Lehman labels, along the edges and against them.

Every operation starts with a label of what it is (operator, kernel, stride, dilation, whether in groups). A round of
`before` joins to it the labels of the operations that it reads, a round of `after` those of the operations that read it
(Shervashidze et al. 2011). How often a label occurs tells apart cells that counts of operators do not. The two
directions go separately: labels of both at once are so many that hardly any occurs in two networks.

Labels are 64-bit numbers, mixed by integer arithmetic alone: the same on every machine and in every process. They
fall into a fixed number of buckets (Shi et al. 2009), so that all networks of all spaces have the same columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.graph_ir.features import NODE_FEATURES, GraphArrays

__all__ = ["STRUCTURE_PARTS", "STRUCTURE_WIDTH", "structure_counts"]

Array = npt.NDArray[Any]
Hashes = npt.NDArray[np.uint64]

STRUCTURE_PARTS: dict[str, int] = {
    "own": 32,
    "before 1": 96, "before 2": 192, "before 3": 384, "before 4": 416,
    "after 1": 128, "after 2": 256, "after 3": 384, "after 4": 416,
}  # fmt: skip
"""Buckets of what operations are by themselves, and of each round of each direction."""

STRUCTURE_WIDTH = sum(STRUCTURE_PARTS.values())
"""Columns of `structure_counts`, part after part."""

_ROUNDS = 4
_CHUNK = 512  # graphs hashed at once: some tens of megabytes
_MOST = 255
_SIZES = tuple(NODE_FEATURES.index(f"log_{name}") for name in ("kernel_0", "kernel_1", "stride", "dilation"))
_GROUPS = NODE_FEATURES.index("log_groups")


def structure_counts(graphs: Iterable[GraphArrays]) -> npt.NDArray[np.uint8]:
    """Return counts of hashed labels, uint8 ``(n, STRUCTURE_WIDTH)``, for n graphs; more than 255 count as 255.

    The order of a graph's operations has no part in them. A graph without operations has zeros.
    """
    stream, parts = iter(graphs), [np.zeros((0, STRUCTURE_WIDTH), np.uint8)]
    while chunk := list(islice(stream, _CHUNK)):
        parts.append(_counts(chunk))
    return np.concatenate(parts)


def _counts(graphs: Sequence[GraphArrays]) -> npt.NDArray[np.uint8]:
    sizes = np.array([len(graph.op) for graph in graphs], np.int64)
    edges = [graph.edge_index.shape[1] for graph in graphs]
    op = np.concatenate([graph.op for graph in graphs])
    node = np.concatenate([graph.node for graph in graphs])
    shift = np.repeat(np.cumsum(sizes) - sizes, edges)
    source, target = np.concatenate([graph.edge_index for graph in graphs], axis=1) + shift
    own = _own(op, node)
    labels = {"own": own}
    for direction, ends, owners in (("before", source, target), ("after", target, source)):
        neighbours, found = _Neighbours(ends, owners, len(op)), own
        for number in range(1, _ROUNDS + 1):
            found = _mix(_mix(found + 1) + 3 * neighbours.total(_mix(found)))
            labels[f"{direction} {number}"] = found
    first = np.repeat(np.arange(len(graphs)) * STRUCTURE_WIDTH, sizes)
    counts = np.zeros(len(graphs) * STRUCTURE_WIDTH, np.int64)
    for part, width in STRUCTURE_PARTS.items():
        counts += np.bincount(
            first + (labels[part] % np.uint64(width)).astype(np.int64), minlength=len(counts)
        )
        first += width
    return np.minimum(counts, _MOST).astype(np.uint8).reshape(len(graphs), STRUCTURE_WIDTH)


def _own(op: Array, node: Array) -> Hashes:
    """What every operation is by itself, ``(N,)``; sizes are whole numbers whose logarithms have half precision."""
    labels = _mix(op.astype(np.uint64) + 1)
    sizes = np.rint(np.exp2(node[:, _SIZES].astype(np.float64))).astype(np.uint64)
    for column in (*sizes.T, (node[:, _GROUPS] > 0).astype(np.uint64)):
        labels = _mix(31 * labels + column)
    return labels


class _Neighbours:
    """Sums over the operations at the other ends of edges, ``(N,)`` each; sums of hashes wrap around."""

    def __init__(self, ends: Array, owners: Array, count: int) -> None:
        self._ends = ends[np.argsort(owners, kind="stable")]
        self._stops = np.cumsum(np.bincount(owners, minlength=count))

    def total(self, labels: Hashes) -> Hashes:
        running = np.zeros(len(self._ends) + 1, np.uint64)
        np.cumsum(labels[self._ends], out=running[1:])
        upto = running[self._stops]
        upto[1:] -= upto[:-1].copy()
        return upto


def _mix(numbers: Hashes) -> Hashes:
    """Scramble 64-bit numbers one to one (the finaliser of splitmix64, Steele et al. 2014)."""
    found = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(found ^ (found >> np.uint64(31)))
