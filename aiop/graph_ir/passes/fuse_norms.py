"""Recognise normalisations that exporters write as means, differences, squares and roots."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from aiop.graph_ir.graph import ComputeGraph, Operation
from aiop.graph_ir.passes.base import PassResult
from aiop.graph_ir.passes.matching import Rewriter, activation, near, span_of

__all__ = ["fuse_norms"]

_MEANS = frozenset({"ReduceMean", "GlobalAvgPool"})
_NORMS = frozenset({"LayerNorm", "RMSNorm", "InstanceNorm", "GroupNorm"})
_ANCHORS = _MEANS | _NORMS | {"ReduceSum", "ReduceOther"}
_Found = tuple[int, Operation, set[int]]


def fuse_norms(graph: ComputeGraph) -> PassResult:
    """Recognise LayerNorm, RMSNorm and the division by an L2 norm; and GroupNorm in an InstanceNorm.

    Only where nothing else reads a tensor between. Of a normalisation's scale and shift the parameters stay, and as
    ``size`` how many numbers each has, or would have: files of one network do not agree on whether there are any,
    because exporters write ones and zeros in the place of none. `fold_affine` merges those that follow.
    """
    if not any(operation.op in _ANCHORS and _may_be_one(operation) for operation in graph.operations):
        return PassResult(graph, False)
    rewriter = Rewriter(graph)
    for index, operation in rewriter.each(_ANCHORS):
        if operation.op in _NORMS:
            _complete(rewriter, index, operation)
        elif len(operation.inputs) == 1 and not operation.weights:
            for pattern in _PATTERNS[operation.op]:
                if pattern(rewriter, index, operation):
                    break
    return rewriter.result()


def _may_be_one(operation: Operation) -> bool:
    """Return whether there is something to do about a reduction or normalisation: most are in their form already."""
    if operation.op in _NORMS:
        return bool(operation.weights) or "size" not in dict(operation.attributes)
    return bool(operation.attributes)


def _norm(op: str, root: Operation, source: str, span: tuple[int, ...]) -> Operation:
    """Return ``root`` as a normalisation of one tensor over the reduced elements of ``span``."""
    return replace(activation(op, root, source, size=math.prod(span[1::2])), kernel=())


def _centred(rewriter: Rewriter, index: int, mean: Operation) -> bool:
    """``d = x - mean(x)``, ``d / sqrt(mean(d * d) + eps)``."""
    source = mean.inputs[0]
    span = span_of(mean)
    if not span:
        return False
    for difference in rewriter.used_by(mean.outputs[0]):
        if difference.op != "Sub" or difference.inputs != (source, mean.outputs[0]) or difference.scalars:
            continue
        for square in rewriter.used_by(difference.outputs[0]):
            if not _is_square(square, difference.outputs[0]):
                continue
            variance = rewriter.used_by(square.outputs[0])
            if len(variance) != 1 or variance[0].op not in _MEANS or span_of(variance[0]) != span:
                continue
            found = _divided(rewriter, difference.outputs[0], variance[0].outputs[0])
            if found is None:
                continue
            root, last, parts = found
            makers = rewriter.makers
            parts |= {index} | {makers[each.outputs[0]] for each in (difference, square, variance[0])}
            return rewriter.fuse(root, parts, _norm("LayerNorm", last, source, span))
    return False


def _by_mean_square(rewriter: Rewriter, index: int, mean: Operation) -> bool:
    """``x / sqrt(mean(x * x) + eps)``."""
    square_at = rewriter.makers[mean.inputs[0]]
    square = rewriter.operations[square_at]
    span = span_of(mean)
    if square is None or not span or not square.inputs or not _is_square(square, square.inputs[0]):
        return False
    source = square.inputs[0]
    found = _divided(rewriter, source, mean.outputs[0])
    if found is None:
        return False
    root, last, parts = found
    return rewriter.fuse(root, parts | {index, square_at}, _norm("RMSNorm", last, source, span))


def _by_length(rewriter: Rewriter, index: int, length: Operation) -> bool:
    """``x / max(norm(x), eps)`` with the L2 norm as an operator, or as the root of a sum of squares."""
    span = span_of(length)
    kind = dict(length.attributes).get("kind")
    parts = {index}
    source = length.inputs[0]
    squared = length.op == "ReduceSum"
    if not span or (length.op == "ReduceOther" and (kind or length.onnx_type != "ReduceL2")):
        return False
    if squared and kind != "ReduceSumSquare":
        square_at = rewriter.makers[source]
        square = rewriter.operations[square_at]
        if square is None or not square.inputs or not _is_square(square, square.inputs[0]):
            return False
        parts.add(square_at)
        source = square.inputs[0]
    found = _divided(rewriter, source, length.outputs[0], rooted=not squared)
    if found is None:
        return False
    root, last, more = found
    return rewriter.fuse(root, parts | more, _norm("LpNorm", last, source, span))


def _sum_over_count(rewriter: Rewriter, index: int, total: Operation) -> bool:
    """``sum(x) / n`` over ``n`` elements: a mean."""
    root = rewriter.reader(total.outputs[0])
    last = rewriter.operations[root] if root is not None else None
    if root is None or last is None or last.op not in ("Mul", "Div") or len(last.inputs) != 1:
        return False
    scale = rewriter.product(last.outputs[0])
    span = span_of(total)
    if "kind" in dict(total.attributes) or scale.plain() != total.outputs[0]:
        return False
    if not span or not near(scale.factor * math.prod(span[1::2]), 1.0):
        return False
    result = replace(total, op="ReduceMean", onnx_type="ReduceMean", outputs=last.outputs)
    return rewriter.fuse(root, scale.parts | {index}, result)


def _is_square(operation: Operation, key: str) -> bool:
    if operation.op == "Pow":
        return operation.inputs == (key,) and operation.scalars == (2.0,) and not operation.attributes
    return (
        operation.op == "Mul"
        and operation.inputs == (key, key)
        and not operation.scalars
        and not operation.weights
    )


def _divided(rewriter: Rewriter, source: str, key: str, *, rooted: bool = False) -> _Found | None:
    """Return where ``source`` is divided by the root of ``key``, with a small constant added or as a limit.

    As (index of the quotient, the quotient, operations between).
    """
    parts: set[int] = set()
    inverse = False
    for _ in range(8):
        index = rewriter.reader(key)
        operation = rewriter.operations[index] if index is not None else None
        if operation is None or index is None or operation.weights:
            return None
        wanted = (key, source) if inverse else (source, key)
        if operation.op == ("Mul" if inverse else "Div") and rooted:
            inputs = operation.inputs
            if inputs == wanted or (inverse and inputs == wanted[::-1]):
                return index, operation, parts
        if len(operation.inputs) != 1 or len(operation.outputs) != 1:
            return None
        step = _step(operation)
        if step == "root" and not rooted:
            rooted = True
        elif step == "inverse" and not inverse:
            inverse = True
        elif step == "inverse root" and not rooted and not inverse:
            rooted = inverse = True
        elif step != "same":
            return None
        parts.add(index)
        key = operation.outputs[0]
    return None


def _step(operation: Operation) -> str:
    """Return what an operation does on the way from a variance to the divisor."""
    if operation.op == "Sqrt" or (operation.op == "Pow" and operation.scalars == (0.5,)):
        return "root"
    if operation.op == "Pow" and operation.scalars == (-0.5,) and not operation.attributes:
        return "inverse root"
    if operation.op == "Reciprocal" and all(near(scalar, 1.0) for scalar in operation.scalars):
        return "inverse"
    # a small constant is added or the least, or the factor n / (n - 1), or nothing
    if operation.op in ("Add", "Max", "Clip", "Relu", "Expand", "Mul", "Div"):
        return "same"
    return "other"


def _complete(rewriter: Rewriter, index: int, norm: Operation) -> None:
    """Bring a normalisation to one form: as many parameters as it has, but not which, and groups as groups.

    Files write a group norm as an instance norm of as many channels as groups.
    """
    if len(norm.inputs) != 1:
        return
    count = dict(norm.attributes).get("size", 0)
    op = norm.op
    if op in ("InstanceNorm", "GroupNorm") and (norm.weights or not count):
        count = _channels(rewriter, norm)
        op = "InstanceNorm" if count == norm.groups else "GroupNorm"
    if not isinstance(count, int) or not count:
        return
    attributes = tuple(sorted({**dict(norm.attributes), "size": count}.items()))
    if norm.op == op and not norm.weights and norm.attributes == attributes:
        return
    onnx_type = _TYPES.get(op, norm.onnx_type)
    result = replace(norm, op=op, onnx_type=onnx_type, weights=(), attributes=attributes)
    rewriter.fuse(index, (), result)


def _channels(rewriter: Rewriter, norm: Operation) -> int:
    """Return the channels of a norm of instances or groups: of its scale, the one that follows, or its tensors."""
    held = norm.weights[0].elements if norm.weights else norm.groups
    if held != norm.groups:
        return held
    index = rewriter.reader(norm.outputs[0])
    after = rewriter.operations[index] if index is not None else None
    if (
        after is not None
        and after.op in ("Mul", "Add")
        and len(after.weights) == 1
        and len(after.inputs) == 1
    ):
        shape = after.weights[0].shape
        if sum([extent != 1 for extent in shape]) == 1 and max(shape) % max(1, norm.groups) == 0:
            return max(shape)
    shapes = [rewriter.graph.tensors[key].shape for key in (norm.outputs[0], norm.inputs[0])]
    return max(
        (shape[1] for shape in shapes if len(shape) > 2 and shape[1] % max(1, norm.groups) == 0), default=0
    )


_TYPES = {"InstanceNorm": "InstanceNormalization", "GroupNorm": "GroupNormalization"}

_PATTERNS: dict[str, tuple[Callable[[Rewriter, int, Operation], bool], ...]] = {
    **dict.fromkeys(_MEANS, (_centred, _by_mean_square)),
    "ReduceSum": (_by_length, _sum_over_count),
    "ReduceOther": (_by_length,),
}
