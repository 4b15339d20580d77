"""Operators that nobody has said anything about: how much of a network they are, and how to say it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from aiop.graph_ir.graph import Operation

__all__ = ["UnknownOperator", "unknown_notes", "unknown_operators"]


@dataclass(frozen=True, slots=True)
class UnknownOperator:
    """An unknown operator: its domain and type, how many nodes it is, and which share of the network's nodes."""

    domain: str
    onnx_type: str
    count: int
    share: float

    @property
    def name(self) -> str:
        """Domain and type, as in ``com.acme::Foo``."""
        return f"{self.domain or 'ai.onnx'}::{self.onnx_type}"

    @property
    def registration(self) -> str:
        """The line of code above a function that registers the operator."""
        return f'@aiop.operator("{self.domain}", "{self.onnx_type}", canonical="...")'


def unknown_operators(operations: Sequence[Operation]) -> list[UnknownOperator]:
    """Return the unknown operators among the operations of a network, most nodes first."""
    counts = Counter(
        (operation.domain, operation.onnx_type) for operation in operations if operation.op == "Unknown"
    )
    if not counts:
        return []
    nodes = sum(operation.op != "Input" for operation in operations)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [
        UnknownOperator(domain, onnx_type, count, count / nodes) for (domain, onnx_type), count in ordered
    ]


def unknown_notes(operations: Sequence[Operation]) -> list[str]:
    """Return one sentence for every unknown operator of a network, and for every operator that hides what it does."""
    notes = [
        f"operator {unknown.name} is unknown: {_nodes(unknown.count)} ({unknown.share:.1%} of the network) "
        f"count 0 MACs; register it with {unknown.registration}"
        for unknown in unknown_operators(operations)
    ]
    hidden = Counter(
        (operation.domain, operation.onnx_type) for operation in operations if operation.op == "Opaque"
    )
    notes += [
        f"operator {domain}::{onnx_type} hides what it computes (compiled code, or networks of its own): "
        f"{_nodes(count)} count 0 MACs; read what is inside by itself"
        for (domain, onnx_type), count in sorted(hidden.items())
    ]
    return notes


def _nodes(count: int) -> str:
    return f"{count:,} node{'s' * (count != 1)}"
