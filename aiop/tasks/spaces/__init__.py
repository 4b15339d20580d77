"""Search spaces: architecture code <-> ONNX network, one file per space."""

from __future__ import annotations

# Importing a space's module registers it.
from aiop.tasks.spaces import nas_bench_201, nas_bench_mr  # noqa: F401
from aiop.tasks.spaces.base import Form, SearchSpace, get_space, list_spaces, register_space

__all__ = ["Form", "SearchSpace", "get_space", "list_spaces", "register_space"]
