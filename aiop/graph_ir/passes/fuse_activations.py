"""Recognise activations that exporters write as several element-wise operations."""

from __future__ import annotations

import math
from dataclasses import replace

from aiop.graph_ir.graph import ComputeGraph, Operation
from aiop.graph_ir.passes.base import PassResult, consumers

__all__ = ["fuse_activations"]

_GATED = {"Sigmoid": "SiLU", "HardSigmoid": "HardSwish"}


def fuse_activations(graph: ComputeGraph) -> PassResult:
    """Recognise SiLU ``x * sigmoid(x)``, HardSwish ``x * hardsigmoid(x)`` and Gelu ``x / 2 * (1 + erf(x / sqrt 2))``.

    Only where nothing else reads a tensor between.
    """
    users = consumers(graph)
    operations: list[Operation | None] = list(graph.operations)
    changed = False
    for index, operation in enumerate(graph.operations):
        if operation.op in _GATED:
            changed |= _gate(graph, operations, users, index)
        elif operation.op == "Erf":
            changed |= _gelu(graph, operations, users, index)
    if not changed:
        return PassResult(graph, False)
    return PassResult(
        graph.with_operations([operation for operation in operations if operation is not None]), True
    )


def _only_user(users: dict[str, list[int]], operation: Operation) -> int | None:
    found = users.get(operation.outputs[0], [])
    return found[0] if len(found) == 1 and found[0] >= 0 else None


def _activation(op: str, product: Operation, source: str) -> Operation:
    return replace(product, op=op, onnx_type=op, inputs=(source,), scalars=(), attributes=(), macs=0)


def _gate(
    graph: ComputeGraph, operations: list[Operation | None], users: dict[str, list[int]], index: int
) -> bool:
    gate = graph.operations[index]
    after = _only_user(users, gate)
    if after is None or (product := operations[after]) is None or product.op != "Mul" or product.weights:
        return False
    if sorted(product.inputs) != sorted((gate.inputs[0], gate.outputs[0])):
        return False
    operations[index] = None
    operations[after] = _activation(_GATED[gate.op], product, gate.inputs[0])
    return True


def _gelu(
    graph: ComputeGraph, operations: list[Operation | None], users: dict[str, list[int]], index: int
) -> bool:
    producers = graph.producers
    erf = graph.operations[index]
    scaled_at = producers[erf.inputs[0]]
    scaled = operations[scaled_at]
    plus_at = _only_user(users, erf)
    if (
        scaled is None
        or scaled.op not in ("Div", "Mul")
        or len(scaled.inputs) != 1
        or len(scaled.scalars) != 1
    ):
        return False
    root = scaled.scalars[0] if scaled.op == "Div" else 1.0 / (scaled.scalars[0] or 1.0)
    if not math.isclose(root, math.sqrt(2.0), rel_tol=1e-3) or _only_user(users, scaled) != index:
        return False
    if plus_at is None or (plus := operations[plus_at]) is None or plus.op != "Add" or plus.scalars != (1.0,):
        return False
    source = scaled.inputs[0]
    gone = [scaled_at, index, plus_at]
    product_at = _only_user(users, plus)
    product = operations[product_at] if product_at is not None else None
    if product is None or product.op != "Mul" or product_at is None:
        return False
    if product.scalars == (0.5,) and product.inputs == plus.outputs:  # x * (0.5 * (1 + erf))
        gone.append(product_at)
        product_at = _only_user(users, product)
        product = operations[product_at] if product_at is not None else None
        if product is None or product_at is None or product.op != "Mul":
            return False
        other = [key for key in product.inputs if key not in operations[gone[-1]].outputs]  # type: ignore[union-attr]
        if other != [source]:
            return False
        last = product_at
    else:
        other = [key for key in product.inputs if key != plus.outputs[0]]
        if len(other) != 1 or product.scalars:
            return False
        last = product_at
        if other[0] == source:  # (x * (1 + erf)) * 0.5
            half_at = _only_user(users, product)
            half = operations[half_at] if half_at is not None else None
            if half is None or half_at is None or half.op != "Mul" or half.scalars != (0.5,):
                return False
            gone.append(product_at)
            last = half_at
        else:  # (x * 0.5) * (1 + erf)
            half_at = producers[other[0]]
            half = operations[half_at]
            if half is None or half.op != "Mul" or half.scalars != (0.5,) or half.inputs != (source,):
                return False
            if _only_user(users, half) != product_at:
                return False
            gone.append(half_at)
    for position in gone:
        operations[position] = None
    final = graph.operations[last]
    operations[last] = _activation("Gelu", final, source)
    return True
