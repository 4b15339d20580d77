"""Inline the functions that a file defines itself."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx.inliner

from aiop.errors import AiopError

__all__ = ["inline_functions"]

_MOST_NODES = 1_000_000


def inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the network with every call of a function of its own replaced by the function's nodes.

    A function that calls itself, and calls that come to more than a million nodes, are an `AiopError`.
    """
    if not model.functions:
        return model
    reason = ""
    try:
        if _expanded_nodes(model) <= _MOST_NODES:
            return onnx.inliner.inline_local_functions(model)
        reason = f"they come to more than {_MOST_NODES} nodes"
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        reason = str(error) or type(error).__name__
    raise AiopError(f"its local functions cannot be inlined ({reason}); export the network without functions")


def _expanded_nodes(model: onnx.ModelProto) -> int:
    """Return how many nodes inlining gives, at most; every function is looked at once, however often it is called."""
    functions = {(function.domain, function.name): function for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Iterable[onnx.NodeProto]) -> int:
        return sum(called((node.domain, node.op_type)) + inside(node) for node in nodes)

    def called(key: tuple[str, str]) -> int:
        if key not in functions:
            return 1
        if key not in sizes:
            sizes[key] = 0  # a cycle ends here; the inliner refuses it
            sizes[key] = size(functions[key].node)
        return sizes[key]

    def inside(node: onnx.NodeProto) -> int:
        graphs = [graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs)]
        return sum(size(graph.node) for graph in graphs)

    return size(model.graph.node)
