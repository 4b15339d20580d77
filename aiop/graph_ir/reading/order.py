"""Topological order of a file's nodes."""

from __future__ import annotations

from collections.abc import Container
from typing import TypeVar

import onnx

from aiop.errors import AiopError
from aiop.graph_ir.reading.outline import NodeOutline

__all__ = ["in_order"]

_Node = TypeVar("_Node", onnx.NodeProto, NodeOutline)


def in_order(nodes: list[_Node], known: Container[str]) -> list[_Node]:
    """Return nodes in topological order, which files should have but some do not; ``known`` tensors need no node.

    A tensor that no node computes, and a cycle, are an `AiopError`.
    """
    makers = {out: index for index, node in enumerate(nodes) for out in node.output if out}
    users: dict[int, list[int]] = {}
    missing = [0] * len(nodes)
    for index, node in enumerate(nodes):
        for key in set(node.input):
            if not key or key in known:
                continue
            maker = makers.get(key)
            if maker is None:
                raise AiopError(
                    f"node {node.name or node.op_type!r} reads {key!r}, which nothing computes; "
                    "export the network again"
                )
            users.setdefault(maker, []).append(index)
            missing[index] += 1
    ready = [index for index, count in enumerate(missing) if count == 0][::-1]
    order: list[_Node] = []
    while ready:
        index = ready.pop()
        order.append(nodes[index])
        for user in users.get(index, ()):
            missing[user] -= 1
            if missing[user] == 0:
                ready.append(user)
    if len(order) < len(nodes):
        raise AiopError("the graph has a cycle, so it cannot be run; export the network again")
    return order
