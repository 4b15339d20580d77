"""Fewer blocks: the branch beside a skip goes, or a layer whose input and output look alike."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import onnx_ir as ir

from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import NotApplicableError, Site, register
from aiop.search.mutations.local import (
    DONE_OR_NOT,
    LocalMutation,
    data_inputs,
    in_words,
    is_product,
    is_standard,
    none_of_them,
)

__all__ = ["Block"]

_SUMS = ("Add", "Sum")
_LAYERS = ("Conv", "Gemm", "MatMul")
# What belongs to the layer before it: norms, biases, activations.
_AFTER = frozenset(
    "BatchNormalization InstanceNormalization GroupNormalization LayerNormalization Relu LeakyRelu PRelu Clip Elu "
    "Selu Celu Sigmoid HardSigmoid HardSwish Swish Gelu Mish Softplus Tanh Erf Add Mul Sub Div Dropout Identity".split()
)
_LONGEST = 8  # nodes after a layer that may belong to it


@dataclass(frozen=True)
class _Part:
    """Nodes that go, the value that took their place, and the value that it replaces."""

    nodes: list[ir.Node]
    kept: ir.Value
    replaced: ir.Value
    residual: bool


@register
class Block(LocalMutation):
    """Take out a block whose input and output have the same shape.

    A residual block is a sum of which one operand comes from the other by nodes whose results nothing else reads:
    layer scale, gates and squeeze-excitation go with them, and the sum becomes the skip. Where there is no skip, a
    single convolution, `Gemm` or `MatMul` with its norm and activation goes, if its input has the shape of its
    output. ``where`` is the sum, or the convolution.
    """

    name = "block"

    def candidates(self, network: EditableNetwork) -> Iterable[ir.Node]:
        inside = _in_residuals(network)
        for node in network.graph:
            if is_standard(node) and node.op_type in _SUMS:
                if _is_sum_of_data(node):
                    yield node
            elif is_product(node) and node not in inside and not _between_data(node):
                yield node  # those inside go with their block

    def looks_like_one(self, node: ir.Node) -> bool:
        return is_standard(node) and node.op_type in (*_SUMS, *_LAYERS)

    def fits(self, network: EditableNetwork, node: ir.Node) -> Site:
        part = _part(network, node)
        left = {id(other) for other in network.graph} - {id(gone) for gone in part.nodes}
        if not any(is_product(other) and id(other) in left for other in network.graph):
            raise NotApplicableError("nothing that computes would be left of the network")
        products = tuple(other.name or "" for other in part.nodes if is_product(other))
        return Site(self.name, node.name or "", DONE_OR_NOT, products)

    def change(self, network: EditableNetwork, node: ir.Node, amount: float) -> str:
        part = _part(network, node)
        products = [other.name or "" for other in part.nodes if is_product(other)]
        network.replace_uses(part.replaced, part.kept)
        network.remove(*part.nodes)
        what = "residual branch" if part.residual else "layer"
        return f"{node.name}: {what} removed ({in_words(products)})"


def _part(network: EditableNetwork, node: ir.Node) -> _Part:
    reason = none_of_them(node)
    if reason is not None:
        raise NotApplicableError(reason)
    return _residual(network, node) if node.op_type in _SUMS else _layer(network, node)


def _is_sum_of_data(node: ir.Node) -> bool:
    """Whether a sum adds two results of which each could be a branch; biases and masks are none."""
    found = data_inputs(node)
    return (
        len(found) == 2 and found[0] is not found[1] and len([v for v in node.inputs if v is not None]) == 2
    )


def _residual(network: EditableNetwork, node: ir.Node) -> _Part:
    if not _is_sum_of_data(node):
        raise NotApplicableError("it adds a constant, no branch")
    one, other = data_inputs(node)
    shapes = [network.shape(value) for value in (one, other, node.outputs[0])]
    if None in shapes or len(set(shapes)) > 1:
        raise NotApplicableError("the shapes of its operands differ or are not known")
    seen: list[list[ir.Node]] = []
    for skip, branch in ((one, other), (other, one)):
        nodes = _only_for(network, branch, node, skip)
        seen.append(nodes)
        if any(value is skip for gone in nodes for value in gone.inputs):
            if not any(is_product(gone) for gone in nodes):
                raise NotApplicableError("its branch holds no convolution or product")
            return _Part([node, *nodes], skip, node.outputs[0], True)
    if _above(network, other, one) or _above(network, one, other):
        raise NotApplicableError("results within its branch are read elsewhere")
    raise NotApplicableError("both operands are computed: neither is the other's input")


def _only_for(network: EditableNetwork, value: ir.Value, reader: ir.Node, stop: ir.Value) -> list[ir.Node]:
    """Return the nodes, last first, that compute nothing but a value which only ``reader`` reads, up to ``stop``."""
    graph = network.graph
    found: dict[ir.Node, None] = {}
    gone = {reader}
    waiting = [value]
    while waiting:
        current = waiting.pop()
        node = current.producer()
        if node is None or current is stop or node in gone or node.graph is not graph:
            continue
        outputs = node.outputs
        if any(output is stop or output.is_graph_output() for output in outputs):
            continue
        if any(use.node not in gone for output in outputs for use in output.uses()):
            continue
        gone.add(node)
        found[node] = None
        waiting += [source for source in node.inputs if source is not None]
        # what was met before its last reader was is met again through that reader
    return list(found)


def _above(network: EditableNetwork, value: ir.Value, ancestor: ir.Value) -> bool:
    """Whether a value is computed from another one."""
    waiting, seen = [value], set[int]()
    while waiting:
        node = waiting.pop().producer()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        for source in node.inputs:
            if source is ancestor:
                return True
            if source is not None:
                waiting.append(source)
    return False


def _in_residuals(network: EditableNetwork) -> set[ir.Node]:
    """Nodes in branches that go as a whole: without their layers they would be another skip."""
    inside: set[ir.Node] | None = network.memo.get("residual branches")
    if inside is not None:
        return inside
    inside = network.memo["residual branches"] = set()
    for node in network.graph:
        if is_standard(node) and node.op_type in _SUMS and node not in inside and _is_sum_of_data(node):
            with suppress(NotApplicableError):
                inside.update(_residual(network, node).nodes)
    return inside


def _between_data(node: ir.Node) -> bool:
    return node.op_type in ("MatMul", "Gemm", "Einsum") and is_standard(node) and len(data_inputs(node)) > 1


def _layer(network: EditableNetwork, node: ir.Node) -> _Part:
    if node in _in_residuals(network):
        raise NotApplicableError("it is part of a residual branch, which goes as a whole")
    if node.op_type not in _LAYERS:
        raise NotApplicableError(f"{node.op_type} is no layer of its own")
    sources = data_inputs(node)
    if len(sources) != 1 or node.inputs[0] is not sources[0]:
        raise NotApplicableError("it has more than one input")
    source = sources[0]
    if source.producer() is None:
        raise NotApplicableError("it reads an input of the network")
    shape = network.shape(source)
    if shape is None or shape != network.shape(node.outputs[0]):
        raise NotApplicableError(
            f"its input of {_text(shape)} and output of {_text(network.shape(node.outputs[0]))} differ"
        )
    nodes, last = _with_what_belongs(network, node)
    if last.is_graph_output():
        raise NotApplicableError("it gives an output of the network")
    return _Part(nodes, source, last, False)


def _with_what_belongs(network: EditableNetwork, node: ir.Node) -> tuple[list[ir.Node], ir.Value]:
    """Return a layer with its norm, bias and activation, and the last result of them."""
    nodes, last = [node], node.outputs[0]
    best = 1
    values = [last]
    inside = {node}
    while len(nodes) <= _LONGEST:
        # the next node is one that reads nothing but what was met
        reader = next(
            (
                use.node
                for value in values
                for use in value.uses()
                if use.node not in inside
                and use.node.graph is network.graph
                and is_standard(use.node)
                and use.node.op_type in _AFTER
                and len(use.node.outputs) == 1
                and all(any(source is value for value in values) for source in data_inputs(use.node))
            ),
            None,
        )
        if reader is None:
            break
        nodes.append(reader)
        inside.add(reader)
        values.append(reader.outputs[0])
        closed = all(
            not value.is_graph_output() and all(use.node in inside for use in value.uses())
            for value in values[:-1]
        )
        if closed and network.shape(values[-1]) == network.shape(values[0]):
            best = len(nodes)
        elif not closed and any(value.is_graph_output() for value in values[:-1]):
            break
    return nodes[:best][::-1], values[best - 1]


def _text(shape: tuple[int | None, ...] | None) -> str:
    return (
        "unknown shape"
        if shape is None
        else "x".join("?" if extent is None else str(extent) for extent in shape)
    )
