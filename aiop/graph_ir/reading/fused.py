"""Fused operators of onnxruntime are read as the standard operators they stand for.

An optimiser merges an activation into a convolution, a residual into a norm, a transposition into a product. Read apart
again, the network is the one it was made from: the same operations, costs and canonical form. What cannot be taken
apart as exactly is left as one operation, with shapes and costs of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from aiop.graph_ir.values import Node, Tensor

if TYPE_CHECKING:
    from aiop.graph_ir.reading.reader import Reader

__all__ = ["HANDLERS"]

_Handler = Callable[["Reader", Node, onnx.NodeProto, list[str]], bool]

_PARAMETERS: dict[str, tuple[str, ...]] = {
    "Relu": (), "Sigmoid": (), "Tanh": (), "LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"),
    "Elu": ("alpha",), "Softplus": (), "HardSwish": (), "Gelu": (), "Selu": ("alpha", "gamma"),
    "ThresholdedRelu": ("alpha",), "Clip": ("min", "max"),
}  # fmt: skip
"""Activations that other operators are fused with, and the names of their parameters in the order they come in."""


class _Steps:
    """The standard operators of one fused node, one after the other; the last writes the node's own output."""

    def __init__(self, reader: Reader, node: Node, names: list[str]) -> None:
        self.reader = reader
        self.node = node
        self.name = names[0]
        self._count = 0

    def then(
        self,
        kind: str,
        inputs: list[Tensor | None],
        attributes: dict[str, Any] | None = None,
        *,
        last: bool = False,
        main: bool = False,
        domain: str = "",
    ) -> Tensor:
        """Read one operator; ``main`` marks the one that the fused operator is named for."""
        self._count += 1
        name = self.name if last else f"{self.name}/fused{self._count}"
        before = len(self.reader.operations)
        (output,) = self.reader.emit(kind, inputs, [name], domain=domain, **(attributes or {}))
        if main and len(self.reader.operations) > before:
            operation = self.reader.operations[-1]
            operation.name = self.node.name or operation.name
            operation.onnx_type, operation.domain = self.node.type, self.node.domain
        return output

    def number(self, value: float) -> Tensor:
        """Return a constant number."""
        tensor = Tensor("", (), "float32", constant=True)
        tensor.set_value(np.asarray(value, np.float32))
        return tensor


def _activation(node: Node) -> tuple[str, dict[str, float]] | None:
    """Return the activation that a node is fused with and its parameters; ``None`` for one that is not known."""
    kind = str(node.get("activation", "") or "")
    if not kind:
        return "", {}
    names = _PARAMETERS.get(kind)
    if names is None:
        return None
    given = list(node.get("activation_params") or [])
    if not given:
        greek = ("alpha", "beta", "gamma")
        given = [
            float(node.get(f"activation_{letter}", 0.0))
            for letter in greek
            if f"activation_{letter}" in node.attributes
        ]
    return kind, dict(zip(names, given, strict=False))


def _activate(steps: _Steps, data: Tensor, kind: str, parameters: dict[str, float]) -> None:
    if kind == "Clip":
        low, high = (
            steps.number(parameters[name]) if name in parameters else None for name in ("min", "max")
        )
        steps.then("Clip", [data, low, high], last=True)
    else:
        steps.then(kind, [data], dict(parameters), last=True)


def _plain_attributes(node: Node) -> dict[str, Any]:
    return {name: value for name, value in node.attributes.items() if not name.startswith("activation")}


