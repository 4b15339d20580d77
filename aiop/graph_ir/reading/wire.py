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
from aiop.graph_ir.reading.outline import parts
from aiop.graph_ir.reading.text import is_text, parse_text

__all__ = ["LARGEST_VALUE", "load_without_weights", "parse_without_weights"]

LARGEST_VALUE = 65_536
"""Bytes: tensors up to this size keep their values, since shapes are computed from some of them."""

# What to do with each field of a message: a dictionary is a nested message to descend into, `None` is left out.
# Field numbers are those of onnx.proto.
_Plan = dict[int, "_Plan | None"]
_TENSOR: _Plan = dict.fromkeys((4, 5, 6, 7, 9, 10, 11))
_SPARSE: _Plan = {1: _TENSOR, 2: _TENSOR}
_ATTRIBUTE: _Plan = {5: _TENSOR, 10: _TENSOR, 22: _SPARSE, 23: _SPARSE}
_NODE: _Plan = {5: _ATTRIBUTE}
_GRAPH: _Plan = {1: _NODE, 5: _TENSOR, 15: _SPARSE}
_ATTRIBUTE[6] = _ATTRIBUTE[11] = _GRAPH
_FUNCTION: _Plan = {7: _NODE}
_MODEL: _Plan = {7: _GRAPH, 20: None, 25: _FUNCTION}  # 20: how the network is trained
_DEEPEST = 64
_WORTH_ASKING = 1 << 22  # bytes
_MOST_PARTS = 400_000  # of one message: each takes a thousand bytes of memory once it is read


def load_without_weights(path: Path) -> onnx.ModelProto:
    """Return the network of an ONNX file with the values of its large tensors left out.

    Files that the network keeps weights in are never opened. A file that cannot be read, or is not an ONNX network,
    is an `AiopError`.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            raise AiopError(f"{path}: the file is empty, not an ONNX network; export the network again")
        with path.open("rb") as handle:
            if size <= _WORTH_ASKING:
                return parse_without_weights(handle.read(), str(path))
            with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                return parse_without_weights(mapped, str(path))
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        reason = getattr(error, "strerror", None) or error
        raise AiopError(f"{path}: cannot be read ({reason}); check the path and its permissions") from error


def parse_without_weights(data: bytes | mmap.mmap, name: str) -> onnx.ModelProto:
    """Return the network serialised in ``data``, large tensor values left out; ``name`` is for error messages."""
    if is_text(data):
        return parse_text(data, name)
    model = onnx.ModelProto()
    try:
        if isinstance(data, bytes) and _is_light(data):
            model.ParseFromString(data)
        else:
            model.ParseFromString(_stripped(data))
    except AiopError as error:
        raise AiopError(f"{name}: {error}") from error
    except (DecodeError, MemoryError, RecursionError) as error:
        raise AiopError(
            f"{name}: not an ONNX network (the bytes are not an ONNX message); export the network again"
        ) from error
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise AiopError(f"{name}: not an ONNX network (the message holds no graph); export the network again")
    return model


def _is_light(data: bytes) -> bool:
    """Return whether a serialised network has no large tensors, as far as that is worth asking the protobuf parser."""
    if len(data) <= LARGEST_VALUE:
        return True
    if len(data) > _WORTH_ASKING:
        return False
    count, largest = parts(data)
    if count > _MOST_PARTS:
        raise _too_many()
    return largest <= LARGEST_VALUE


def _too_many() -> AiopError:
    return AiopError(
        f"the file has more than {_MOST_PARTS:,} nodes or constants, too many to read; split the network"
    )


def _stripped(data: bytes | mmap.mmap) -> bytes:
    """Return a serialised network without the values of its large tensors."""
    view = memoryview(data)
    kept: list[bytes | memoryview] = []
    try:
        _strip(view, 0, len(view), _MODEL, 0, kept)
        return b"".join(kept)
    finally:  # a mapped file cannot be closed while a view of it lives, be it in the traceback of an error
        for part in kept:
            if isinstance(part, memoryview):
                part.release()
        view.release()


def _strip(
    view: memoryview, at: int, end: int, plan: _Plan, depth: int, kept: list[bytes | memoryview]
) -> int:
    """Append the message in ``view[at:end]`` to ``kept`` without the fields that ``plan`` leaves out.

    Small nested messages stay whole. Returns how many bytes were appended; bytes that are no message, or are nested
    too deep, are a `DecodeError`.
    """
    if depth > _DEEPEST:
        raise DecodeError("nested too deep")
    size, copied, parts = 0, at, 0
    while at < end:
        start = at
        parts += 1
        if parts > _MOST_PARTS and plan is not _TENSOR:
            raise _too_many()
        key = view[at]
        at += 1
        if key >= 0x80:
            key, at = _varint(view, start, end)
        kind = key & 7
        if kind == 2:
            length, body = _varint(view, at, end)
            at = body + length
            if length > LARGEST_VALUE and at <= end and (key >> 3) in plan:
                kept.append(view[copied:start])
                size += start - copied
                copied = at
                nested = plan[key >> 3]
                if nested is not None:
                    slot = len(kept)
                    kept.append(b"")  # of the header, known once the new length is
                    inner = _strip(view, body, at, nested, depth + 1, kept)
                    kept[slot] = header = _encode_varint(key) + _encode_varint(inner)
                    size += len(header) + inner
        elif kind == 0:
            _, at = _varint(view, at, end)
        elif kind == 5 or kind == 1:
            at += 4 if kind == 5 else 8
        else:
            raise DecodeError("unknown wire type")
        if at > end:
            raise DecodeError("truncated")
    kept.append(view[copied:end])
    return size + end - copied


def _varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    """Return a number of variable length, and the position after it."""
    value = shift = 0
    while at < end and shift <= 63:
        byte = view[at]
        at += 1
        if byte < 0x80:
            return value | byte << shift, at
        value |= (byte & 0x7F) << shift
        shift += 7
    raise DecodeError("truncated")


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
