"""Output shapes of ONNX operators, from input shapes and the small constants that shape arguments are.

One rule per operator, in one module per family, over fully known shapes (every network is read at one concrete input
size), which makes it both simpler and more complete than symbolic inference. Operators without a rule here go to the
inference that the onnx package has for one node.
"""

from __future__ import annotations

from aiop.graph_ir.shapes import elementwise, layout, products, windows
from aiop.graph_ir.shapes.base import ShapeError, ShapeRule
from aiop.graph_ir.shapes.products import einsum_extents
from aiop.graph_ir.shapes.windows import Window, window_of

__all__ = ["SHAPE_RULES", "ShapeError", "Window", "einsum_extents", "window_of"]

SHAPE_RULES: dict[str, ShapeRule] = {**elementwise.RULES, **layout.RULES, **products.RULES, **windows.RULES}
"""ONNX operator -> its shape rule."""
