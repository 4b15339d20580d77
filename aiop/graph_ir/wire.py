"""Read an ONNX file without its weights.

An ONNX file is one protobuf message whose bulk is the raw bytes of its weights. Reading a graph needs their shapes
only, so the file is mapped, its wire format walked, and the value fields of every large tensor are left out of what
is handed to the protobuf parser. A network of several gigabytes then costs what its graph costs.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from aiop.errors import AiopError

__all__ = ["load_without_weights", "parse_without_weights"]

LARGEST_VALUE = 65_536
"""Bytes: tensors up to this size keep their values, since shapes are computed from some of them."""

# What to do with each field of a message: a dictionary is a nested message to descend into, `None` is left out.
# Field numbers are those of onnx.proto.
_Plan = dict[int, "_Plan | None"]
_TENSOR: _Plan = {number: None for number in (4, 5, 6, 7, 9, 10, 11)}
_ATTRIBUTE: _Plan = {5: _TENSOR, 10: _TENSOR}
_NODE: _Plan = {5: _ATTRIBUTE}
_GRAPH: _Plan = {1: _NODE, 5: _TENSOR}
_ATTRIBUTE[6] = _ATTRIBUTE[11] = _GRAPH
_FUNCTION: _Plan = {7: _NODE}
_MODEL: _Plan = {7: _GRAPH, 25: _FUNCTION}
_DEEPEST = 64


def load_without_weights(path: Path) -> onnx.ModelProto:
    """Return the network of an ONNX file with the values of its large tensors left out.

    Raises
    ------
    AiopError
        The file cannot be read, or is not an ONNX network.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            raise AiopError(f"{path}: the file is empty, not an ONNX network; export the network again")
        with path.open("rb") as handle:
            if size <= LARGEST_VALUE:
                return parse_without_weights(handle.read(), str(path))
            with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
                return parse_without_weights(view, str(path))
    except OSError as error:
        raise AiopError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error


def parse_without_weights(data: bytes | memoryview, name: str) -> onnx.ModelProto:
    """Return the network serialised in ``data``, large tensor values left out; ``name`` is for error messages."""
    model = onnx.ModelProto()
    try:
        with memoryview(data) as view:
            model.ParseFromString(_strip(view, _MODEL, 0) if len(view) > LARGEST_VALUE else bytes(view))
    except (DecodeError, _WireError, RecursionError) as error:
        raise AiopError(f"{name}: not an ONNX network (the bytes are not an ONNX message); export it again") from error
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise AiopError(f"{name}: not an ONNX network (the message holds no graph); export it again")
    return model


class _WireError(Exception):
    """The bytes are not a protobuf message."""


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(view) or shift > 63:
            raise _WireError
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _strip(view: memoryview, plan: _Plan, depth: int) -> bytes:
    """Return the message in ``view`` with the fields that ``plan`` leaves out gone; small nested messages stay."""
    if depth > _DEEPEST:
        raise _WireError
    kept: list[bytes | memoryview] = []
    at, copied, end = 0, 0, len(view)
    while at < end:
        start = at
        key, at = _varint(view, at)
        number, kind = key >> 3, key & 7
        if kind == 2:
            length, body = _varint(view, at)
            at = body + length
            if at > end:
                raise _WireError
            if length > LARGEST_VALUE and number in plan:
                kept.append(view[copied:start])
                copied = at
                nested = plan[number]
                if nested is not None:
                    inner = _strip(view[body:at], nested, depth + 1)
                    kept += (_encode_varint(key), _encode_varint(len(inner)), inner)
        elif kind == 0:
            _, at = _varint(view, at)
        elif kind == 5 or kind == 1:
            at += 4 if kind == 5 else 8
        else:
            raise _WireError
        if at > end:
            raise _WireError
    kept.append(view[copied:end])
    return b"".join(kept)
