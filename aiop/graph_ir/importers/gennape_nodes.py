"""The nodes of one graph of an AIO-P or GENNAPE cache, checked, whole and in topological order.

Those graphs come from TensorFlow: channels last, weights merged into the node that uses them, costs not stored. A node
has ``str_id``, ``label`` (the last part of TensorFlow's name), ``op_type_idx`` (into 26 operations, 0 for any other),
``resolution`` ``[Hin, Hout, Win, Wout, Cin, Cout]``, ``strides`` and ``metadata``; one with weights also ``shape``
``[Cin, Cout, k1, k2]``. ``edge_pairs`` are pairs of indices into ``weighted_nodes + regular_nodes``, or of ``str_id``.
Format: the public code of AIO-P, ``model_src/comp_graph/tf_comp_graph.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiop.graph_ir.importers.pickle_reader import Record

__all__ = ["GRAPH_CLASSES", "CacheNode", "GraphError", "read_nodes"]

_MODULE = "model_src.comp_graph.tf_comp_graph"
GRAPH_CLASSES = {(_MODULE, kind): kind for kind in ("ComputeGraph", "RegularNode", "WeightedNode")}
"""(Module, class) of the objects in a cache -> kind of `Record`."""

MOST_NODES = 50_000
LARGEST_EXTENT = 1 << 24

_KINDS = (
    "", "input", "output", "conv", "depthwise", "batchnorm", "relu", "relu6", "matmul", "add", "mul", "concat",
    "maxpool", "avgpool", "sigmoid", "tanh", "swish", "gelu", "padding", "mean", "spacetobatch", "batchtospace",
    "spacetodepth", "depthtospace", "global", "identity", "zero",
)  # fmt: skip
"""What ``op_type_idx`` counts, in the order of their list; the first stands for every other operation."""

_BY_LENGTH = sorted((*_KINDS[1:], "resizebilinear"), key=len, reverse=True)
_HIDDEN, _KERNEL = 512, 7  # what their caches divide channels and kernels by, where they do


class GraphError(Exception):
    """Why a graph is refused; does not name the entry."""


@dataclass(slots=True)
class CacheNode:
    """One operation. ``kind`` is one of `_KINDS`, ``inputs`` are indices of nodes.

    ``size_in`` and ``size_out`` are (height, width, channels). ``weight`` is (Cin, Cout) of the weights as stored and
    ``kernel`` their spatial size, or that of a pooling window; (0, 0) where unknown. ``pads`` are the four numbers of
    explicit padding: top, bottom, left, right.
    """

    name: str
    kind: str
    label: str
    size_in: tuple[int, int, int]
    size_out: tuple[int, int, int]
    weight: tuple[int, int] = (0, 0)
    kernel: tuple[int, int] = (0, 0)
    stride: tuple[int, int] | None = None
    dilation: tuple[int, int] = (1, 1)
    same: bool = True
    bias: bool = False
    pads: tuple[int, int, int, int] | None = None
    inputs: list[int] = field(default_factory=list)


def read_nodes(graph: Record) -> list[CacheNode]:
    """Return the nodes of a graph, each after its inputs; the first ones are its inputs.

    Raises:
        GraphError: A field is missing or impossible, an edge leads nowhere, or there is a cycle.
    """
    state = _state(graph, "the graph")
    if graph.kind != "ComputeGraph":
        raise GraphError(f"its graph is a {graph.kind}")
    records = [
        *_sequence(state, "weighted_nodes"),
        *_sequence(state, "regular_nodes"),
    ]  # indices count in this order
    if not 0 < len(records) <= MOST_NODES:
        raise GraphError(f"its graph has {len(records)} nodes, of 1 to {MOST_NODES} allowed")
    nodes = _whole_nodes(records, state)
    _connect(nodes, _sequence(state, "edge_pairs"))
    nodes = _merge_dilation(nodes)
    return _in_order(_with_input(nodes, state))


# -- fields


def _state(record: object, what: str) -> dict[str, Any]:
    if not isinstance(record, Record) or record.state is None:
        raise GraphError(f"{what} is no object with a state")
    return record.state


def _sequence(state: dict[str, Any], key: str) -> Sequence[Any]:
    value = state.get(key)
    if not isinstance(value, list | tuple):
        raise GraphError(f"its graph has no list {key!r}")
    return value


def _numbers(value: object, count: int, what: str) -> list[float]:
    if isinstance(value, list | tuple) and len(value) == count:
        numbers = [item for item in value if type(item) in (int, float) and math.isfinite(item) and item >= 0]
        if len(numbers) == count:
            return numbers
    raise GraphError(f"{what} is not a list of {count} numbers")


def _kind(label: str, index: object) -> str:
    """Return the operation by a node's label, by the longest name in it as its authors do, or by its index."""
    plain = label.lower().replace("_", "")
    for kind in _BY_LENGTH:
        if kind in plain:
            return kind
    if type(index) is int and 0 < index < len(_KINDS):
        return _KINDS[index]
    return _kind(index, None) if isinstance(index, str) else ""


