"""Rules of operators with weights: convolutions and matrix products."""

from __future__ import annotations

import onnx_ir as ir

from aiop.search.editing.coupling.elementwise import broadcast
from aiop.search.editing.coupling.links import (
    Atoms,
    Axes,
    Axis,
    Changes,
    Links,
    UnhandledError,
    described,
    integer,
    text,
)
from aiop.search.editing.coupling.rules import rule


@rule("Conv")
def conv(links: Links, node: ir.Node) -> list[Axes]:
    """Weight ``(out, in / groups, kernel...)``; with groups either whole groups or positions in all of them go."""
    image, weight = links.axes(node.inputs[0]), links.axes(node.inputs[1])
    channels, outputs, inputs = image[1], weight[0], weight[1]
    if channels is None or outputs is None or inputs is None:
        raise UnhandledError("has channels whose number is left open")
    groups = integer(node, "group", 1)
    if groups == 1:
        links.link(channels, inputs)
    else:
        members = _groups(links, node, channels, inputs, groups)
        _factors(links, outputs, members, len(inputs) == 1)
    return _convolved(links, node, image, weight, channels, outputs)


@rule("ConvTranspose")
def conv_transpose(links: Links, node: ir.Node) -> list[Axes]:
    """Weight ``(in, out / groups, kernel...)``."""
    image, weight = links.axes(node.inputs[0]), links.axes(node.inputs[1])
    channels, inputs, outputs = image[1], weight[0], weight[1]
    if channels is None or outputs is None or inputs is None:
        raise UnhandledError("has channels whose number is left open")
    links.link(channels, inputs)
    groups = integer(node, "group", 1)
    if groups > 1:
        size = len(channels) // groups
        members = inputs if size == 1 else links.split(inputs, (groups, size))[0]
        links.fix(node, [members], _regroup)
        if len(outputs) == 1:
            outputs = members
        else:
            flat = links.fresh(groups * len(outputs))
            links.product(flat, (members, outputs))
            outputs = flat
    return _convolved(links, node, image, weight, channels, outputs)


def _groups(links: Links, node: ir.Node, channels: Atoms, inputs: Atoms, groups: int) -> Atoms:
    """Return one atom per group of a convolution, tied to its input."""
    if len(inputs) == 1:
        members = channels
    elif links.is_still(channels):
        members = links.still(groups)
        links.link(inputs, links.still(len(inputs)))
    else:
        members = links.fresh(groups)
        links.product(channels, (members, inputs))
    links.fix(node, [members], _regroup)
    return members


def _factors(links: Links, outputs: Atoms, members: Atoms, depthwise: bool) -> None:
    size = len(outputs) // len(members)
    if size == 1:
        links.link(outputs, members)
    else:
        links.product(outputs, (members, links.fresh(size)))
        if depthwise:
            links.prefer(members, 1.0)  # they are the input channels themselves


def _regroup(changes: Changes, node: ir.Node, counts: list[int]) -> None:
    changes.set_integer(node, "group", counts[0])


def _convolved(
    links: Links, node: ir.Node, image: Axes, weight: Axes, channels: Atoms, outputs: Atoms
) -> list[Axes]:
    shape = links.network.shape(node.outputs[0])
    sizes = shape[2:] if shape is not None else (None,) * (len(image) - 2)
    after: Axes = []
    for axis, size in zip(image[2:], sizes, strict=True):
        if node.op_type == "Conv" and axis is not None and not links.is_still(axis) and len(axis) == size:
            # A kernel along channels (Wang et al., ECA-Net, CVPR 2020): each keeps its place among those left.
            after.append(axis)
            continue
        links.freeze(axis, f"goes to {described(node)}, which slides a kernel along it")
        after.append(None if size is None else links.still(size))
    for axis in weight[2:]:
        links.link(axis, None if axis is None else links.still(len(axis)))
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        links.link(links.axes(node.inputs[2])[0], outputs)
    links.makes(node, outputs)
    links.reads(node, outputs)
    links.reads(node, channels)
    return [[image[0], outputs, *after]]


@rule("Gemm")
def gemm(links: Links, node: ir.Node) -> list[Axes]:
    """``a (m, k) b (k, n) + c``, either transposed."""
    left, right = links.axes(node.inputs[0]), links.axes(node.inputs[1])
    rows, inner = (left[1], left[0]) if integer(node, "transA", 0) else (left[0], left[1])
    depth, columns = (right[1], right[0]) if integer(node, "transB", 0) else (right[0], right[1])
    links.link(inner, depth)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        broadcast(links, [[rows, columns], links.axes(node.inputs[2])])
    _weighs(links, node, columns, depth, right=True)
    links.reads(node, columns)
    return [[rows, columns]]


@rule("MatMul")
def matmul(links: Links, node: ir.Node) -> list[Axes]:
    """``(..., m, k) (..., k, n)``: with a weight a layer, between activations a product of attention."""
    left, right = links.axes(node.inputs[0]), links.axes(node.inputs[1])
    if not left or not right:
        raise UnhandledError("multiplies numbers")
    rows: Axes = left[-2:-1]
    columns: Axes = right[-1:] if len(right) > 1 else []
    inner, depth = left[-1], right[-2] if len(right) > 1 else right[0]
    links.link(inner, depth)
    batch = broadcast(links, [left[:-2], right[:-2]])
    if _is_weight(node.inputs[0]) or _is_weight(node.inputs[1]):
        for axis in columns:
            _weighs(links, node, axis, depth, right=True)
        for axis in rows:
            _weighs(links, node, axis, inner, right=False)
    for axis in (*batch, *rows, *columns):
        links.reads(node, axis)
    links.reads(node, inner)
    if batch and not (_is_weight(node.inputs[0]) or _is_weight(node.inputs[1])):
        # The heads of an attention: what belongs to one of them is used nowhere else.
        links.prefer(batch[-1], 1.0)
    return [[*batch, *rows, *columns]]


def _is_weight(value: ir.Value | None) -> bool:
    return value is not None and value.producer() is None and value.const_value is not None


def _weighs(links: Links, node: ir.Node, made: Axis, read: Axis, *, right: bool) -> None:
    if _is_weight(node.inputs[1 if right else 0]):
        links.makes(node, made)
        links.reads(node, read)


@rule("Einsum")
def einsum(links: Links, node: ir.Node) -> list[Axes]:
    """Every letter is one axis."""
    equation = text(node, "equation", "").replace(" ", "")
    if "->" not in equation or "." in equation:
        raise UnhandledError("has an equation without all its letters")
    terms, result = equation.split("->")
    letters: dict[str, Axis] = {}
    for term, value in zip(terms.split(","), node.inputs, strict=True):
        axes = links.axes(value)
        if len(set(term)) != len(term) or len(axes) != len(term):
            raise UnhandledError("has an equation with a letter twice in one term")
        for letter, axis in zip(term, axes, strict=True):
            if letter in letters:
                links.link(letters[letter], axis)
            letters.setdefault(letter, axis)
    for letter, axis in letters.items():
        links.reads(node, axis)
        if letter in result and all(letter in term for term in terms.split(",")):
            links.prefer(axis, 1.0)
    for term, value in zip(terms.split(","), node.inputs, strict=True):
        if _is_weight(value):
            for letter in term:
                if letter in result and sum(letter in other for other in terms.split(",")) == 1:
                    links.makes(node, letters[letter])
    return [[letters[letter] for letter in result]]
