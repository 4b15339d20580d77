"""The next batch is assembled while the one before is trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["read_ahead"]

T = TypeVar("T")


def read_ahead(assemble: Callable[[int], T], start: int, stop: int) -> Iterator[T]:
    """Yield ``assemble(step)`` for the steps from ``start`` to below ``stop``, each made in a thread one step early."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="aiop-batch") as pool:
        ahead = pool.submit(assemble, start) if start < stop else None
        step = start
        while ahead is not None:
            ready, step = ahead, step + 1
            ahead = pool.submit(assemble, step) if step < stop else None
            yield ready.result()
