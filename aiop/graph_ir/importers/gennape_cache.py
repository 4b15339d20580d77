"""The graph caches that AIO-P and GENNAPE publish (``gpi_*_comp_graph_cache.pkl``) -> `ComputeGraph` and labels.

A cache is a pickled list of dictionaries: ``compute graph``, metrics such as ``acc``, ``flops``, ``n_params`` or
``obj_det_AP``, and ``original config``. It is read as data: see `aiop.graph_ir.importers.pickle_reader`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiop.errors import AiopError
from aiop.graph_ir.graph import ComputeGraph
from aiop.graph_ir.importers.gennape_graph import to_graph
from aiop.graph_ir.importers.gennape_nodes import GRAPH_CLASSES, GraphError
from aiop.graph_ir.importers.pickle_reader import PickleError, Record, footprint, read_items

__all__ = ["CacheEntry", "iter_cache", "read_cache"]

LARGEST_LIST = 256 << 20
"""Bytes that the networks of one `read_cache` may take."""

_OPERATION = 600  # bytes, about
_DEEPEST_CONFIG = 32


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One network of a cache.

    ``metrics`` holds every number of the entry under its own key and in its own unit (``acc`` is a fraction of 1 in
    most caches). ``metric_map`` says, in caches of a task, which metric stands under ``acc``. ``config`` is what the
    network was built from, as lists, tuples, dictionaries, texts and numbers; None where the cache has none.
    """

    graph: ComputeGraph
    metrics: dict[str, float]
    config: Any = None
    metric_map: str = ""


def read_cache(path: str | Path) -> list[CacheEntry]:
    """Return all networks of a cache.

    Raises:
        AiopError: As `iter_cache`, or the networks are too many to hold at once.
    """
    entries: list[CacheEntry] = []
    size = 0
    for entry in iter_cache(path):
        size += 1000 + _OPERATION * len(entry.graph.operations) + footprint([entry.metrics, entry.config])
        if size > LARGEST_LIST:
            raise AiopError(
                f"{path}: all its networks together take more than {LARGEST_LIST >> 20} MB; take them one at a time, "
                "from iter_cache(path)"
            )
        entries.append(entry)
    return entries


def iter_cache(path: str | Path) -> Iterator[CacheEntry]:
    """Yield the networks of a cache one at a time, in memory that does not grow with the file.

    Nothing in the file is executed, and no class of it is looked up.

    Raises:
        AiopError: The file cannot be read, holds anything but such a list, or describes a graph that cannot be.
    """
    path = Path(path)
    try:
        for index, item in enumerate(read_items(path, GRAPH_CLASSES)):
            yield _entry(item, f"{path}: entry {index}")
    except OSError as error:
        raise AiopError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except PickleError as error:
        raise AiopError(
            f"{path}: not a cache of compute graphs ({error}); give a file as AIO-P and GENNAPE publish them, nothing "
            "in it was executed"
        ) from error


def _entry(item: object, label: str) -> CacheEntry:
    if not isinstance(item, dict):
        raise AiopError(f"{label}: is a {_kind(item)}, not a dictionary; give a cache of compute graphs")
    record = item.get("compute graph")
    if not isinstance(record, Record):
        raise AiopError(f'{label}: holds no object under "compute graph"; give a cache of compute graphs')
    try:
        graph = to_graph(record, label)
        config = item.get("original config")
        config = _plain(config, [64 + footprint([config]) // 8], _DEEPEST_CONFIG)
    except GraphError as error:
        raise AiopError(f"{label}: {error}; leave the entry out, or write the cache again") from error
    metrics = {
        key: float(value)
        for key, value in item.items()
        if isinstance(key, str) and type(value) in (int, float) and math.isfinite(value)
    }
    metric_map = item.get("metric_map", "")
    return CacheEntry(graph, metrics, config, metric_map if isinstance(metric_map, str) else "")


def _plain(value: Any, left: list[int], depth: int) -> Any:
    """Return a copy of plain data in which nothing is shared, so that it is as large as it looks.

    ``left`` counts down the values that it may have.
    """
    left[0] -= 1
    if left[0] < 0 or depth == 0:
        raise GraphError("its original config is nested or repeated beyond any use")
    if isinstance(value, list):
        return [_plain(item, left, depth - 1) for item in value]
    if isinstance(value, tuple):
        return tuple([_plain(item, left, depth - 1) for item in value])
    if isinstance(value, dict):
        return {key: _plain(item, left, depth - 1) for key, item in value.items()}
    if isinstance(value, Record):
        raise GraphError("its original config holds an object")
    return value


def _kind(value: object) -> str:
    return "graph" if isinstance(value, Record) else type(value).__name__
