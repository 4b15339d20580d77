"""Multiply-accumulates of every operator that has any, one rule per operator, in one module per family."""

from __future__ import annotations

from aiop.graph_ir.costs import contrib, learning, standard
from aiop.graph_ir.costs.base import MacsRule

__all__ = ["MACS_RULES", "MacsRule"]

MACS_RULES: dict[str, dict[str, MacsRule]] = {
    "": standard.RULES,
    "ai.onnx": standard.RULES,
    "ai.onnx.ml": learning.RULES,
    "ai.onnx.preview": contrib.PREVIEW,
    "com.microsoft": contrib.RULES,
    "com.microsoft.nchwc": dict(standard.RULES),
    "com.ms.internal.nhwc": {
        **standard.RULES,
        "QLinearConvTranspose": standard.transposed_convolution,
    },
}
"""Domain -> operator -> its rule; `aiop.graph_ir.registry` adds those of users."""
