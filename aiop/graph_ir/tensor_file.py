"""The safetensors layout read without loading tensors, and files that appear whole or not at all.

Layout: 8 bytes (little-endian length of the header), the header (JSON: name -> dtype, shape, byte range), the raw
tensors one after the other. No pickle anywhere: a hostile file can at worst be refused.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aiop.errors import AiopError

__all__ = ["DTYPES", "TensorFile", "TensorLayout", "atomic_path", "encode_header", "read_header"]

DTYPES: dict[str, np.dtype[Any]] = {
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}

# A header holds a few kilobytes; the bound keeps a hostile length from being allocated.
MAX_HEADER_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class TensorLayout:
    """Where a tensor lies: ``start`` and ``stop`` are bytes from the beginning of the file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    stop: int


class TensorFile:
    """The tensors of a file as read-only views of its memory map: opening costs milliseconds at any size.

    Attributes:
        path: the file.
        metadata: the text fields of the header.
        layouts: dtype, shape and place of every tensor.

    Raises:
        AiopError: for a missing file, or one that is not safetensors or is truncated.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.metadata, self.layouts = read_header(self.path)
        # Viewed as a plain array: slicing numpy's memmap class costs microseconds more per slice.
        self._bytes = np.asarray(np.memmap(self.path, dtype=np.uint8, mode="r"))

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        layout = self.layouts[name]
        return self._bytes[layout.start : layout.stop].view(layout.dtype).reshape(layout.shape)


def read_header(path: str | Path) -> tuple[dict[str, str], dict[str, TensorLayout]]:
    """Read the metadata and the tensor layouts of a safetensors file; reads the header only.

    Raises:
        AiopError: for a missing file, or one whose header is not that of a whole safetensors file.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
                raise _refuse(path, f"its header claims {length} bytes, the file has {size}")
            header = json.loads(stream.read(length))
    except FileNotFoundError:
        raise AiopError(f"{path} does not exist: check the path") from None
    except OSError as error:
        raise AiopError(f"{path} cannot be read ({error.strerror}): check the path") from None
    except (ValueError, RecursionError):
        raise _refuse(path, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise _refuse(path, "its header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _refuse(path, "its metadata is not text")
    return metadata, {name: _layout(path, name, entry, 8 + length, size) for name, entry in header.items()}


def _layout(path: Path, name: str, entry: object, base: int, size: int) -> TensorLayout:
    try:
        dtype = DTYPES[entry["dtype"]]  # type: ignore[index]
        shape = entry["shape"]  # type: ignore[index]
        begin, end = entry["data_offsets"]  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        raise _refuse(path, f"tensor {name[:60]!r} has no known dtype, shape and place") from None
    numbers = [begin, end, *shape] if isinstance(shape, list) else [None]
    if not all(type(number) is int and 0 <= number < 1 << 48 for number in numbers):
        raise _refuse(path, f"tensor {name[:60]!r} has a wrong shape or place")
    if not begin <= end <= size - base:
        raise _refuse(path, f"tensor {name[:60]!r} ends at byte {base + end} of {size}")
    if math.prod(shape) * dtype.itemsize != end - begin:
        raise _refuse(
            path, f"tensor {name[:60]!r} of shape {tuple(shape)} does not fill its {end - begin} bytes"
        )
    return TensorLayout(dtype, tuple(shape), base + begin, base + end)


def _refuse(path: Path, cause: str) -> AiopError:
    return AiopError(f"{path} is not a whole safetensors file: {cause}; make or fetch it again")


def encode_header(
    tensors: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], metadata: Mapping[str, str]
) -> bytes:
    """Encode the length and the header of a file whose tensors follow in the order given."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        size = math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the tensors start at a multiple of 8
    return len(text).to_bytes(8, "little") + text


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` when the block ends and vanishes when it raises.

    A kill leaves at most the temporary file, whose name is always the same, so that the next writer replaces it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise AiopError(
            f"{path} cannot be written ({error.strerror or error}): check folder and space"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
