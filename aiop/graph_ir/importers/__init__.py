"""Networks from what users already have: torch modules, and the graph caches of AIO-P and GENNAPE."""

from aiop.graph_ir.importers.gennape_cache import CacheEntry, iter_cache, read_cache
from aiop.graph_ir.importers.torch_module import from_torch, is_module

__all__ = ["CacheEntry", "from_torch", "is_module", "iter_cache", "read_cache"]
