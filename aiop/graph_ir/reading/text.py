"""Networks in ONNX's textual form, as `onnx.printer` writes them."""

from __future__ import annotations

import mmap
import re

import numpy as np
import onnx
import onnx.parser

from aiop.errors import AiopError

__all__ = ["is_text", "parse_text"]

_LARGEST = 16 << 20
_DEEPEST = 64
_SPACE = b" \t\r\n"
_NO_BRACKET = re.compile(rb'"(?:\\.|[^"\\])*(?:"|$)|#[^\n]*|=>|[^<>(){}"#=]+|=', re.DOTALL)


def is_text(data: bytes | mmap.mmap) -> bool:
    """Return whether a file is textual ONNX: no message starts with the ``<`` of its header, or with a comment."""
    return data[:1] in (b"<", b"#") or (data[:1] in _SPACE and data[:512].lstrip(_SPACE)[:1] in (b"<", b"#"))


def parse_text(data: bytes | mmap.mmap, name: str) -> onnx.ModelProto:
    """Return the network written in ``data``; ``name`` is for error messages.

    Text that is too large, nested too deep (the parser would overflow its stack) or not understood is an `AiopError`.
    """
    if len(data) > _LARGEST:
        raise AiopError(
            f"{name}: {len(data)} bytes of textual ONNX are too many; save the network as a message with onnx.save"
        )
    content = bytes(data)
    if _depth(content) > _DEEPEST:
        raise AiopError(f"{name}: its text is nested more than {_DEEPEST} deep; export the network again")
    try:
        model = onnx.parser.parse_model(content.decode())
    except UnicodeDecodeError as error:
        raise AiopError(
            f"{name}: neither an ONNX message nor text in UTF-8; export the network again"
        ) from error
    except Exception as error:  # what the parser raises has no common base
        raise AiopError(
            f"{name}: not an ONNX network, nor textual ONNX ({_reason(error)}); check the text there"
        ) from error
    if not isinstance(model, onnx.ModelProto) or not model.HasField("graph"):
        raise AiopError(f"{name}: the text holds no graph; export the network again")
    return model


def _depth(content: bytes) -> int:
    """Return how deep brackets are nested, of the kind that is nested deepest; those in strings do not count."""
    brackets = np.frombuffer(_NO_BRACKET.sub(b"", content), np.uint8)
    deepest = 0
    for opening, closing in (b"<>", b"()", b"{}"):
        steps = (brackets == opening).astype(np.int8) - (brackets == closing).astype(np.int8)
        deepest = max(deepest, int(np.cumsum(steps, dtype=np.int32).max(initial=0)))
    return deepest


def _reason(error: Exception) -> str:
    raw = error.args[0] if error.args else ""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    place = re.search(r"line: (\d+) column: (\d+)", text)
    what = text.strip().splitlines()[-1].strip() if text.strip() else type(error).__name__
    return f"line {place[1]}, column {place[2]}: {what[:200]}" if place else what[:200]