def _factor(values: Iterable[float], scales: Iterable[object], what: str) -> float:
    """Return what all values are to be multiplied with to be whole: some caches store them divided by a maximum."""
    positive = [value for value in values if value > 0]
    for scale in (1, *scales):
        if type(scale) in (int, float) and all(_is_whole(value * scale) for value in positive):  # type: ignore[operator]
            return float(scale)  # type: ignore[arg-type]
    raise GraphError(f"its {what} are no whole numbers, by none of the maxima they may be divided by")


def _is_whole(value: float) -> bool:
    return 0.5 <= value <= LARGEST_EXTENT and abs(value - round(value)) < 1e-3


def _whole_nodes(records: list[Any], state: dict[str, Any]) -> list[CacheNode]:
    states = [_state(record, f"node {index}") for index, record in enumerate(records)]
    hidden, kernel = state.get("max_hidden_size"), state.get("max_kernel_size")
    resolutions = [
        _numbers(fields.get("resolution"), 6, f"the resolution of node {str(fields.get('str_id'))[:80]!r}")
        for fields in states
    ]
    shapes = [
        _numbers(fields.get("shape"), 4, f"the shape of node {str(fields.get('str_id'))[:80]!r}")
        if record.kind == "WeightedNode"
        else [0.0, 0.0, 0.0, 0.0]
        for record, fields in zip(records, states, strict=True)
    ]

    def column(rows: list[list[float]], *places: int) -> list[float]:
        return [row[place] for row in rows for place in places]

    height = _factor(column(resolutions, 0, 1), (state.get("max_derived_H"),), "heights")
    width = _factor(column(resolutions, 2, 3), (state.get("max_derived_W"),), "widths")
    channels = _factor(column(resolutions, 4, 5), (hidden, _HIDDEN), "channels")
    weights = _factor(column(shapes, 0, 1), (hidden, _HIDDEN), "weights' channels")
    kernels = _factor(column(shapes, 2, 3), (kernel, _KERNEL, hidden, _HIDDEN), "kernel sizes")
    nodes = []
    for record, fields, size, shape in zip(records, states, resolutions, shapes, strict=True):
        if record.kind not in ("RegularNode", "WeightedNode"):
            raise GraphError(f"a node is a {record.kind}")
        node = _node(
            fields,
            (round(size[0] * height), round(size[2] * width), round(size[4] * channels)),
            (round(size[1] * height), round(size[3] * width), round(size[5] * channels)),
        )
        node.weight = (round(shape[0] * weights), round(shape[1] * weights))
        if any(shape):
            node.kernel = (round(shape[2] * kernels), round(shape[3] * kernels))
        nodes.append(node)
    return nodes


def _node(fields: dict[str, Any], size_in: tuple[int, int, int], size_out: tuple[int, int, int]) -> CacheNode:
    name, label = fields.get("str_id"), fields.get("label", "")
    if not isinstance(name, str) or not isinstance(label, str):
        raise GraphError("a node has no text str_id and label")
    if min(*size_in, *size_out) < 1:
        raise GraphError(f"node {name[:80]!r} has a size of 0")
    node = CacheNode(name, _kind(label, fields.get("op_type_idx")), label, size_in, size_out)
    more = fields.get("metadata") or {}
    if not isinstance(more, dict):
        raise GraphError(f"the metadata of node {name[:80]!r} is no dictionary")
    first = 2 if more.get("data_format") == "NCHW" else 1  # of the two spatial axes among four

    def pair(value: object, what: str) -> tuple[int, int] | None:
        if value is None:
            return None
        numbers = _numbers(value, 4, f"{what} of node {name[:80]!r}")[first : first + 2]
        if not all(_is_whole(number) for number in numbers):
            raise GraphError(f"{what} of node {name[:80]!r} are no whole numbers")
        return round(numbers[0]), round(numbers[1])

    node.stride = pair(fields.get("strides"), "the strides")
    node.dilation = pair(more.get("dilations"), "the dilations") or (1, 1)
    node.kernel = pair(more.get("ksize"), "the window") or (0, 0)
    node.same = str(more.get("padding", "same")).lower() != "valid"
    node.bias = more.get("use_bias") is True
    if "pad_h" in more and "pad_w" in more:
        pads = [*_numbers(more["pad_h"], 2, "padding"), *_numbers(more["pad_w"], 2, "padding")]
        node.pads = (int(pads[0]), int(pads[1]), int(pads[2]), int(pads[3]))
    return node


# -- edges


