"""What the predictor sees of a network, differentiated by the widths in it.

A *width* is a group of channels that go together (`aiop.search.editing.coupling`). Of every operation it is known which
share of its input and output channels belongs to a width; MACs, parameters and elements grow in proportion to the axes
they are products of, and so with them every feature of a node and of the graph. What does not follow from a width
(positions, kernels, depths, counts) stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aiop.graph_ir.elementwise import FREE, MULTIPLYING
from aiop.graph_ir.extents import COMMUTATIVE, Extent, extents
from aiop.graph_ir.features import GRAPH_FEATURES, NODE_FEATURES, GraphArrays, encode_canonical
from aiop.graph_ir.graph import ComputeGraph, Operation
from aiop.graph_ir.passes import canonicalise
from aiop.search.editing.coupling import Coupling, Group, coupling

if TYPE_CHECKING:
    import onnx_ir as ir

    from aiop.search.editing.network import EditableNetwork

__all__ = ["WidthFeatures", "width_features"]

Array = npt.NDArray[Any]

_NOT_ELEMENTWISE = MULTIPLYING.union(*FREE.values())
_NODE = {name: place for place, name in enumerate(NODE_FEATURES)}
_GRAPH = {name: place for place, name in enumerate(GRAPH_FEATURES)}
_LEVELS = 8


@dataclass(frozen=True, eq=False)
class WidthFeatures:
    """Features of a network with K widths, and their derivatives with respect to the natural logarithm of each.

    groups: the widths; arrays: the features, as the predictor sees them.
    node: float64 ``(N, F, K)``; graph: ``(G, K)``.
    macs, params: ``(K,)``, of the network's MACs and parameters; total_macs: of the canonical network.
    """

    groups: tuple[Group, ...]
    arrays: GraphArrays
    node: Array
    graph: Array
    macs: Array
    params: Array
    total_macs: int


def width_features(network: EditableNetwork) -> WidthFeatures:
    """Return the features of a network and how they change with its widths."""
    known = coupling(network)
    graph = canonicalise(network.compute_graph())
    arrays = encode_canonical(graph)
    shares = _Shares(network, known, graph)
    rows = [shares.of(operation) for operation in graph.operations]
    count = len(known.groups)
    macs = np.array([operation.macs for operation in graph.operations], np.float64)
    params = np.array([operation.params for operation in graph.operations], np.float64)
    elements = np.array([operation.output_elements for operation in graph.operations], np.float64)
    s_in, s_out, s_groups, s_macs, s_params = (
        np.array([getattr(row, name) for row in rows], np.float64).reshape(len(rows), count)
        for name in ("read", "written", "groups", "macs", "params")
    )
    grown_macs, grown_params = macs @ s_macs, params @ s_params
    node = np.zeros((*arrays.node.shape, count))
    seen = arrays.node.astype(np.float64)
    for name, share in (
        ("log_channels_in", s_in), ("log_channels_out", s_out), ("log_macs", s_macs), ("log_params", s_params),
        ("log_elements", s_out),
    ):  # fmt: skip
        column = _NODE[name]
        node[:, column] = _log_slope(np.exp2(seen[:, column]) - 1)[:, None] * share
    node[:, _NODE["log_groups"]] = s_groups / math.log(2)
    for name, share, grown, total in (
        ("macs_share", s_macs, grown_macs, macs.sum()), ("params_share", s_params, grown_params, params.sum()),
    ):  # fmt: skip
        root = seen[:, _NODE[name], None]
        node[:, _NODE[name]] = 0.5 * root * (share - grown / max(1.0, total))
    found = np.zeros((len(GRAPH_FEATURES), count))
    computed = np.array([operation.op not in _NOT_ELEMENTWISE for operation in graph.operations])
    for name, amounts, share in (
        ("log_macs", macs, s_macs), ("log_params", params, s_params), ("log_elements", elements, s_out),
        ("log_activations", elements * (macs > 0), s_out),
    ):  # fmt: skip
        found[_GRAPH[name]] = _sum_slope(amounts, share)
    # the scores of attention are in the sum and do not grow
    place = _GRAPH["log_elementwise"]
    found[place] = (elements * computed) @ s_out / math.log(2) / np.exp2(float(arrays.graph[place]))
    outputs = [key for key in graph.outputs if key in shares.tensors]
    sizes = np.array([graph.tensors[key].elements for key in outputs], np.float64)
    if len(outputs):
        found[_GRAPH["log_outputs"]] = _sum_slope(sizes, np.stack([shares.tensors[key] for key in outputs]))
    channels = np.exp2(seen[:, _NODE["log_channels_out"]]) - 1
    slopes = _log_slope(channels)[:, None] * s_out
    weighted = macs > 0
    if weighted.any():
        found[_GRAPH["log_width"]] = slopes[weighted].mean(axis=0)
    levels = np.minimum(_LEVELS - 1, np.round(seen[:, _NODE["level"]])).astype(int)
    for level in set(levels[weighted].tolist()):
        here = weighted & (levels == level)
        found[_GRAPH[f"level{level}_macs"]] = _sum_slope(macs[here], s_macs[here])
        found[_GRAPH[f"level{level}_params"]] = _sum_slope(params[here], s_params[here])
        found[_GRAPH[f"level{level}_channels"]] = slopes[here].mean(axis=0)
        widest = here & (channels >= channels[here].max() * (1 - 1e-3))  # half precision
        found[_GRAPH[f"level{level}_wide"]] = slopes[widest].mean(axis=0)
    groups = tuple(known.groups.values())
    return WidthFeatures(groups, arrays, node, found, grown_macs, grown_params, graph.macs)


def _log_slope(numbers: Array) -> Array:
    """Return the derivative of ``log2(1 + x)`` with respect to ``ln x``."""
    return np.asarray(numbers / (1 + numbers) / math.log(2))


def _sum_slope(amounts: Array, shares: Array) -> Array:
    """Return that of ``log2(1 + sum)`` for amounts ``(n,)`` that grow by shares ``(n, K)``."""
    return np.asarray(amounts @ shares / (1 + amounts.sum()) / math.log(2))


@dataclass(frozen=True, eq=False)
class _Row:
    """How an operation grows with each width, ``(K,)`` each: relative growth per relative growth of the width."""

    read: Array
    written: Array
    groups: Array
    macs: Array
    params: Array


class _Shares:
    """Finds for operation after operation which share of its channels belongs to each width."""

    def __init__(self, network: EditableNetwork, known: Coupling, graph: ComputeGraph) -> None:
        self._network, self._known, self._graph = network, known, graph
        self._extents = extents(graph)
        self._count = len(known.groups)
        self._group = np.full(known.count, -1, np.int64)
        for number, group in enumerate(known.groups.values()):
            for part in group.parts:
                self._group[part] = number
        self.tensors: dict[str, Array] = {}

    def of(self, operation: Operation) -> _Row:
        """Return the growth of an operation, all before it having been asked for."""
        read, nothing = self._read(operation), np.zeros(self._count)
        layer = self._layer(operation) if operation.weights else None
        groups, macs, params = nothing, nothing, None
        if layer is not None:
            inputs, written, weight = layer
            if operation.op != "Linear":
                groups = read - inputs
            macs = weight
            own = min(operation.params, math.prod(operation.weights[0].shape))
            if operation.params:
                params = (own * weight + (operation.params - own) * written) / operation.params
        else:
            written = self._written(operation, read)
            if operation.macs:  # both products of an attention grow with its channels, once each
                macs = written if operation.op == "Attention" else read + written
        for key in operation.outputs:
            self.tensors[key] = written
        return _Row(read, written, groups, macs, written if params is None else params)

    def _axis(self, axis: Array | None) -> Array:
        """Return the share of every width in an axis of atoms."""
        if axis is None or not len(axis):
            return np.zeros(self._count)
        numbers = self._group[self._known.label[axis]]
        return np.bincount(numbers[numbers >= 0], minlength=self._count)[: self._count] / len(axis)

    def _layer(self, operation: Operation) -> tuple[Array, Array, Array] | None:
        """Return the growth of the input axis of a weight, of what is written, and of the weight itself."""
        node = self._network.node(operation.name)
        axes = None if node is None else self._weight(node)
        if node is None or axes is None or len(axes) < 2:
            return None
        growth = [self._axis(axis) for axis in axes]
        weight = np.sum(growth, axis=0)
        if node.op_type == "Conv":
            return growth[1], growth[0], weight
        if node.op_type == "ConvTranspose":
            groups = operation.groups
            # with groups the channels that are written are those of all groups, which go with what is read
            return (
                (growth[0], growth[1], weight) if groups == 1 else (growth[0], growth[0] + growth[1], weight)
            )
        if node.op_type == "Gemm":
            turned = "transB" in node.attributes and node.attributes["transB"].as_int()
            return (growth[1], growth[0], weight) if turned else (growth[0], growth[1], weight)
        if node.op_type == "MatMul":
            return growth[-2], growth[-1], weight
        return None

    def _weight(self, node: ir.Node) -> list[Array | None] | None:
        if len(node.inputs) < 2 or node.inputs[1] is None:
            return None
        return self._known.weights.get(node.inputs[1].name or "")

    def _read(self, operation: Operation) -> Array:
        """Return the growth of the channels that `aiop.graph_ir.features` calls read."""
        keys = [key for key in operation.inputs if key in self.tensors]
        if not keys:
            return np.zeros(self._count)
        if operation.op in COMMUTATIVE:
            return self.tensors[
                max(keys, key=lambda key: (math.prod(self._extents[key]), self._extents[key]))
            ]
        return self.tensors[keys[0]]

    def _written(self, operation: Operation, read: Array) -> Array:
        """Return the growth of what an operation without a weight of two axes writes."""
        keys = [key for key in operation.inputs if key in self.tensors]
        if not keys or not operation.outputs:
            return np.zeros(self._count)
        extent = self._extents.get(operation.outputs[0], Extent(1, 1))
        if operation.op == "Concat":
            channels = np.array([self._extents[key].channels for key in keys], np.float64)
            if channels.sum() == extent.channels:
                return np.asarray(channels @ np.stack([self.tensors[key] for key in keys]) / channels.sum())
        if operation.op == "MatMul" and len(keys) > 1:
            alike = self._extents[keys[1]].channels == extent.channels
            return self.tensors[keys[1]] if alike else np.zeros(self._count)
        if operation.op == "Attention":
            return self.tensors[keys[min(2, len(keys) - 1)]]
        if extent.channels == 1 and self._extents[keys[0]].channels > 1:
            return np.zeros(self._count)
        alike_keys = [key for key in keys if self._extents[key].channels == extent.channels]
        return self.tensors[alike_keys[0]] if alike_keys else read