def _convolution(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    """A convolution, a residual that is added, an activation."""
    found = _activation(node)
    data, residual = node.input(0), node.input(3)
    if found is None or data is None or data.constant or not (found[0] or residual):
        return False
    domain = "com.ms.internal.nhwc" if node.type == "NhwcFusedConv" else ""
    if node.domain == "com.microsoft.nchwc":
        domain = node.domain
    kind, parameters = found
    steps = _Steps(reader, node, names)
    last = not (kind or residual)
    out = steps.then("Conv", node.inputs[:3], _plain_attributes(node), main=True, last=last, domain=domain)
    if residual is not None:
        out = steps.then("Add", [out, residual], last=not kind)
    if kind:
        _activate(steps, out, kind, parameters)
    return True


def _gemm(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    found = _activation(node)
    data = node.input(0)
    if not found or not found[0] or data is None or data.constant:
        return False
    steps = _Steps(reader, node, names)
    out = steps.then("Gemm", list(node.inputs), _plain_attributes(node), main=True)
    _activate(steps, out, *found)
    return True


def _product(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    """Transpositions of the factors, their product, a scale, an activation."""
    left, right = node.input(0), node.input(1)
    found = _activation(node)
    if left is None or right is None or found is None or (left.constant and right.constant):
        return False
    if node.get("transBatchA", 0) or node.get("transBatchB", 0):
        return False
    kind, parameters = found
    alpha = float(node.get("alpha", 1.0))
    steps = _Steps(reader, node, names)
    factors: list[Tensor | None] = []
    for factor, side in ((left, "A"), (right, "B")):
        rank = len(factor.shape)
        if node.get(f"trans{side}", 0) and rank > 1:
            factor = steps.then("Transpose", [factor], {"perm": [*range(rank - 2), rank - 1, rank - 2]})
        factors.append(factor)
    out = steps.then("MatMul", factors, main=True, last=alpha == 1.0 and not kind)
    if alpha != 1.0:
        out = steps.then("Mul", [out, steps.number(alpha)], last=not kind)
    if kind:
        _activate(steps, out, kind, parameters)
    return True


def _gelu(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    """A product with a weight, a bias, a GELU: each where the operator has it."""
    data, bias = node.input(0), node.input(2 if node.type == "GemmFastGelu" else 1)
    if data is None or data.constant:
        return False
    steps = _Steps(reader, node, names)
    if node.type == "GemmFastGelu":
        data = steps.then("MatMul", list(node.inputs[:2]))
    if bias is not None:
        data = steps.then("Add", [data, bias])
    approximate = "none" if node.type == "BiasGelu" else "tanh"
    steps.then("Gelu", [data], {"approximate": approximate}, last=True, main=True)
    return True


def _skip_norm(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    """A sum, which others may read too, and its norm."""
    simplified = node.type == "SkipSimplifiedLayerNormalization"
    data, skip, scale = node.input(0), node.input(1), node.input(2)
    shift, bias = (None, node.input(3)) if simplified else (node.input(3), node.input(4))
    if data is None or skip is None or (data.constant and skip.constant) or any(names[1:3]):
        return False
    steps = _Steps(reader, node, names)
    total = data
    if bias is not None:
        total = steps.then("Add", [total, bias])
    sum_name = names[3] if len(names) > 3 else ""
    if sum_name:
        (total,) = reader.emit("Add", [total, skip], [sum_name])
    else:
        total = steps.then("Add", [total, skip])
    steps.then(
        "RMSNormalization" if simplified else "LayerNormalization",
        [total, scale] if shift is None else [total, scale, shift],
        {"axis": -1, "epsilon": float(node.get("epsilon", 1e-12))},
        last=True,
        main=True,
    )
    return True


def _sums(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    """Several tensors added: data, a bias, a residual; then a softmax, where the operator is one."""
    given = [node.input(index) for index in range(2 if node.type == "BiasSoftmax" else 3)]
    terms = [tensor for tensor in given if tensor is not None]
    if len(terms) < 2 or terms[0].constant or any(names[1:]):
        return False
    try:
        if np.broadcast_shapes(*(term.shape for term in terms)) != terms[0].shape:
            return False
    except ValueError:
        return False
    steps = _Steps(reader, node, names)
    softmax = node.type == "BiasSoftmax"
    total = terms[0]
    for index, term in enumerate(terms[1:], 2):
        last = index == len(terms) and not softmax
        total = steps.then("Add", [total, term], last=last, main=last)
    if softmax:
        steps.then("Softmax", [total], {"axis": int(node.get("axis", 1))}, last=True, main=True)
    return True


def _attention(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    """A projection to queries, keys and values, and attention between them; masked or cached ones stay in one piece."""
    data, weights, bias = node.input(0), node.input(1), node.input(2)
    if data is None or weights is None or data.constant or any(names[1:]) or len(weights.shape) != 2:
        return False
    if any(tensor is not None for tensor in node.inputs[3:]) or node.get("do_rotary", 0):
        return False
    heads = int(node.get("num_heads", 0))
    sizes = [int(size) for size in node.get("qkv_hidden_sizes") or [weights.shape[1] // 3] * 3]
    if heads < 1 or sum(sizes) != weights.shape[1] or len(data.shape) != 3:
        return False
    steps = _Steps(reader, node, names)
    out = steps.then("MatMul", [data, weights])
    if bias is not None:
        out = steps.then("Add", [out, bias])
    parts = [f"{names[0]}/{part}" for part in ("query", "key", "value")]
    query, key, value = reader.emit("Split", [out, reader.integers(sizes)], parts, axis=2)
    attributes: dict[str, Any] = {"q_num_heads": heads, "kv_num_heads": heads}
    if node.get("unidirectional", 0):
        attributes["is_causal"] = 1
    if "scale" in node.attributes:
        attributes["scale"] = node.get("scale")
    steps.then("Attention", [query, key, value], attributes, last=True, main=True)
    return True


def _multi_head(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    """Attention between queries, keys and values of their own, with a mask that is added to the scores or without."""
    parts = node.inputs[:3]
    if len(parts) < 3 or any(part is None or part.constant or len(part.shape) != 3 for part in parts):
        return False
    others = [tensor for index, tensor in enumerate(node.inputs[3:], 3) if index != 5]
    heads = int(node.get("num_heads", 0))
    if heads < 1 or any(names[1:]) or any(tensor is not None for tensor in others):
        return False
    attributes: dict[str, Any] = {"q_num_heads": heads, "kv_num_heads": heads}
    if node.get("unidirectional", 0):
        attributes["is_causal"] = 1
    if "scale" in node.attributes:
        attributes["scale"] = node.get("scale")
    mask = node.input(5)
    inputs = [*parts, mask] if mask is not None else parts
    _Steps(reader, node, names).then("Attention", inputs, attributes, last=True, main=True)
    return True


def _reorder(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    """Into blocks of channels from channels last, or back: a transposition where no channels only fill a block."""
    data = node.input(0)
    if data is None or data.constant or not node.get("channels_last", 0) or len(data.shape) != 4:
        return False
    into = node.type == "ReorderInput"
    if not into and int(node.get("channels", 0)) != data.shape[1]:
        return False
    steps = _Steps(reader, node, names)
    steps.then("Transpose", [data], {"perm": [0, 3, 1, 2] if into else [0, 2, 3, 1]}, last=True, main=True)
    return True


HANDLERS: dict[str, dict[str, _Handler]] = {
    "com.microsoft": {
        **dict.fromkeys(("FusedConv", "NhwcFusedConv"), _convolution),
        "FusedGemm": _gemm,
        **dict.fromkeys(("FusedMatMul", "FusedMatMulActivation", "TransposeMatMul"), _product),
        **dict.fromkeys(("BiasGelu", "FastGelu", "GemmFastGelu"), _gelu),
        **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _skip_norm),
        **dict.fromkeys(("BiasAdd", "BiasDropout", "BiasSoftmax"), _sums),
        "Attention": _attention,
        "MultiHeadAttention": _multi_head,
    },
    "com.microsoft.nchwc": {"Conv": _convolution, "ReorderInput": _reorder, "ReorderOutput": _reorder},
}
"""Domain -> operator -> how it is read; each returns whether it could."""
