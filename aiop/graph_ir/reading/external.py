"""Small constants that a network keeps in files beside it: sizes and axes, never weights."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx

from aiop.graph_ir.values import DTYPES, Array, Shape

__all__ = ["external_value", "is_wanted"]

_MOST_NUMBERS = 65_536
_MOST_FLOATS = 16  # scales and single numbers; more of them are a weight
_INTEGERS = frozenset({"int64", "int32", "bool"})
_FLOATS = frozenset({"float32", "float64", "float16"})


def is_wanted(dtype: str, count: int) -> bool:
    """Return whether ``count`` numbers of an element type may be sizes, axes or scales, and not a weight."""
    return (dtype in _FLOATS and count <= _MOST_FLOATS) or (dtype in _INTEGERS and count <= _MOST_NUMBERS)


def external_value(proto: onnx.TensorProto, shape: Shape, folder: Path, missing: list[str]) -> Array | None:
    """Return the values of a small constant from its file in the network's folder.

    ``None`` for weights, and for a file that is missing, too short, no regular file or outside ``folder``, which is
    never opened: its name is added to ``missing``.
    """
    kind = DTYPES.get(proto.data_type, "")
    count = math.prod(shape)
    if not is_wanted(kind, count):
        return None
    entries = {entry.key: entry.value for entry in proto.external_data}
    location = entries.get("location", "")
    dtype = np.dtype(kind).newbyteorder("<")
    data = _part(folder, location, entries.get("offset", "0"), count * dtype.itemsize)
    if data is None:
        missing.append(location)
        return None
    return np.frombuffer(data, dtype).reshape(shape)


def _part(folder: Path, location: str, offset: str, size: int) -> bytes | None:
    try:
        root = folder.resolve()
        path = (root / location).resolve()
        start = int(offset)
        if (
            start < 0
            or not path.is_relative_to(root)
            or not path.is_file()
            or path.stat().st_size < start + size
        ):
            return None
        with path.open("rb") as file:
            file.seek(start)
            return file.read(size)
    except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle
        return None
