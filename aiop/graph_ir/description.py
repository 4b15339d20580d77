"""A node of a file with its inferred shapes -> an `Operation`."""

from __future__ import annotations

from typing import Any

from aiop.graph_ir.cost import macs
from aiop.graph_ir.graph import Operation
from aiop.graph_ir.inference import DOMAINS
from aiop.graph_ir.operators import canonical
from aiop.graph_ir.parameters import Parameters
from aiop.graph_ir.shapes import window_of
from aiop.graph_ir.values import Node, Shape, Tensor

__all__ = ["describe"]

_KEPT_ATTRIBUTES = frozenset(
    "alpha axis beta blocksize direction equation hidden_size keepdims mode num_heads perm q_num_heads to".split()
)
_WINDOWED = frozenset({"Conv", "ConvTranspose", "MaxPool", "AvgPool"})
_MATRIX_PRODUCTS = frozenset({"MatMul", "QLinearMatMul", "MatMulInteger", "Einsum"})
_DOMAINS = DOMAINS | {"ai.onnx.ml"}


def describe(node: Node, name: str, outputs: list[Tensor], parameters: Parameters) -> Operation:
    """Return the operation of a node: its canonical operator, geometry and costs.

    ``outputs`` are all of the operator's, with ``""`` as the name of one left out.
    """
    operation = Operation(
        name,
        canonical(node.type) if node.domain in _DOMAINS else "Unknown",
        node.type,
        inputs=tuple([tensor.name for tensor in node.inputs if tensor is not None and not tensor.constant]),
        outputs=tuple([tensor.name for tensor in outputs if tensor.name]),
        weights=parameters.weights,
        scalars=parameters.scalars,
        params=parameters.trained,
        macs=macs(node, [tensor.shape for tensor in outputs]),
        output_elements=sum([tensor.elements for tensor in outputs if tensor.name]),
    )
    _refine(operation, node)
    if operation.op == "GlobalAvgPool":
        operation.kernel = operation.stride = operation.dilation = operation.padding = ()
    elif node.attributes:
        operation.attributes = _attributes(node.attributes)
    return operation


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
        operation.bias = node.input(2) is not None
        if len(operation.inputs) > 1 and not operation.weights:
            operation.op = "MatMul"
    elif kind in _MATRIX_PRODUCTS and operation.weights:
        operation.op = "Linear"
    elif kind == "Gather" and data.constant:
        operation.op = "Embedding"
    elif kind == "ReduceMean" and len(data.shape) > 2:
        axes = node.integers("axes", 1) or []
        if {axis % len(data.shape) for axis in axes} == set(range(2, len(data.shape))):
            operation.op = "GlobalAvgPool"
    elif kind == "Div" and data.constant:
        operation.op = "Reciprocal"


def _slide(operation: Operation, node: Node, data: Shape) -> None:
    convolves = operation.op != "MaxPool" and operation.op != "AvgPool"
    weights_at = 3 if node.type == "QLinearConv" else 1
    window = node.window
    if window is None:
        weights = node.input(weights_at) if convolves else None
        window = window_of(node, data[2:], weights.shape[2:] if weights else ())
    operation.kernel, operation.stride, operation.dilation, operation.padding = window
    if convolves:
        operation.bias = node.input(8 if weights_at == 3 else 2) is not None
        if operation.op == "Conv" and operation.groups > 1 and operation.groups == data[1]:
            operation.op = "DepthwiseConv"
    elif operation.op == "AvgPool" and window.kernel == data[2:] and not any(window.padding):
        operation.op = "GlobalAvgPool"


def _attributes(attributes: dict[str, Any]) -> tuple[tuple[str, object], ...]:
    kept: list[tuple[str, object]] = []
    for key, value in attributes.items():
        if key not in _KEPT_ATTRIBUTES or (key in ("alpha", "beta") and value == 1.0):
            continue
        if isinstance(value, list):
            kept.append((key, tuple(value)))
        elif isinstance(
            value, int | float | str
        ):  # a tensor or a graph under such a name is a fault of the file
            kept.append((key, value))
    kept.sort()
    return tuple(kept)
