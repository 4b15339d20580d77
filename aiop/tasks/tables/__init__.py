"""Benchmark tables: measured values of known architectures, and splits that never leak."""

from __future__ import annotations

# Importing a table's module registers its loader.
from aiop.tasks.tables import nas_bench_201, nas_bench_mr, timm  # noqa: F401
from aiop.tasks.tables.families import family
from aiop.tasks.tables.split import split
from aiop.tasks.tables.table import Table, data_dir, list_tables, load_table
from aiop.tasks.tables.timm import iter_timm

__all__ = ["Table", "data_dir", "family", "iter_timm", "list_tables", "load_table", "split"]
