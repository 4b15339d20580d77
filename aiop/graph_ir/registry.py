"""Operators of domains that nobody knows but their authors: registered by a decorator, then read as any other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import SupportsIndex, TypeVar

from aiop.errors import AiopError, suggest
from aiop.graph_ir.costs import MACS_RULES
from aiop.graph_ir.operators import INDEX, add_operator, canonical
from aiop.graph_ir.reading.forms import FORMS
from aiop.graph_ir.shapes import SHAPE_RULES
from aiop.graph_ir.values import Node, Shape

__all__ = ["OperatorRule", "operator"]

OperatorRule = Callable[[Node], tuple[Iterable[Iterable[int]], int]]
"""A node with known input shapes -> (shape of every output, multiply-accumulates)."""

_Rule = TypeVar("_Rule", bound=OperatorRule)
_RESERVED = ("Unknown", "Input", "Zero")
_registered: set[tuple[str, str]] = set()


def operator(
    domain: str, onnx_type: str, *, canonical: str, replace: bool = False
) -> Callable[[_Rule], _Rule]:
    """Say what an operator of a file means: a decorator of a function that gives output shapes and MACs.

    The function gets the node: ``node.inputs`` (each with ``shape``, ``dtype``, ``constant`` and, of a small constant,
    ``value``; ``None`` for one that is left out), ``node.get(attribute, default)`` and ``node.output_count``. It
    returns the shape of every output and the multiply-accumulates of the node. From then on, in this process, files
    with the operator are read with it; what is trained among its inputs counts as its parameters, and its element
    operations are those of the canonical operator.

    Args:
        domain: The domain that the node names, such as ``com.acme``.
        onnx_type: The type of the node within its domain.
        canonical: What the operator does to a network, one of `aiop.graph_ir.operators.VOCABULARY`.
        replace: Whether to take the place of what was registered before.

    Raises:
        AiopError: The operator is known already, or ``canonical`` is no canonical operator.

    A convolution that keeps the size of its image:

    >>> import math
    >>> @operator("com.acme", "SameConv", canonical="Conv")
    ... def same_conv(node):
    ...     data, weights = node.inputs[:2]
    ...     shape = (data.shape[0], weights.shape[0], *data.shape[2:])
    ...     return [shape], math.prod(shape) * math.prod(weights.shape[1:])
    """
    _check(domain, onnx_type, canonical, replace)

    def register(rule: _Rule) -> _Rule:
        add_operator(domain, onnx_type, canonical)
        SHAPE_RULES.setdefault(domain, {})[onnx_type] = lambda node: _evaluated(rule, node)[0]
        MACS_RULES.setdefault(domain, {})[onnx_type] = lambda node, outputs: _evaluated(rule, node)[1]
        _registered.add((domain, onnx_type))
        FORMS.forget()
        return rule

    return register


def _check(domain: str, onnx_type: str, name: str, replace: bool) -> None:
    label = f"{domain or 'ai.onnx'}::{onnx_type}"
    if name not in INDEX or name in _RESERVED:
        raise AiopError(
            f"operator {label}: {name!r} is no canonical operator{suggest(name, INDEX)}; "
            "aiop.graph_ir.operators.VOCABULARY lists them"
        )
    if not onnx_type:
        raise AiopError("an operator needs a type to be registered; give the op_type of its nodes")
    if (domain, onnx_type) in _registered:
        if not replace:
            raise AiopError(f"operator {label} is registered already; pass replace=True to register it anew")
    elif canonical(onnx_type, domain) not in ("Unknown", "Opaque"):
        raise AiopError(f"operator {label} is known already; only unknown operators can be registered")


def _evaluated(rule: OperatorRule, node: Node) -> tuple[list[Shape], int]:
    """Return what a user's rule says of a node, checked."""
    label = f"the rule registered for {node.domain}::{node.type}"
    try:
        given, macs = rule(node)
        shapes = [tuple(shape) for shape in given]
    except Exception as error:  # whatever a user's function raises
        raise AiopError(
            f"{label} fails on node {node.name!r} ({type(error).__name__}: {error}); correct the rule"
        ) from error
    sizes = [size for shape in shapes for size in shape]
    if len(shapes) < node.output_count or not all(_is_count(size) for size in (*sizes, macs)):
        raise AiopError(
            f"{label} gives shapes {shapes} and {macs!r} MACs for {node.output_count} outputs of node {node.name!r}; "
            "return one shape of whole numbers for each, and a whole number of MACs"
        )
    return [tuple(int(size) for size in shape) for shape in shapes], int(macs)


def _is_count(value: object) -> bool:
    return isinstance(value, SupportsIndex) and not isinstance(value, bool) and value.__index__() >= 0
