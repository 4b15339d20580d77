"""Recognise sigmoids, softplus and softmax where a file writes the exponential itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aiop.graph_ir.graph import ComputeGraph, Operation
from aiop.graph_ir.passes.base import PassResult
from aiop.graph_ir.passes.matching import Rewriter, activation, near, span_of

__all__ = ["fuse_exponentials"]


def fuse_exponentials(graph: ComputeGraph) -> PassResult:
    """Recognise Sigmoid, Softplus, Mish, Softmax and the logarithm of a Softmax.

    Only where nothing else reads a tensor between.
    """
    if not any(operation.op in _PATTERNS for operation in graph.operations):
        return PassResult(graph, False)
    rewriter = Rewriter(graph)
    for index, operation in rewriter.each(_PATTERNS):
        for pattern in _PATTERNS[operation.op]:
            if pattern(rewriter, index, operation):
                break
    return rewriter.result()


def _next(rewriter: Rewriter, operation: Operation) -> tuple[int, Operation] | None:
    """Return the operation that alone reads what another writes, and its index."""
    index = rewriter.reader(operation.outputs[0])
    following = rewriter.operations[index] if index is not None else None
    return None if index is None or following is None else (index, following)


def _one_plus(rewriter: Rewriter, index: int, exponential: Operation) -> bool:
    """``1 / (1 + exp(-x))``, ``y / (1 + exp(-x))``, ``log(1 + exp(x))``."""
    found = _next(rewriter, exponential)
    if found is None or found[1].op != "Add" or found[1].scalars != (1.0,) or len(found[1].inputs) != 1:
        return False
    plus_at, plus = found
    found = _next(rewriter, plus)
    if found is None:
        return False
    root, last = found
    if last.op == "Log":
        result = activation("Softplus", last, exponential.inputs[0])
        return rewriter.fuse(root, {index, plus_at}, result)
    argument = rewriter.product(exponential.inputs[0])
    source = argument.plain()
    if source is None or not near(argument.factor, -1.0):
        return False
    parts = {index, plus_at} | argument.parts
    if last.op == "Reciprocal":
        return rewriter.fuse(root, parts, activation("Sigmoid", last, source))
    if last.op == "Div" and last.inputs == (source, plus.outputs[0]) and not last.weights:
        return rewriter.fuse(root, parts, activation("SiLU", last, source))
    return False


def _guarded(rewriter: Rewriter, index: int, softplus: Operation) -> bool:
    """``x if x > 20 else softplus(x)``, which is the same but for rounding."""
    found = _next(rewriter, softplus)
    source = softplus.inputs[0]
    if found is None or found[1].op != "Where" or len(found[1].inputs) != 3:
        return False
    root, last = found
    condition = rewriter.maker(last.inputs[0])
    if last.inputs[1:] != (source, softplus.outputs[0]) or condition is None:
        return False
    if condition.op != "Compare" or condition.inputs != (source,) or len(condition.scalars) != 1:
        return False
    parts = {index, rewriter.makers[last.inputs[0]]}
    return rewriter.fuse(root, parts, activation("Softplus", last, source))


def _mish(rewriter: Rewriter, index: int, softplus: Operation) -> bool:
    """``x * tanh(softplus(x))``."""
    found = _next(rewriter, softplus)
    if found is None or found[1].op != "Tanh" or found[1].attributes:
        return False
    curve_at, curve = found
    found = _next(rewriter, curve)
    if found is None or found[1].op != "Mul" or found[1].weights:
        return False
    root, last = found
    source = softplus.inputs[0]
    if sorted(last.inputs) != sorted((source, curve.outputs[0])):
        return False
    return rewriter.fuse(root, {index, curve_at}, activation("Mish", last, source))


def _softmax(rewriter: Rewriter, index: int, exponential: Operation) -> bool:
    """``exp(x) / sum(exp(x))``, the largest ``x`` subtracted first or not."""
    key = exponential.outputs[0]
    readers = rewriter.used_by(key)
    sums = [each for each in readers if each.op == "ReduceSum" and not each.weights]
    if len(readers) != 2 or len(sums) != 1 or dict(sums[0].attributes).get("kind"):
        return False
    total = sums[0]
    found = _next(rewriter, total)
    span = span_of(total)
    if found is None or found[1].op != "Div" or found[1].inputs != (key, total.outputs[0]):
        return False
    if len(span) not in (2, 3):
        return False
    parts = {index, rewriter.makers[total.outputs[0]]}
    source = exponential.inputs[0]
    shifted = rewriter.maker(source)
    if shifted is not None and shifted.op == "Sub" and len(shifted.inputs) == 2 and not shifted.weights:
        largest = rewriter.maker(shifted.inputs[1])
        is_largest = largest is not None and largest.op in ("ReduceMax", "GlobalMaxPool")
        if largest is not None and is_largest and largest.inputs == shifted.inputs[:1]:
            parts |= {rewriter.makers[source], rewriter.makers[shifted.inputs[1]]}
            source = shifted.inputs[0]
    within = span[2] if len(span) == 3 else 1
    root, last = found
    return rewriter.fuse(root, parts, activation("Softmax", last, source, along=span[1], within=within))


def _log_softmax(rewriter: Rewriter, index: int, softmax: Operation) -> bool:
    """``log(softmax(x))``."""
    found = _next(rewriter, softmax)
    if found is None or found[1].op != "Log" or "kind" in dict(softmax.attributes):
        return False
    root, last = found
    attributes = tuple(sorted((*softmax.attributes, ("kind", "LogSoftmax"))))
    result = replace(last, op="Softmax", onnx_type="LogSoftmax", inputs=softmax.inputs, attributes=attributes)
    return rewriter.fuse(root, {index}, result)


_PATTERNS: dict[str, tuple[Callable[[Rewriter, int, Operation], bool], ...]] = {
    "Exp": (_one_plus, _softmax),
    "Softplus": (_guarded, _mish),
    "Softmax": (_log_softmax,),
}
