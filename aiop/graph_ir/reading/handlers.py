"""What reads an operator otherwise than by a shape rule: constants, control flow, sequences, quantised and fused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import onnx

from aiop.graph_ir.reading import constants, control, fused, quantised, sequences
from aiop.graph_ir.values import Node

if TYPE_CHECKING:
    from aiop.graph_ir.reading.reader import Reader

__all__ = ["Handler", "handler"]

Handler = Callable[["Reader", Node, onnx.NodeProto, list[str]], bool]
"""Reads a node whose outputs have these names; whether it could."""

_SPECIAL: dict[str, Handler] = {
    **constants.HANDLERS,
    **control.HANDLERS,
    **sequences.HANDLERS,
    **quantised.HANDLERS,
}
_HANDLERS: dict[str, dict[str, Handler]] = {
    **dict.fromkeys(("", "ai.onnx"), _SPECIAL),
    "com.microsoft": {**quantised.HANDLERS, **fused.HANDLERS["com.microsoft"]},
    "com.microsoft.nchwc": fused.HANDLERS["com.microsoft.nchwc"],
    "com.ms.internal.nhwc": quantised.HANDLERS,
}
_NONE: dict[str, Handler] = {}


def handler(domain: str, onnx_type: str) -> Handler | None:
    """Return what reads an operator of a domain, ``None`` where its shape rule does."""
    return _HANDLERS.get(domain, _NONE).get(onnx_type)
