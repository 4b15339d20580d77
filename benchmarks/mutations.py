"""Real ONNX files, and ways to damage them: what `benchmarks.fuzz` and the tests of hostile files feed the reader."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import printer
from onnx.backend.test.case.node import collect_testcases

__all__ = ["damaged", "seeds", "tampered"]

_LARGEST_SEED = 60_000
_NUMBERS = (0, 1, -1, 2, 3, 7, -5, 100, 65_536, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
_FLOATS = (0.0, -1.0, 1e-30, 1e30, float("inf"), float("-inf"), float("nan"))
_TYPES = tuple(sorted({schema.name for schema in onnx.defs.get_all_schemas()}))
_TEXTS = (
    "",
    "x",
    "y",
    "com.microsoft",
    "ai.onnx.ml",
    "NOTSET",
    "SAME_UPPER",
    "../../etc/passwd",
    "\x00",
    "ij,jk->ik",
)


@cache
def seeds() -> tuple[bytes, ...]:
    """Return the files that damage starts from.

    Every case of the onnx package's conformance tests, its small stored networks, and some of both as text.
    """
    with warnings.catch_warnings():  # the cases compute their own expected outputs, infinite ones too
        warnings.simplefilter("ignore")
        found = {case.model.SerializeToString(): None for case in collect_testcases(None)}
    data = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for path in sorted(data.rglob("*.onnx")):
        found[path.read_bytes()] = None
    files = [file for file in found if len(file) <= _LARGEST_SEED]
    return (*files, *_as_text(files[::40]))


def _as_text(files: Sequence[bytes]) -> Iterator[bytes]:
    for file in files:
        try:
            yield printer.to_text(onnx.ModelProto.FromString(file)).encode()
        except (RuntimeError, ValueError, UnicodeError):
            continue


def damaged(rng: random.Random) -> bytes:
    """Return one of the seeds, damaged: as bytes, as a message, or both."""
    data = rng.choice(seeds())
    if rng.random() < 0.6:
        try:
            network = onnx.ModelProto.FromString(data)
            for _ in range(rng.randrange(1, 5)):
                tampered(network, rng)
            data = network.SerializeToString()
        except (
            DecodeError,
            EncodeError,
            ValueError,
        ):  # text, or no longer a message: bytes are damaged instead
            return _corrupted(data, rng)
        if rng.random() < 0.8:
            return data
    return _corrupted(data, rng)


def _corrupted(data: bytes, rng: random.Random) -> bytes:
    """Return bytes cut, flipped, doubled, deleted, or joined with another file's."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        if not out:
            break
        at = rng.randrange(len(out))
        span = min(len(out) - at, 1 << rng.randrange(9))
        match rng.randrange(7):
            case 0:
                del out[at:]
            case 1:
                out[at] ^= 1 << rng.randrange(8)
            case 2:
                out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 3:
                out[at:at] = out[at : at + span] * rng.randrange(1, 4)
            case 4:
                del out[at : at + span]
            case 5:
                out[at:at] = rng.randbytes(span)
            case _:
                other = rng.choice(seeds())
                out[at:] = other[rng.randrange(len(other)) :]
    return bytes(out)


def tampered(message: Any, rng: random.Random) -> None:
    """Change one field somewhere in a protobuf message to something it may hold, but perhaps should not."""
    places = list(_messages(message))
    target = rng.choice(places)
    field = rng.choice(target.DESCRIPTOR.fields)
    if field.is_repeated:
        _tamper_many(target, field, places, rng)
    elif field.message_type is not None:
        if rng.random() < 0.4:
            target.ClearField(field.name)
        else:
            _copy_alike(getattr(target, field.name), places, rng)
    elif rng.random() < 0.1:
        target.ClearField(field.name)
    else:
        setattr(target, field.name, _scalar(field, places, rng))


def _messages(message: Any, depth: int = 0) -> Iterator[Any]:
    yield message
    if depth < 8:
        for field, value in message.ListFields():
            if field.message_type is not None:
                for inner in value if field.is_repeated else (value,):
                    yield from _messages(inner, depth + 1)


def _tamper_many(target: Any, field: Any, places: list[Any], rng: random.Random) -> None:
    values = getattr(target, field.name)
    action = rng.randrange(5)
    if action == 0 and values:
        del values[rng.randrange(len(values)) :]
    elif action == 1 and values:
        del values[rng.randrange(len(values))]
    elif action == 2 and len(values) > 1:
        kept = list(values)
        rng.shuffle(kept)
        del values[:]
        values.extend(kept)
    elif field.message_type is not None:
        _copy_alike(values.add(), places, rng)
    else:
        value = _scalar(field, places, rng)
        if values and action == 3:
            values[rng.randrange(len(values))] = value
        else:
            values.append(value)


def _copy_alike(message: Any, places: list[Any], rng: random.Random) -> None:
    alike = [place for place in places if place.DESCRIPTOR is message.DESCRIPTOR and place is not message]
    if alike:
        copy = type(message)()
        copy.CopyFrom(rng.choice(alike))  # a copy first: a message may hold the one it is copied into
        if copy.ByteSize() < _LARGEST_SEED:
            message.CopyFrom(copy)


def _scalar(field: Any, places: list[Any], rng: random.Random) -> Any:
    kind = field.cpp_type
    if kind == field.CPPTYPE_ENUM:
        return rng.choice(list(field.enum_type.values_by_number))
    if kind == field.CPPTYPE_INT32:
        return rng.choice((0, 1, 2, 7, 30, -1, 2**31 - 1)) if rng.random() < 0.5 else rng.randrange(31)
    if kind == field.CPPTYPE_INT64:
        return rng.choice(_NUMBERS)
    if kind in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64):
        return rng.choice([number for number in _NUMBERS if 0 <= number < 2**32])
    if kind in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return rng.choice(_FLOATS)
    if field.type == field.TYPE_BYTES:
        return rng.choice((b"", b"\xff\xfe", b"SAME_LOWER", rng.randbytes(rng.randrange(20))))
    names = [
        name
        for place in places
        if place.DESCRIPTOR.name == "NodeProto"
        for name in (*place.input, *place.output)
    ]
    return rng.choice((*_TEXTS, rng.choice(_TYPES), *(rng.choices(names, k=3) if names else ())))
