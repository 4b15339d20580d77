"""What the tests of damaged and hostile files share."""

from __future__ import annotations

import time

import onnx

from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph, from_json, read_onnx, to_json
from aiop.graph_ir.features import encode
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise


def attempt(source: bytes | onnx.ModelProto, seconds: float = 5) -> ComputeGraph | AiopError:
    """Read, bring to canonical form, hash and encode, all within ``seconds``: most take a thousandth of that."""
    started = time.perf_counter()
    try:
        result: ComputeGraph | AiopError = read_onnx(source)
    except AiopError as error:
        result = error
    else:
        content_hash(canonicalise(result))
        encode(result)
        from_json(to_json(result))
    assert isinstance(result, ComputeGraph) or "\n" not in str(result)
    assert time.perf_counter() - started < seconds
    return result


def varint(value: int) -> bytes:
    """Return a number as protobuf writes lengths."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
