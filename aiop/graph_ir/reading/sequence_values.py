"""What a name of a file may stand for other than a tensor: a sequence of tensors, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aiop.errors import AiopError
from aiop.graph_ir.values import Tensor

__all__ = ["Absent", "Run", "Sequence", "is_constant", "joined", "parts", "varies"]

Run = tuple[Tensor, int]
"""A tensor, and how many times in a row a sequence holds it."""


class Sequence(Tensor):
    """A sequence of tensors; ``exact`` where its length and order are known.

    It has no shape, and is neither constant nor computed: an operator that reads it as a tensor is an `AiopError`.
    """

    __slots__ = ("exact", "runs")

    def __init__(self, name: str, runs: Iterable[Run], *, exact: bool = True) -> None:
        self.name = name
        self.dtype = "sequence"
        self.leaves = ()
        self.kind = 0
        self._value = None
        self.runs = tuple(joined(runs))
        self.exact = exact

    def __getattr__(self, name: str) -> Any:
        if name in ("constant", "shape", "elements"):
            raise AiopError(f"{self.name!r} is a sequence where a tensor is needed; export the network again")
        raise AttributeError(name)

    @property
    def length(self) -> int:
        """Number of items."""
        return sum(count for _, count in self.runs)

    @property
    def items(self) -> list[Tensor]:
        """Tensors it holds, each named once."""
        return list({id(item): item for item, _ in self.runs}.values())


class Absent(Tensor):
    """An optional that holds nothing."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        self.name = name
        self.dtype = "optional"
        self.leaves = ()
        self.kind = 0
        self._value = None

    def __getattr__(self, name: str) -> Any:
        if name in ("constant", "shape", "elements"):
            raise AiopError(f"{self.name!r} is an optional that holds nothing; export the network again")
        raise AttributeError(name)


def is_constant(tensor: Tensor) -> bool:
    """Return whether what a name stands for is a constant tensor."""
    return not isinstance(tensor, Sequence | Absent) and tensor.constant


def varies(tensor: Tensor) -> bool:
    """Return whether a tensor, or one that a sequence holds, depends on the network's inputs."""
    if isinstance(tensor, Sequence):
        return any(varies(item) for item in tensor.items)
    return not isinstance(tensor, Absent) and not tensor.constant


def joined(runs: Iterable[Run]) -> Iterator[Run]:
    """Yield runs with equal neighbours counted together and empty ones left out."""
    last: Run | None = None
    for item, count in runs:
        if not count:
            continue
        if last is not None and last[0] is item:
            last = (item, last[1] + count)
            continue
        if last is not None:
            yield last
        last = (item, count)
    if last is not None:
        yield last


def parts(runs: tuple[Run, ...], at: int) -> tuple[list[Run], list[Run]]:
    """Return the runs before and from a position."""
    before: list[Run] = []
    for index, (item, count) in enumerate(runs):
        if at < count:
            return [*before, (item, at)], [(item, count - at), *runs[index + 1 :]]
        before.append((item, count))
        at -= count
    return before, []
