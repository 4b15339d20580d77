"""The rules of operators by name, and the walk over a network that applies them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import onnx_ir as ir

from aiop.search.editing.coupling.links import Axes, Links, UnhandledError, described

if TYPE_CHECKING:
    from aiop.search.editing.network import EditableNetwork

__all__ = ["collect", "rule"]

Rule = Callable[[Links, ir.Node], list[Axes]]

_RULES: dict[str, Rule] = {}


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Decorator: let a function say how the axes of what an operator reads and makes belong together.

    It returns the axes of every output, in order, and raises `UnhandledError` for a form it does not know: then all
    axes that the node reads or makes stay as they are.
    """

    def register(function: Rule) -> Rule:
        for operator in operators:
            if operator in _RULES:
                raise ValueError(f"{operator} has a rule already")
            _RULES[operator] = function
        return function

    return register


def collect(network: EditableNetwork) -> Links:
    """Return what the rules say about all axes of a network."""
    from aiop.search.editing.coupling import (  # noqa: F401  they register their rules
        elementwise,
        layout,
        norms,
        products,
        reshaping,
        spatial,
    )

    links = Links(network)
    for value in network.graph.inputs:
        shape = network.shape(value)
        axes: Axes | None = None
        if shape is not None:
            axes = [None if extent is None else links.still(extent) for extent in shape]
        links.set_axes(value, axes)
    for node in network.graph:
        _visit(links, node)
    for value in network.graph.outputs:
        for axis in _known(links, value):
            links.freeze(axis, f'goes to the output "{value.name}" of the network')
    return links


def _visit(links: Links, node: ir.Node) -> None:
    found = _RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    used = [place for place, output in enumerate(node.outputs) if output.uses() or output.is_graph_output()]
    results: list[Axes] = []
    reason = None
    if found is None:
        reason = "is an operator whose channels are not understood"
    else:
        try:
            results = found(links, node)
        except UnhandledError as error:
            reason = str(error)
        else:
            if any(place >= len(results) for place in used):
                reason = "has a second result that something reads"
            elif not all(_fits(links, node.outputs[place], results[place]) for place in used):
                reason = "has results of sizes that do not follow from its inputs"
    if reason is None:
        for output, axes in zip(node.outputs, results, strict=False):
            links.set_axes(output, _settled(links, output, axes))
        return
    _freeze(links, node, results, f"goes to {described(node)}, which {reason}")


def _freeze(links: Links, node: ir.Node, results: list[Axes], reason: str) -> None:
    values = [value for value in node.inputs if value is not None]
    for attribute in node.attributes.values():
        if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            graphs = (
                [attribute.as_graph()] if attribute.type == ir.AttributeType.GRAPH else attribute.as_graphs()
            )
            for graph in graphs:
                inner = ir.traversal.RecursiveGraphIterator(graph)
                values.extend(value for each in inner for value in each.inputs if value is not None)
                values.extend(graph.outputs)
    for value in values:
        if links.has_axes(value) or value.const_value is not None:
            for axis in _known(links, value):
                links.freeze(axis, reason)
    for axes in results:
        for axis in axes:
            links.freeze(axis, reason)
    for output in node.outputs:
        shape = links.network.shape(output)
        links.set_axes(
            output,
            None if shape is None else [None if extent is None else links.still(extent) for extent in shape],
        )


def _known(links: Links, value: ir.Value) -> Axes:
    try:
        return links.axes(value)
    except UnhandledError:
        return []


def _fits(links: Links, output: ir.Value, axes: Axes) -> bool:
    shape = links.network.shape(output)
    if shape is None:
        return True
    return len(shape) == len(axes) and all(
        axis is None or extent is None or len(axis) == extent
        for axis, extent in zip(axes, shape, strict=True)
    )


def _settled(links: Links, output: ir.Value, axes: Axes) -> Axes:
    shape = links.network.shape(output)
    if shape is None:
        return axes
    return [
        links.still(extent) if axis is None and extent is not None else axis
        for axis, extent in zip(axes, shape, strict=True)
    ]
