"""A universal graph-based predictor for neural networks: ONNX in, predicted metrics of vision tasks out.

The names in ``__all__`` are the public API. Importing this package loads neither torch, dgl nor onnx: each
name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from aiop.errors import AiopError

if TYPE_CHECKING:
    from aiop.graph_ir.registry import operator
    from aiop.inspection import inspect
    from aiop.predictor import load
    from aiop.predictor.few_shot import fit_head
    from aiop.predictor.head_file import load_head
    from aiop.search.compression import Compression
    from aiop.tasks import build
    from aiop.tasks.networks import read

__version__ = "0.1.0"
__all__ = [
    "AiopError",
    "Compression",
    "__version__",
    "build",
    "fit_head",
    "inspect",
    "load",
    "load_head",
    "operator",
    "read",
]

_HOMES = {
    "Compression": "aiop.search.compression",
    "build": "aiop.tasks",
    "fit_head": "aiop.predictor.few_shot",
    "inspect": "aiop.inspection",
    "load": "aiop.predictor",
    "load_head": "aiop.predictor.head_file",
    "operator": "aiop.graph_ir.registry",
    "read": "aiop.tasks.networks",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'aiop' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
