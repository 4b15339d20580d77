"""Multiply-accumulates of ``ai.onnx.ml``: linear estimators and kernel machines, whose weights are attributes."""

from __future__ import annotations

from aiop.graph_ir.costs.base import MacsRule
from aiop.graph_ir.shapes.ml import rows_of
from aiop.graph_ir.values import Node, Shape

__all__ = ["RULES"]


def _linear(node: Node, outputs: list[Shape]) -> int:
    """One coefficient per feature and output."""
    return rows_of(node) * len(node.get("coefficients") or ())


def _kernel_machine(node: Node, outputs: list[Shape]) -> int:
    """A dot product (or distance) with every support vector, and a weighted sum of the kernel's values.

    Without support vectors (a linear kernel, multiplied out) the coefficients are those of a linear estimator.
    """
    return rows_of(node) * (len(node.get("support_vectors") or ()) + len(node.get("coefficients") or ()))


RULES: dict[str, MacsRule] = {
    **dict.fromkeys(("LinearClassifier", "LinearRegressor"), _linear),
    **dict.fromkeys(("SVMClassifier", "SVMRegressor"), _kernel_machine),
}
