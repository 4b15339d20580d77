"""A node of a file with its inferred shapes -> an `Operation`."""

from __future__ import annotations

from aiop.graph_ir.cost import macs
from aiop.graph_ir.elementwise import element_operations
from aiop.graph_ir.graph import Operation
from aiop.graph_ir.operators import STANDARD_DOMAINS, canonical
from aiop.graph_ir.reading.arguments import arguments
from aiop.graph_ir.reading.parameters import Parameters, no_bias
from aiop.graph_ir.reading.quantisation import precision_of
from aiop.graph_ir.reading.spellings import is_default, respell
from aiop.graph_ir.shapes import window_of
from aiop.graph_ir.slots import channels_last, slots
from aiop.graph_ir.values import Node, Shape, Tensor

__all__ = ["describe"]

_KEPT_ATTRIBUTES = frozenset(
    "alpha approximate axis beta blocksize direction equation hidden_size keepdims mode num_heads perm q_num_heads "
    "to".split()
)
_INDICES = frozenset({"bool", "int64", "int32"})
_WINDOWED = frozenset({"Conv", "DepthwiseConv", "ConvTranspose", "MaxPool", "AvgPool"})


def describe(node: Node, name: str, outputs: list[Tensor], parameters: Parameters) -> Operation:
    """Return the operation of a node: its canonical operator, geometry and costs.

    ``outputs`` are all of the operator's, with ``""`` as the name of one left out.
    """
    operation = Operation(
        name,
        canonical(node.type, node.domain),
        node.type,
        inputs=tuple([tensor.name for tensor in node.inputs if tensor is not None and not tensor.constant]),
        outputs=tuple([tensor.name for tensor in outputs if tensor.name]),
        weights=parameters.weights,
        scalars=parameters.scalars,
        params=parameters.trained,
        macs=macs(node, [tensor.shape for tensor in outputs]),
        output_elements=sum([tensor.elements for tensor in outputs if tensor.name]),
        domain="" if node.domain in STANDARD_DOMAINS else node.domain,
    )
    if operation.op == "Unknown":  # what its name means in another domain says nothing
        return operation
    _refine(operation, node)
    if operation.op in ("GlobalAvgPool", "GlobalMaxPool"):
        operation.kernel = operation.stride = operation.dilation = operation.padding = ()
    elif node.attributes:
        operation.attributes = _attributes(node)
    if moved := arguments(node, outputs):
        operation.attributes = tuple(sorted((dict(operation.attributes) | moved).items()))
    respell(operation, node)
    operation.elementwise = element_operations(operation, node, outputs)
    operation.precision = _precision(node, outputs, parameters)
    return operation


def _precision(node: Node, outputs: list[Tensor], parameters: Parameters) -> str:
    """Return the element type of an operation's weights or else of its data; its result's where data are indices."""
    dtype = parameters.precision
    if not dtype:
        data = node.input(0)
        if data is not None and data.dtype not in _INDICES:
            dtype = data.dtype
        else:
            dtype = outputs[0].dtype if outputs else "float32"
    return dtype if dtype == "float32" else precision_of(dtype)


def _refine(operation: Operation, node: Node) -> None:
    """Fill in geometry and bias, and tell apart operators that a file writes alike."""
    kind, data = node.type, node.input(0)
    if operation.op in ("Conv", "ConvTranspose"):
        operation.groups = int(node.get("group", 1))
    if data is None:
        return
    if operation.op in _WINDOWED and len(data.shape) > 2:
        _slide(operation, node, data.shape)
    elif operation.op == "Linear":
        operation.bias = _has_bias(node, slots(kind).bias)
        if len(operation.inputs) > 1 and not operation.weights:
            operation.op = "MatMul"
    elif operation.op == "MatMul" and operation.weights:
        operation.op = "Linear"
        operation.bias = _has_bias(node, slots(kind).bias)
    elif kind == "Gather" and data.constant:
        operation.op = "Embedding"
    elif kind == "CastLike":
        operation.inputs = operation.inputs[:1]  # the second says a type only
    elif kind == "Div" and data.constant:
        operation.op = "Reciprocal"


def _slide(operation: Operation, node: Node, data: Shape) -> None:
    convolves = operation.op != "MaxPool" and operation.op != "AvgPool"
    size = data[1:-1] if node.domain and channels_last(node) else data[2:]
    at = slots(node.type)
    weights = node.input(at.weights) if convolves else None
    window = node.window
    if window is None:
        window = window_of(node, size, weights.shape[2:] if weights else ())
    operation.kernel, operation.stride, operation.dilation, operation.padding = window
    if convolves:
        operation.bias = _has_bias(node, at.bias)
        if operation.op == "DepthwiseConv" and weights:
            operation.groups = weights.shape[0]
        elif operation.op == "Conv" and operation.groups > 1 and weights and weights.shape[1] == 1:
            operation.op = "DepthwiseConv"
    elif operation.op == "AvgPool" and window.kernel == size and not any(window.padding):
        operation.op = "GlobalAvgPool"
    elif node.type == "MaxPool" and window.kernel == size and not any(window.padding):
        operation.op = "GlobalMaxPool"


def _has_bias(node: Node, slot: int) -> bool:
    bias = node.input(slot)
    return bias is not None and not no_bias(node, slot, bias)


def _attributes(node: Node) -> tuple[tuple[str, object], ...]:
    kept: list[tuple[str, object]] = []
    for key, value in node.attributes.items():
        if key not in _KEPT_ATTRIBUTES or is_default(node.type, key, value) or value == "forward":
            continue
        if isinstance(value, list):
            kept.append((key, tuple(value)))
        elif isinstance(
            value, int | float | str
        ):  # a tensor or a graph under such a name is a fault of the file
            kept.append((key, round(value, 4) if isinstance(value, float) else value))
    kept.sort()
    return tuple(kept)
