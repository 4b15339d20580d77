"""Element types of a node's outputs: as ONNX's own definition of the operator ties them to its inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import onnx

from aiop.graph_ir.values import DTYPES, Node

__all__ = ["dtype_name", "output_dtypes"]

_STANDARD = ("", "ai.onnx")
_SHORTER = {"float4e2m1fn": "float4e2m1", "float8e8m0fnu": "float8e8m0"}
_NUMBERS = dict(onnx.TensorProto.DataType.items())
_NAMES = {name.replace("float64", "double").replace("float32", "float"): name for name in DTYPES.values()}


def output_dtypes(node: Node, count: int) -> list[str]:
    """Return the element type of each of ``count`` outputs: the first input's, where nothing else is known."""
    rule = _RULES.get(node.type)
    if rule is not None:
        return rule(node, count)
    first = _first(node)
    ties = _ties(node.type, node.opset, node.domain)
    if not ties:
        return [first] * count
    types = []
    for index in range(count):
        tie = ties[min(index, len(ties) - 1)]
        if isinstance(tie, str):
            types.append(tie or first)
        else:
            source = node.input(tie)
            types.append(first if source is None else source.dtype)
    return types


@lru_cache(maxsize=4096)
def _ties(kind: str, opset: int, domain: str) -> tuple[int | str, ...]:
    """Return for every output the input whose element type it has, or the type that it always has.

    Empty where all have the first input's, or the operator is not known; ``""`` where nothing ties an output.
    """
    try:
        version = (opset, "") if domain in _STANDARD else (domain,)  # of other domains, the newest
        schema = onnx.defs.get_schema(kind, *version)
    except onnx.defs.SchemaError:
        return ()
    allowed = {rule.type_param_str: list(rule.allowed_type_strs) for rule in schema.type_constraints}
    inputs = [value.type_str for value in schema.inputs]
    ties: list[int | str] = []
    for value in schema.outputs:
        text = value.type_str
        if text in inputs:
            ties.append(inputs.index(text))
            continue
        choices = allowed.get(text, [text])
        plain = choices[0].removeprefix("tensor(").removesuffix(")") if len(choices) == 1 else ""
        ties.append(_NAMES.get(plain, ""))
    return () if all(tie in (0, "") for tie in ties) else tuple(ties)


def dtype_name(array: np.ndarray[Any, Any]) -> str:
    """Return how an array's element type is called in a graph."""
    name: str = array.dtype.name
    if "_" not in name:
        return "string" if array.dtype.kind in "OUS" else name
    name = name.replace("_", "")
    return _SHORTER.get(name, name)


def _first(node: Node) -> str:
    for tensor in node.inputs:
        if tensor is not None:
            return tensor.dtype
    return "float32"


def _stated(attribute: str, default: str | int) -> Callable[[Node, int], list[str]]:
    """Return a rule: the type that an attribute states, or a default (a number: the type of that input)."""

    def rule(node: Node, count: int) -> list[str]:
        number = node.get(attribute)
        if isinstance(number, str):  # Cast of opset 1
            number = _NUMBERS.get(number)
        if isinstance(number, int) and number in DTYPES:
            return [DTYPES[number]] * count
        if isinstance(default, str):
            return [default] * count
        source = node.input(default)
        return [_first(node) if source is None else source.dtype] * count

    return rule


def _quantised(node: Node, count: int) -> list[str]:
    zero_point = node.input(2)
    default = "uint8" if zero_point is None else zero_point.dtype
    return _stated("output_dtype", default)(node, count)


def _fill(node: Node, count: int) -> list[str]:
    fill = node.get("value")
    return ["float32" if fill is None else dtype_name(fill)] * count


def _label(node: Node, count: int) -> list[str]:
    """Of LabelEncoder: the type of the labels that it writes."""
    table = node.get("values_tensor")
    if table is not None:
        return [dtype_name(table)] * count
    for values, name in (("strings", "string"), ("int64s", "int64"), ("floats", "float32")):
        if node.get(f"values_{values}"):
            return [name] * count
    return [
        "int64" if _first(node) == "string" else "string"
    ] * count  # before version 2 it did one or the other


def _normalised(node: Node, count: int) -> list[str]:
    return [_first(node), *_stated("stash_type", "float32")(node, count - 1)]


_RULES: dict[str, Callable[[Node, int], list[str]]] = {
    "Cast": _stated("to", "float32"),
    "BitCast": _stated("to", "float32"),
    "CastLike": _stated("", 1),
    "ConstantOfShape": _fill,
    "QuantizeLinear": _quantised,
    "DequantizeLinear": _stated("output_dtype", 1),
    "LayerNormalization": _normalised,
    "LabelEncoder": _label,
    **dict.fromkeys(("EyeLike", "RandomNormalLike", "RandomUniformLike", "Bernoulli"), _stated("dtype", 0)),
    **dict.fromkeys(("RandomNormal", "RandomUniform"), _stated("dtype", "float32")),
    "Multinomial": _stated("dtype", "int32"),
    **dict.fromkeys(
        ("HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix"),
        _stated("output_datatype", "float32"),
    ),
}
"""Operators whose attributes say what they give."""
