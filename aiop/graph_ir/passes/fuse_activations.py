"""Recognise activations that exporters write as several element-wise operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from aiop.graph_ir.graph import ComputeGraph, Operation
from aiop.graph_ir.passes.base import PassResult
from aiop.graph_ir.passes.matching import Rewriter, activation, near

__all__ = ["fuse_activations"]

_SIXTH = 0.1667
_FAR = 6  # operations between the anchor of a pattern and its last one
_HARD = (("alpha", _SIXTH),)


def fuse_activations(graph: ComputeGraph) -> PassResult:
    """Recognise SiLU, HardSwish, HardSigmoid and Gelu where a file spells them out.

    Only where nothing else reads a tensor between. A factor of the whole is left out: a weight before or after could
    hold it, and exporters move it there.
    """
    if not any(operation.op in _PATTERNS for operation in graph.operations):
        return PassResult(graph, False)
    rewriter = Rewriter(graph)
    for index, operation in rewriter.each(_PATTERNS):
        _PATTERNS[operation.op](rewriter, index, operation)
    return rewriter.result()


def _after(rewriter: Rewriter, operation: Operation) -> list[tuple[int, Operation]]:
    """Return the operations after one, as long as each is the only reader of what the one before it writes."""
    found: list[tuple[int, Operation]] = []
    while len(found) < _FAR and len(operation.outputs) == 1:
        index = rewriter.reader(operation.outputs[0])
        following = rewriter.operations[index] if index is not None else None
        if index is None or following is None or following.op not in ("Add", "Sub", "Mul", "Div"):
            break
        found.append((index, following))
        operation = following
    return found


def _gate(rewriter: Rewriter, index: int, gate: Operation) -> bool:
    """``x * sigmoid(x)``, ``x * sigmoid(1.702 * x)``, ``x * hardsigmoid(x)``."""
    inner = rewriter.product(gate.inputs[0])
    for root, last in _after(rewriter, gate)[:2]:
        outer = rewriter.product(last.outputs[0])
        over = [key for key in outer.over if key != gate.outputs[0]]
        if len(over) != 1 or len(outer.over) != 2 or outer.under:
            continue
        if over[0] == gate.inputs[0]:
            op = "SiLU" if gate.op == "Sigmoid" else "HardSwish"
            if op == "HardSwish" and not _is_hard(gate):
                return False
            return rewriter.fuse(root, outer.parts | {index}, activation(op, last, over[0]))
        if gate.op == "Sigmoid" and over[0] == inner.plain() and near(inner.factor, 1.702):
            result = activation("SiLU", last, over[0], alpha=1.702)
            return rewriter.fuse(root, outer.parts | inner.parts | {index}, result)
    return False


def _is_hard(gate: Operation) -> bool:
    alpha = dict(gate.attributes).get("alpha", 0.2)
    return isinstance(alpha, int | float) and near(alpha, 1 / 6)


def _hard_sigmoid(rewriter: Rewriter, index: int, clip: Operation) -> bool:
    """``clip(x + 3, 0, 6) / 6``, ``clip(x / 6 + 1 / 2, 0, 1)``, and the same times ``x``."""
    total = rewriter.total(clip.inputs[0])
    if clip.scalars not in ((0.0, 6.0), (0.0, 1.0)) or len(total.terms) != 1:
        return False
    scale = clip.scalars[1]
    ((factor, source),) = total.terms
    if not near(total.constant / scale, 0.5) or not near(factor / scale, 1 / 6):
        return False
    following = _after(rewriter, clip)
    for root, last in following:
        outer = rewriter.product(last.outputs[0])
        if sorted(outer.over) == sorted((source, clip.outputs[0])) and not outer.under:
            return rewriter.fuse(
                root, outer.parts | total.parts | {index}, activation("HardSwish", last, source)
            )
    result = replace(
        clip, op="HardSigmoid", onnx_type="HardSigmoid", inputs=(source,), scalars=(), attributes=_HARD
    )
    return rewriter.fuse(index, total.parts, result)


def _gelu(rewriter: Rewriter, index: int, curve: Operation) -> bool:
    """``x / 2 * (1 + erf(x / sqrt 2))``, and ``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)))``."""
    found = _erf_argument(rewriter, curve) if curve.op == "Erf" else _tanh_argument(rewriter, curve)
    if found is None:
        return False
    sources, parts = found
    for root, last in _after(rewriter, curve):
        outer = rewriter.product(last.outputs[0])
        if len(outer.over) != 2 or outer.under:
            continue
        for one, other in (outer.over, outer.over[::-1]):
            total = rewriter.total(other)
            if one not in sources or len(total.terms) != 1 or total.terms[0][1] != curve.outputs[0]:
                continue
            if near(total.constant, total.terms[0][0]):
                attributes = {} if curve.op == "Erf" else {"approximate": "tanh"}
                extra = sources[one]
                result = activation("Gelu", last, one, **attributes)
                return rewriter.fuse(root, outer.parts | total.parts | parts | extra | {index}, result)
    return False


def _erf_argument(rewriter: Rewriter, curve: Operation) -> tuple[dict[str, set[int]], set[int]] | None:
    scaled = rewriter.product(curve.inputs[0])
    inner = scaled.plain()
    if inner is None:
        return None
    # an optimiser may have moved the root into a weight before
    sources = {curve.inputs[0]: set[int]()}
    if near(scaled.factor, math.sqrt(0.5)):
        sources[inner] = scaled.parts
    return sources, set()


def _tanh_argument(rewriter: Rewriter, curve: Operation) -> tuple[dict[str, set[int]], set[int]] | None:
    scaled = rewriter.product(curve.inputs[0])
    for bracket in scaled.over:
        total = rewriter.total(bracket)
        outer = [key for key in scaled.over if key != bracket]
        if len(outer) > 1 or scaled.under:
            continue
        # factor * (x + c x^3), or factor * x * (1 + c x^2)
        linear = [(factor, key) for factor, key in total.terms if _power(rewriter, key)[1] == 1]
        higher = [(factor, key) for factor, key in total.terms if _power(rewriter, key)[1] > 1]
        if len(higher) != 1 or len(linear) != 1 - len(outer) or (outer and not near(total.constant, 1.0)):
            continue
        base, exponent, parts = _power(rewriter, higher[0][1])
        source, unit = (outer[0], 1.0) if outer else (linear[0][1], linear[0][0])
        if not unit or base != source or exponent != 3 - len(outer):
            continue
        if near(higher[0][0] / unit, 0.044715, 0.01) and near(
            scaled.factor * unit, math.sqrt(2 / math.pi), 0.01
        ):
            return {source: set()}, scaled.parts | total.parts | parts
    return None


def _power(rewriter: Rewriter, key: str, deep: int = 2) -> tuple[str, float, set[int]]:
    """Return a tensor as (base, exponent, operations): ``x ** 3``, ``x * x``, ``x * (x * x)``."""
    operation = rewriter.maker(key)
    if operation is None or operation.weights or not deep:
        return key, 1, set()
    parts = {rewriter.makers[key]}
    if operation.op == "Pow" and len(operation.inputs) == 1 and len(operation.scalars) == 1:
        return operation.inputs[0], operation.scalars[0], parts
    if operation.op == "Mul" and len(operation.inputs) == 2 and not operation.scalars:
        one, other = operation.inputs
        if one == other:
            return one, 2, parts
        for base, power in ((one, other), (other, one)):
            found, exponent, more = _power(rewriter, power, deep - 1)
            if found == base:
                return base, exponent + 1, parts | more
    return key, 1, set()


_PATTERNS: dict[str, Callable[[Rewriter, int, Operation], bool]] = {
    "Sigmoid": _gate,
    "HardSigmoid": _gate,
    "Clip": _hard_sigmoid,
    "Erf": _gelu,
    "Tanh": _gelu,
}
