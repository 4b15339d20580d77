"""Which runs of operations repeat, so that a picture draws their block once.

The operations, in topological order, become a sequence of tokens: operator, settings and shapes. A block of ``p``
operations that stands ``n`` times in a row shows as tokens that equal those ``p`` further on; it is a repeat when
the copies are also wired alike.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from aiop.graph_ir.graph import Operation
from aiop.graph_ir.picture.wiring import OUTPUT, Tensor, Wiring

__all__ = ["Item", "Likeness", "Repeat", "collapse", "drawn"]

_LEAST_SAVED = 4  # operations not drawn thanks to a repeat; fewer are not worth a frame
_MOST_NESTED = 3
_LONGEST_BLOCK = 2048
_MOST_PHASES = 12  # places tried to begin the first block at
_MOST_STEPS = 400_000  # comparisons of two operations; reached by graphs of thousands of look-alikes only

_MERGING = frozenset({"Add", "Mul", "Max", "Min", "Concat"})
"""Operators that may read the results of copies in parallel: no one of their operands has a role of its own."""
_SEPARATOR = re.compile("[/.:]")  # between the modules in the name of an operation


class Likeness(IntEnum):
    """How alike copies of a block must be: the same, but for channel counts, but for all sizes."""

    EXACT = 0
    CHANNELS_DIFFER = 1
    SIZES_DIFFER = 2


@dataclass(frozen=True, slots=True)
class Repeat:
    """``count`` copies of ``period`` operations from position ``start``; ``items`` is what is in the first.

    ``parallel`` says that no copy reads what another computes.
    """

    start: int
    period: int
    count: int
    parallel: bool
    items: tuple[Item, ...]

    @property
    def stop(self) -> int:
        """Position behind the last copy."""
        return self.start + self.period * self.count


Item = int | Repeat
"""An operation by its position, or a repeated block."""


def drawn(items: tuple[Item, ...]) -> int:
    """Return how many operations are drawn of ``items``."""
    return sum(drawn(item.items) if isinstance(item, Repeat) else 1 for item in items)


def collapse(wiring: Wiring, likeness: Likeness = Likeness.EXACT) -> tuple[Item, ...]:
    """Return all operations in order, runs of like blocks as `Repeat`; nested up to three deep."""
    return _Search(wiring, likeness).items(0, len(wiring.operations), 0)


class _Search:
    def __init__(self, wiring: Wiring, likeness: Likeness) -> None:
        self._wiring = wiring
        self._exact = likeness is Likeness.EXACT
        numbers: dict[Hashable, int] = {}
        self._tokens: NDArray[np.int64] = np.array(
            [
                numbers.setdefault(_token(wiring, position, likeness), len(numbers))
                for position in range(len(wiring.operations))
            ],
            dtype=np.int64,
        )
        self._width = _live_tensors(wiring)
        self._rough: dict[int, tuple[int, bool, int, bool]] = {}
        self._steps = 0

    def items(self, start: int, stop: int, depth: int) -> tuple[Item, ...]:
        """Collapse the operations from ``start`` up to ``stop``."""
        found = sorted(self._repeats(start, stop, depth), key=lambda repeat: repeat.start)
        items: list[Item] = []
        for repeat in found:
            items += range(start, repeat.start)
            items.append(repeat)
            start = repeat.stop
        return (*items, *range(start, stop))

    def _repeats(self, start: int, stop: int, depth: int) -> Iterator[Repeat]:
        """Yield repeats that do not overlap, those that save most first."""
        if depth == _MOST_NESTED:
            return
        queue = [(-_saved(run), run) for run in self._runs(start, stop)]
        heapq.heapify(queue)
        free = np.ones(stop - start, dtype=bool)
        while queue and self._steps < _MOST_STEPS:
            _, (period, first, last) = heapq.heappop(queue)
            parts = [(period, *part) for part in _true_stretches(free[first - start : last - start], first)]
            if parts == [(period, first, last)]:
                repeat = self._best_phase(period, first, last)
                if repeat is None:
                    continue
                free[repeat.start - start : repeat.stop - start] = False
                inner = self.items(repeat.start, repeat.start + period, depth + 1)
                yield Repeat(repeat.start, period, repeat.count, repeat.parallel, inner)
                parts = [(period, first, repeat.start), (period, repeat.stop, last)]
            for part in parts:
                if _saved(part) >= _LEAST_SAVED:
                    heapq.heappush(queue, (-_saved(part), part))

    def _runs(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield (period, first, last): from ``first`` up to ``last`` every token equals that a period further on."""
        tokens = self._tokens[start:stop]
        for period in range(1, min(len(tokens) // 2, _LONGEST_BLOCK) + 1):
            for first, last in _true_stretches(tokens[:-period] == tokens[period:], start, period):
                if _saved((period, first, last + period)) >= _LEAST_SAVED:
                    yield period, first, last + period

    def _best_phase(self, period: int, first: int, last: int) -> Repeat | None:
        """Return the repeat of a run that begins where a block of the network does.

        That is where fewest tensors cross, where one of them is read twice (as the input of a residual block is),
        where the names of operations say that another module begins, and before an operation with MACs.
        """
        most = (last - first) // period
        phases = range(first, min(first + period, last - 2 * period + 1))
        self._steps += len(phases)
        best: Repeat | None = None
        ranked = sorted((self._roughness(phase), (last - phase) // period < most, phase) for phase in phases)
        for _, _, phase in ranked[:_MOST_PHASES]:
            count, parallel = self._copies(phase, period, (last - phase) // period)
            if period * (count - 1) < _LEAST_SAVED:
                continue
            if best is None or count > best.count + 1:
                best = Repeat(phase, period, count, parallel, ())
            if best.count >= most - 1:
                break
        return best

    def _roughness(self, cut: int) -> tuple[int, bool, int, bool]:
        """Order of preference of a place to begin the first block at, the best smallest."""
        known = self._rough.get(cut)
        if known is not None:
            return known
        operations, readers = self._wiring.operations, self._wiring.readers
        source, output = max(self._wiring.sources[cut], default=(cut, 0))
        forked = len({reader for index, reader in readers[source] if index == output and reader >= cut}) > 1
        before, here = (_SEPARATOR.split(operations[at].name) for at in (max(cut - 1, 0), cut))
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, here, strict=False)))
        result = self._width[cut], not forked, shared, not operations[cut].macs
        return self._rough.setdefault(cut, result)

    def _copies(self, start: int, period: int, most: int) -> tuple[int, bool]:
        """Return how many of ``most`` copies from ``start`` are wired alike, and whether they are in parallel."""
        count, parallel = self._equal_copies(start, period, most)
        if self._exact or count == most:
            return count, parallel
        return max((count, parallel), (self._loose_copies(start, period, most), False))

    def _equal_copies(self, start: int, period: int, most: int) -> tuple[int, bool]:
        handed: dict[
            tuple[int, int], Tensor
        ] = {}  # what the copy before hands over -> what the first copy reads
        for copy in range(1, most):
            if not self._wired_alike(start, period, copy, handed):
                most = copy
                break
            if handed and self._leaves(start + (copy - 1) * period, period):
                most = copy
                break
        if most < 2:
            return most, False
        if handed:
            return most, False
        return (most, True) if self._same_readers(start, period, most) else (1, False)

    def _wired_alike(self, start: int, period: int, copy: int, handed: dict[tuple[int, int], Tensor]) -> bool:
        sources, base = self._wiring.sources, start + copy * period
        for offset in range(period):
            self._steps += 1
            firsts, heres = sources[start + offset], sources[base + offset]
            if len(firsts) != len(heres):
                return False
            for first, here in zip(firsts, heres, strict=True):
                back = here[0] - base
                if back >= 0:  # inside the copy
                    alike = first == (start + back, here[1])
                elif here[0] < start:  # from before all copies, as a mask that every block reads
                    alike = first == here
                elif back >= -period:  # from the copy before
                    alike = first[0] < start and handed.setdefault((back, here[1]), first) == first
                else:
                    alike = False
                if not alike:
                    return False
        return True

    def _leaves(self, start: int, period: int) -> bool:
        """Whether anything but this copy and the next reads what this copy computes."""
        end = start + 2 * period
        return any(
            reader >= end
            for position in range(start, start + period)
            for _, reader in self._wiring.readers[position]
        )

    def _same_readers(self, start: int, period: int, count: int) -> bool:
        """Whether all copies are read by the same operations, to which their order means nothing or little."""
        stop = start + period * count
        for offset in range(period):
            outside = [
                {pair for pair in self._wiring.readers[position] if not start <= pair[1] < stop}
                for position in range(start + offset, stop, period)
            ]
            self._steps += count
            if any(pairs != outside[0] for pairs in outside):
                return False
            if any(self._wiring.operations[reader].op not in _MERGING for _, reader in outside[0]):
                return False
        return True

    def _loose_copies(self, start: int, period: int, most: int) -> int:
        """Return how many copies have the same wiring inside, each reading something of the one before.

        What else they read of earlier ones, and who reads them, may differ, as in a dense block.
        """
        sources = self._wiring.sources
        for copy in range(1, most):
            base, follows = start + copy * period, False
            for offset in range(period):
                self._steps += 1
                first = {(at - start, index) for at, index in sources[start + offset] if at >= start}
                here = {(at - base, index) for at, index in sources[base + offset] if at >= base}
                if first != here:
                    return copy
                follows |= any(base - period <= at < base for at, _ in sources[base + offset])
            if not follows:
                return copy
        return most


def _saved(run: tuple[int, int, int]) -> int:
    """Operations that are not drawn when the run (period, first, last) is collapsed."""
    period, first, last = run
    return ((last - first) // period - 1) * period


def _true_stretches(flags: NDArray[np.bool_], offset: int, least: int = 1) -> list[tuple[int, int]]:
    """Return (first, last + 1) of every stretch of at least ``least`` true values, ``offset`` added to both."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    long = ends - starts >= least
    return [(int(a) + offset, int(b) + offset) for a, b in zip(starts[long], ends[long], strict=True)]


def _live_tensors(wiring: Wiring) -> list[int]:
    """Return, for each position, how many tensors from before it are read at it or later."""
    change = [0] * (len(wiring.operations) + 2)
    for position, readers in enumerate(wiring.readers):
        last: dict[int, int] = {}
        for index, reader in readers:
            last[index] = max(reader, last.get(index, 0))
        for reader in last.values():
            change[position + 1] += 1
            change[reader + 1] -= 1
    return [int(count) for count in np.cumsum(change)[: len(wiring.operations)]]


def _token(wiring: Wiring, position: int, likeness: Likeness) -> Hashable:
    operation = wiring.operations[position]
    if operation.op in ("Input", OUTPUT):
        return position
    form = (operation.op, operation.onnx_type, operation.kernel, operation.stride, operation.dilation)
    if likeness is Likeness.SIZES_DIFFER:
        return form
    if likeness is Likeness.CHANNELS_DIFFER:
        return (*form, _grouped(operation), *map(_grid, wiring.shapes(position)))
    tensors = [wiring.tensors[name] for name in (*operation.inputs, *operation.outputs)]
    return (
        *form, operation.padding, operation.groups, operation.bias, operation.weights, operation.macs,
        repr(operation.attributes), len(operation.inputs), *tensors,
    )  # fmt: skip


def _grouped(operation: Operation) -> bool:
    return operation.groups > 1 and operation.op != "DepthwiseConv"


def _grid(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sizes of a feature map without its channels, which come second or last; else the rank alone."""
    if len(shape) != 4:
        return (len(shape),)
    return shape[1:3] if shape[1] == shape[2] != shape[3] else shape[2:]