def _connect(nodes: list[CacheNode], pairs: Sequence[Any]) -> None:
    places = {node.name: index for index, node in enumerate(nodes)}
    if len(places) < len(nodes):
        raise GraphError("two of its nodes have the same str_id")
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise GraphError("an edge is no pair")
        ends = [places.get(end) if isinstance(end, str) else end for end in pair]
        known = [end for end in ends if type(end) is int and 0 <= end < len(nodes)]
        if len(known) < 2:
            raise GraphError(f"an edge leads to a node that does not exist ({len(nodes)} do)")
        nodes[known[1]].inputs.append(known[0])


def _users(nodes: list[CacheNode]) -> list[list[int]]:
    users: list[list[int]] = [[] for _ in nodes]
    for index, node in enumerate(nodes):
        for source in node.inputs:
            users[source].append(index)
    return users


def _merge_dilation(nodes: list[CacheNode]) -> list[CacheNode]:
    """Make one dilated convolution of space-to-batch, convolution, batch-to-space, as TensorFlow writes it."""
    if not any(node.kind == "spacetobatch" for node in nodes):
        return nodes
    users = _users(nodes)
    merged: dict[int, int] = {}  # index of a batch-to-space -> of the convolution before it
    for index, node in enumerate(nodes):
        if node.kind != "spacetobatch" or len(users[index]) != 1:
            continue
        middle = users[index][0]
        convolution = nodes[middle]
        if (
            convolution.kind not in ("conv", "depthwise")
            or len(convolution.inputs) != 1
            or len(users[middle]) != 1
        ):
            continue
        last = users[middle][0]
        after = nodes[last]
        if after.kind != "batchtospace" or len(after.inputs) != 1:
            continue
        convolution.dilation = _blocks(node, after)
        convolution.size_in = (*node.size_in[:2], convolution.size_in[2])
        convolution.size_out = (*after.size_out[:2], convolution.size_out[2])
        convolution.same = True
        convolution.inputs, node.inputs, after.inputs = node.inputs, [], []
        merged[last] = middle
    for node in nodes:
        node.inputs = [merged.get(source, source) for source in node.inputs]
    return nodes


def _blocks(before: CacheNode, after: CacheNode) -> tuple[int, int]:
    """Return the block sizes: exact where the padding is known, else the least that fits."""
    blocks = []
    for axis in range(2):
        padded = before.size_in[axis] + (sum(before.pads[2 * axis : 2 * axis + 2]) if before.pads else 0)
        if before.pads and padded % before.size_out[axis] == 0:
            blocks.append(padded // before.size_out[axis])
        else:
            blocks.append(-(-after.size_out[axis] // after.size_in[axis]))
    return blocks[0], blocks[1]


def _with_input(nodes: list[CacheNode], state: dict[str, Any]) -> list[CacheNode]:
    """Leave out nodes without any edge, and add the input where none of the nodes is one."""
    users = _users(nodes)
    heads = [index for index, node in enumerate(nodes) if not node.inputs and users[index]]
    if not heads:
        if any(users):
            return nodes  # all of it is a cycle, as sorting will find
        raise GraphError("its graph has no edges")
    if not any(nodes[index].kind == "input" for index in heads):
        shape = _numbers(state.get("input_shape"), 4, "input_shape")
        if not all(_is_whole(extent) for extent in shape):
            raise GraphError("its input_shape has a size that is no whole number")
        size = (round(shape[1]), round(shape[2]), round(shape[3]))
        for index in heads:
            nodes[index].inputs.append(len(nodes))
        name = "input"
        while any(node.name == name for node in nodes):
            name += "'"
        nodes.append(CacheNode(name, "input", "", size, size))
        users.append(heads)
        heads = []
    for index in heads:
        if nodes[index].kind != "input":
            raise GraphError(f"node {nodes[index].name[:80]!r} reads nothing")
    kept = [index for index, node in enumerate(nodes) if node.inputs or users[index]]
    places = {index: place for place, index in enumerate(kept)}
    for index in kept:
        nodes[index].inputs = [places[source] for source in nodes[index].inputs]
    return [nodes[index] for index in kept]


def _in_order(nodes: list[CacheNode]) -> list[CacheNode]:
    """Return nodes in topological order; those of a cache are not."""
    users = _users(nodes)
    missing = [len(node.inputs) for node in nodes]
    order = [index for index, count in enumerate(missing) if count == 0]
    for index in order:  # grows while it is walked
        for user in users[index]:
            missing[user] -= 1
            if missing[user] == 0:
                order.append(user)
    if len(order) < len(nodes):
        index = next(index for index, count in enumerate(missing) if count)
        for _ in nodes:  # walking back that far ends on the cycle itself
            index = next(source for source in nodes[index].inputs if missing[source])
        raise GraphError(f"its graph has a cycle through node {nodes[index].name[:80]!r}")
    places = {index: place for place, index in enumerate(order)}
    for node in nodes:
        node.inputs = [places[source] for source in node.inputs]
    return [nodes[index] for index in order]
