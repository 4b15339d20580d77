"""Benchmark tables: measured values of known architectures, and splits that never leak."""

from __future__ import annotations

# Importing a table's module registers its loader.
from aiop.tasks.tables import (  # noqa: F401
    accel_nasbench,
    digits_ofa,
    fbnet,
    gaia_det,
    nas_bench_101,
    nas_bench_201,
    nas_bench_macro,
    nas_bench_mr,
    nats_size,
    ofa_mbv3,
    timm,
    transnas,
)
from aiop.tasks.tables.families import family
from aiop.tasks.tables.split import split
from aiop.tasks.tables.table import Table, data_dir, list_tables, load_table, table_dir
from aiop.tasks.tables.timm import iter_timm

__all__ = ["Table", "data_dir", "family", "iter_timm", "list_tables", "load_table", "split", "table_dir"]
