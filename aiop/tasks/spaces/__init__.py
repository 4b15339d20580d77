"""Search spaces: architecture code <-> ONNX network, one file per space."""

from __future__ import annotations

# Importing a space's module registers it.
from aiop.tasks.spaces import (  # noqa: F401
    accel_nasbench,
    darts,
    digits_ofa,
    fbnet,
    gaia_det,
    nas_bench_101,
    nas_bench_201,
    nas_bench_macro,
    nas_bench_mr,
    nats_size,
    ofa_mbv3,
    transnas,
)
from aiop.tasks.spaces.base import Form, SearchSpace, get_space, list_spaces, register_space

__all__ = ["Form", "SearchSpace", "get_space", "list_spaces", "register_space"]
