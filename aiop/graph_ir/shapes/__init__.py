"""Output shapes of ONNX operators, from input shapes and the small constants that shape arguments are.

One rule per operator, in one module per family, over fully known shapes (every network is read at one concrete input
size), which makes it both simpler and more complete than symbolic inference. Operators without a rule here go to the
inference that the onnx package has for one node. Rules are chosen by domain and type: operators of different domains
may share a name.
"""

from __future__ import annotations

from aiop.graph_ir.shapes import (
    channels_last,
    contrib,
    contrib_products,
    elementwise,
    layout,
    ml,
    products,
    quantised,
    windows,
)
from aiop.graph_ir.shapes.attention import FORMS, attention_form
from aiop.graph_ir.shapes.base import ShapeError, ShapeRule
from aiop.graph_ir.shapes.products import einsum_of
from aiop.graph_ir.shapes.windows import Window, window_of

__all__ = ["SHAPE_RULES", "ShapeError", "Window", "einsum_of", "window_of"]

_ATTENTION: dict[str, dict[str, ShapeRule]] = {
    domain: dict.fromkeys(
        # an indexer writes as much as the file says
        [kind for kind in forms if not kind.endswith("Indexer")],
        lambda node: attention_form(node).outputs,
    )
    for domain, forms in FORMS.items()
}
_STANDARD: dict[str, ShapeRule] = {
    **_ATTENTION[""],
    **{kind: contrib.RULES[kind] for kind in ("CausalConvWithState", "RotaryEmbedding")},
    "LinearAttention": contrib_products.RULES["LinearAttention"],
    "SimplifiedLayerNormalization": elementwise.RULES["LayerNormalization"],
    **dict.fromkeys(
        "SwiGLU Affine ParametricSoftplus Scale ScaledTanh ImageScaler MemcpyFromHost MemcpyToHost".split(),
        elementwise.RULES["Relu"],
    ),
    **elementwise.RULES,
    **layout.RULES,
    **products.RULES,
    **windows.RULES,
}

SHAPE_RULES: dict[str, dict[str, ShapeRule]] = {
    "": _STANDARD,
    "ai.onnx": _STANDARD,
    "ai.onnx.ml": ml.RULES,
    "ai.onnx.preview": _ATTENTION["ai.onnx.preview"],
    "ai.onnx.preview.training": ml.TRAINING,
    "com.microsoft": {
        **_ATTENTION["com.microsoft"],
        **contrib.RULES,
        **contrib_products.RULES,
        **quantised.RULES,
    },
    "com.microsoft.nchwc": channels_last.BLOCKED,
    "com.ms.internal.nhwc": {
        **channels_last.RULES,
        "QLinearConvTranspose": channels_last.last(quantised.RULES["QLinearConvTranspose"]),
    },
}
"""Domain -> operator -> its shape rule; `aiop.graph_ir.registry` adds those of users."""
