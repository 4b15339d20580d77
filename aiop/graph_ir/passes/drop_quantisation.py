"""Read a quantised network as its float twin: quantising an activation is a view of it."""

from __future__ import annotations

import math
from dataclasses import replace

from aiop.graph_ir.graph import ComputeGraph, Operation
from aiop.graph_ir.passes.base import PassResult, consumers, rewire
from aiop.graph_ir.reading.quantisation import QUANTISED

__all__ = ["drop_quantisation"]

_TYPES = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
_SCALED = frozenset(
    {"Mul", "Cast", "Reshape", "Identity", "Expand"}
)  # what is done with a scale that is computed
_CAN_BE_NEGATIVE = frozenset(
    {"Conv", "DepthwiseConv", "ConvTranspose", "Linear", "BatchNorm", "InstanceNorm"}
)
_NEVER_NEGATIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Exp", "Abs", "Sqrt"})
_KEEPS_SIGN = frozenset(
    "Add Mul Max MaxPool AvgPool GlobalAvgPool GlobalMaxPool ReduceMean ReduceSum Concat Reshape Transpose Identity "
    "Split Slice Pad Resize Quantize Expand Gather DepthToSpace SpaceToDepth".split()
)
_RELU6 = 6.0


def drop_quantisation(graph: ComputeGraph) -> PassResult:
    """Remove QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear, and products with scales computed from data.

    Operations between them take on their precision, and quantised operators the name of their float twin. A quantiser
    leaves out a ReLU where the quantised tensor holds no negative numbers anyway: where something that can be negative
    is quantised so, the ReLU is put back, as a Clip to 6 where 6 is the largest number that the tensor holds. A limit
    other than that, or than 0, cannot be seen.
    """
    if not any(
        operation.onnx_type in _TYPES or operation.onnx_type in QUANTISED for operation in graph.operations
    ):
        return PassResult(graph, False)
    renamed = False
    users = consumers(graph)
    outputs = _leading_out(graph, users)
    aliases: dict[str, str] = {}
    scales: set[str] = set()
    positive: set[str] = set()
    precisions: dict[str, str] = {}  # of what a DequantizeLinear gives
    makers: dict[str, Operation] = {}
    limited: dict[str, str] = {}  # what a limit that was put back gives -> what it limits
    kept: list[Operation] = []
    for operation in graph.operations:
        inputs = [_source(key, aliases) for key in operation.inputs]
        if operation.onnx_type in _TYPES and operation.op == "Quantize" and inputs:
            written = operation.outputs[0]
            if operation.onnx_type == "DynamicQuantizeLinear":
                scales.update(operation.outputs[1:])
                kept.append(operation)  # for who reads its scale
                if written not in users:
                    continue
            elif operation.onnx_type == "DequantizeLinear":
                precisions[written] = operation.precision
            elif (
                operation.scalars
                and _can_be_negative(makers.get(inputs[0]))
                and inputs[0] not in positive
                and written not in outputs
            ):
                operation = _limit(operation, inputs[0])
                kept.append(operation)
                limited[written] = inputs[0]
                positive.add(written)
                continue
            aliases[written] = inputs[0]
            continue
        if scales.intersection(inputs) and operation.op in _SCALED and len(operation.outputs) == 1:
            data = [key for key in inputs if key not in scales]
            if not data:
                scales.update(operation.outputs)
                kept.append(operation)
                continue
            if len(data) == 1:
                aliases[operation.outputs[0]] = data[0]
                continue
        if (twin := QUANTISED.get(operation.onnx_type)) is not None:
            renamed = True
            operation = replace(operation, onnx_type=twin[0], domain=twin[1])
        if operation.inputs and not operation.weights and all(key in precisions for key in operation.inputs):
            operation = replace(operation, precision=precisions[operation.inputs[0]])
        if operation.op in ("Relu", "Clip") and inputs[:1] and inputs[0] in limited:
            operation = replace(operation, inputs=(limited[inputs[0]],))  # it was not left out after all
        if operation.op in _NEVER_NEGATIVE or (
            operation.op in _KEEPS_SIGN and inputs and not operation.weights and positive.issuperset(inputs)
        ):
            positive.update(operation.outputs)
        makers.update(dict.fromkeys(operation.outputs, operation))
        kept.append(operation)
    result = rewire(graph, _needed(kept, scales, graph, aliases), aliases)
    return PassResult(result.graph, result.changed or renamed)


def _limit(operation: Operation, source: str) -> Operation:
    """Return the ReLU, or the Clip to 6, that a quantisation stands for."""
    largest = operation.scalars[-1]
    relu6 = math.isclose(largest, _RELU6, rel_tol=1e-4)
    op = "Clip" if relu6 else "Relu"
    return replace(
        operation,
        op=op,
        onnx_type=op,
        domain="",
        inputs=(source,),
        scalars=(0.0, _RELU6) if relu6 else (),
        attributes=(),
    )


def _can_be_negative(operation: Operation | None) -> bool:
    """Return whether an operation is one that activations follow: a layer, a norm or a sum."""
    if operation is None:
        return False
    if operation.op == "Add":
        return (len(operation.inputs) > 1 or bool(operation.weights)) and not operation.scalars
    return operation.op in _CAN_BE_NEGATIVE


def _needed(
    operations: list[Operation], scales: set[str], graph: ComputeGraph, aliases: dict[str, str]
) -> list[Operation]:
    """Return the operations without those that give scales nobody reads."""
    read = {_source(key, aliases) for key in graph.outputs}
    kept = []
    for operation in reversed(operations):
        if not scales.intersection(operation.outputs) or read.intersection(operation.outputs):
            read.update(_source(key, aliases) for key in operation.inputs)
            kept.append(operation)
    return kept[::-1]


def _leading_out(graph: ComputeGraph, users: dict[str, list[int]]) -> set[str]:
    """Return the tensors that are outputs of the graph but for quantisation: a network does not end in a ReLU."""
    found = set(graph.outputs)
    for operation in reversed(graph.operations):
        if operation.op in ("Quantize", "Reshape", "Identity", "Cast") and found.intersection(
            operation.outputs
        ):
            found.update(key for key in operation.inputs if len(users[key]) == 1)
    return found


def _source(key: str, aliases: dict[str, str]) -> str:
    while key in aliases:
        key = aliases[key]
    return key
