"""Quantisation in a file: quantised operators are read as their float twins, quantised weights as weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import onnx

from aiop.graph_ir.reading import fused as onnx_fused
from aiop.graph_ir.reading.element_types import output_dtypes
from aiop.graph_ir.reading.quantisation import QUANTISED, dequantised, float_twin, limits, quantised
from aiop.graph_ir.values import Node, Tensor

if TYPE_CHECKING:
    from aiop.graph_ir.reading.reader import Reader

__all__ = ["HANDLERS"]


def _twin(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    """Read a quantised operator as its float twin.

    Where its output holds no negative numbers, a quantiser may have left out a ReLU: a QuantizeLinear after it says so.
    """
    twin = float_twin(node)
    if twin is None or all(tensor is None or tensor.constant for tensor in twin.node.inputs):
        return False
    fused = onnx_fused.HANDLERS.get(twin.node.domain, {}).get(twin.node.type)
    if fused is not None and fused(reader, twin.node, proto, names):
        return True
    clipped = limits(*twin.limit)
    written = [f"{names[0]}/unclipped", *names[1:]] if clipped else names
    outputs = reader.infer(twin.node, proto, written)
    for tensor, dtype in zip(outputs, output_dtypes(node, len(outputs)), strict=True):
        tensor.dtype = dtype
    reader.record(twin.node, proto, written, outputs)
    operation = reader.operations[-1]
    operation.onnx_type, operation.domain = node.type, node.domain
    operation.bias = operation.bias or (twin.biased and operation.op == "Linear")
    if clipped:
        reader.emit("QuantizeLinear", [reader.tensors[written[0]], *twin.limit], names[:1])
    return True


def _quantize(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    """Read the quantisation of an activation, with the limits that it sets, or of a weight."""
    data = node.input(0)
    if data is None:
        return False
    (output,) = reader.infer(node, proto, names)
    if data.constant:
        output.constant = True
        output.leaves = tuple((name, elements, output.dtype) for name, elements, _ in data.leaves)
        if not node.get("block_size", 0):
            output.set_value(partial(quantised, data, node.input(1), node.input(2), int(node.get("axis", 1))))
        reader.define(output, names[0])
        return True
    reader.record(node, proto, names, [output])
    reader.operations[-1].scalars = limits(node.input(1), node.input(2))
    return True


def _dequantize(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    """Read a stored weight as one of floating-point numbers; an activation is left to be read as any other."""
    data = node.input(0)
    if data is None or not data.constant:
        return False
    (output,) = reader.infer(node, proto, names)
    output.constant = True
    output.leaves = data.leaves or ((data.name, data.elements, data.dtype),)
    if not node.get("block_size", 0):
        output.set_value(partial(dequantised, data, node.input(1), node.input(2), int(node.get("axis", 1))))
    reader.define(output, names[0])
    return True


def _dynamic(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    """Read the quantisation of an activation by a scale and a zero point that are computed from it."""
    data = node.input(0)
    if data is None or data.constant:
        return False
    outputs = [
        Tensor(name, shape, dtype)
        for name, shape, dtype in zip(
            names, (data.shape, (), ()), ("uint8", "float32", "uint8"), strict=False
        )
    ]
    reader.record(node, proto, names, outputs)
    reader.parameters.scales.update(tensor.name for tensor in outputs[1:])
    return True


HANDLERS: dict[str, Callable[[Reader, Node, onnx.NodeProto, list[str]], bool]] = {
    **dict.fromkeys(QUANTISED, _twin),
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
}
"""Operators of ``ai.onnx`` and ``com.microsoft`` -> how they are read; each returns whether it could."""
