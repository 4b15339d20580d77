"""Compression: a network's own cheaper variants, proposed by mutations and judged by the predictor."""

from __future__ import annotations

from importlib.util import find_spec

from aiop.errors import AiopError

if find_spec("onnx_ir") is None or find_spec("onnxruntime") is None:
    raise AiopError(
        'compressing needs onnx-ir and onnxruntime: install them with `pip install "aiop[compress]"`'
    )

from aiop.search.compression.candidate import Candidate
from aiop.search.compression.compression import Compression

__all__ = ["Candidate", "Compression"]
