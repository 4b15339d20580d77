"""NAS-Bench-101 (Ying et al., ICML 2019): a cell of up to seven vertices and nine edges, repeated nine times.

A code such as ``110010010000010101101/00201`` gives the strict upper triangle of the cell's adjacency matrix
row by row, then one digit for each interior vertex: 0 is a 3x3 convolution, 1 a 1x1 convolution, 2 a 3x3 max
pooling. The first vertex is the cell's input, the last one its output; ``1/`` is the cell without interior
vertices. Vertices off every path from input to output may be written; the network does not hold them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from aiop.tasks.spaces.base import Form, SearchSpace, register_space
from aiop.tasks.spaces.blocks import conv_norm_relu, pool_and_classify
from aiop.tasks.spaces.writer import Feature, OnnxWriter

if TYPE_CHECKING:
    import onnx

    from aiop.tasks.spaces.writer import WeightMode

__all__ = ["Cell", "NasBench101", "parameters", "vertex_channels"]

STEM_CHANNELS = 128
STACK_CHANNELS = (128, 256, 512)
CELLS_PER_STACK = 3
MOST_VERTICES = 7
MOST_EDGES = 9
CONV3, CONV1, POOL3 = "012"
OPERATIONS = (CONV3, CONV1, POOL3)

Edge = tuple[int, int]  # source < target
#: For each vertex the vertices it reads, ascending.
Sources = list[list[int]]


@dataclass(frozen=True)
class Cell:
    """A cell as its code writes it: ``adjacency`` has n (n - 1) / 2 bits, ``operations`` n - 2 digits."""

    adjacency: str
    operations: str

    @property
    def vertices(self) -> int:
        """Vertices as written, input and output included."""
        return len(self.operations) + 2

    @property
    def edges(self) -> list[Edge]:
        """Edges ``(source, target)`` as written, by source."""
        return [pair for pair, bit in zip(_pairs(self.vertices), self.adjacency, strict=True) if bit == "1"]

    @property
    def sources(self) -> Sources:
        """For each vertex the vertices it reads, ascending."""
        found: Sources = [[] for _ in range(self.vertices)]
        for source, target in self.edges:
            found[target].append(source)
        return found

    def pruned(self) -> Cell | None:
        """The cell without vertices off every path from input to output; None where there is no path."""
        edges = self.edges
        last = self.vertices - 1
        ahead, back = {0}, {last}
        for source, target in edges:  # by source, so that what reaches the source is known
            if source in ahead:
                ahead.add(target)
        for source, target in reversed(edges):
            if target in back:
                back.add(source)
        if last not in ahead:
            return None
        kept = sorted(ahead & back)
        if len(kept) == self.vertices:
            return self
        return _cell(kept, edges, self.operations)

    def reordered(self, order: Sequence[int]) -> Cell | None:
        """The cell with interior vertices ``order`` (a permutation of 1..n-2); None where an edge turns back."""
        place = [0] * self.vertices
        for new, old in enumerate((0, *order, self.vertices - 1)):
            place[old] = new
        edges = [(place[source], place[target]) for source, target in self.edges]
        if any(source > target for source, target in edges):
            return None
        return _cell(range(self.vertices), edges, "".join(self.operations[old - 1] for old in order))


@register_space
class NasBench101(SearchSpace[Cell]):
    """423,624 cells up to isomorphism; the forms differ in the number of classes."""

    name = "nas-bench-101"
    forms: ClassVar[Mapping[str, Form]] = {
        "cifar10": Form((3, 32, 32), 10),
        "cifar100": Form((3, 32, 32), 100),
    }
    default_form = "cifar10"  # the network that the benchmark trained
    example = "110010010000010101101/00201"

    def parse(self, code: str) -> Cell:
        """See `SearchSpace.parse`."""
        adjacency, slash, operations = code.partition("/")
        if not slash:
            raise self.refuse(code, "expected the bits of the adjacency matrix, '/' and the operations")
        vertices = _VERTICES.get(len(adjacency))
        if vertices is None:
            counts = ", ".join(map(str, _VERTICES))
            raise self.refuse(
                code, f"the adjacency matrix has {len(adjacency)} bits, must have one of {counts}"
            )
        for bit in adjacency:
            if bit not in "01":
                raise self.refuse(code, f'"{bit}" in the adjacency matrix is neither 0 nor 1')
        if len(operations) != vertices - 2:
            raise self.refuse(
                code, f"{vertices} vertices need {vertices - 2} operations, found {len(operations)}"
            )
        for operation in operations:
            if operation not in OPERATIONS:
                raise self.refuse(code, f'"{operation}" is not an operation (0, 1 or 2)')
        if adjacency.count("1") > MOST_EDGES:
            raise self.refuse(
                code, f"the cell has {adjacency.count('1')} edges, must have at most {MOST_EDGES}"
            )
        cell = Cell(adjacency, operations)
        if cell.pruned() is None:
            raise self.refuse(code, "no path leads from the input to the output")
        return cell

    def format(self, architecture: Cell) -> str:
        """See `SearchSpace.format`."""
        return f"{architecture.adjacency}/{architecture.operations}"

    def sample(self, rng: np.random.Generator) -> str:
        """See `SearchSpace.sample`: uniform over the codes in which every vertex is on a path.

        The benchmark enumerated these and kept one of each class of isomorphic ones. Drawing the bits of a matrix
        and pruning, as some searches do, gives cells of two to four vertices in three cases of four.
        """
        sizes = [len(_matrices(n)) * len(OPERATIONS) ** (n - 2) for n in _VERTICES.values()]
        index, vertices = int(rng.integers(sum(sizes))), 2
        while index >= sizes[vertices - 2]:
            index -= sizes[vertices - 2]
            vertices += 1
        matrix, index = divmod(index, len(OPERATIONS) ** (vertices - 2))
        adjacency = f"{_matrices(vertices)[matrix]:0{len(_pairs(vertices))}b}"
        operations = np.base_repr(index, len(OPERATIONS)).zfill(vertices - 2) if vertices > 2 else ""
        return f"{adjacency}/{operations}"

    def neighbours(self, code: str) -> list[str]:
        """See `SearchSpace.neighbours`: one edge more or less, another operation, one vertex more or less.

        Mutations are those of the pruned cell and are written pruned. None is isomorphic to it, as each changes the
        number of edges or the operations. A new vertex has one source and one target, right behind it.
        """
        cell = self.parse(code).pruned()
        assert cell is not None
        few = (other for other in _mutations(cell) if other.adjacency.count("1") <= MOST_EDGES)
        found = (other.pruned() for other in few)
        return list(dict.fromkeys(self.format(other) for other in found if other is not None))

    def _write(
        self, architecture: Cell, name: str, form: Form, weights: WeightMode, seed: int
    ) -> onnx.ModelProto:
        cell = architecture.pruned()
        assert cell is not None
        sources = cell.sources
        writer = OnnxWriter(name, *form.shape, weights=weights, seed=seed)
        x = conv_norm_relu(writer, writer.image, STEM_CHANNELS, 3, "stem")
        for stack, channels in enumerate(STACK_CHANNELS):
            if stack:
                x = writer.max_pool(x, 2, f"reduce{stack}", stride=2)
            widths = vertex_channels(sources, channels)
            for index in range(CELLS_PER_STACK):
                x = _write_cell(writer, x, sources, cell.operations, widths, f"stack{stack}.cell{index}")
        pool_and_classify(writer, x, form.classes)
        return writer.finish((1, form.classes))


def vertex_channels(sources: Sources, channels: int) -> list[int]:
    """Channels that each vertex writes in a cell of ``channels`` outputs; the entry of the input is 0.

    The vertices that the output concatenates share its channels evenly, the first ones taking one more where
    these do not divide. Every other vertex has as many as the widest vertex that reads it.
    """
    last = len(sources) - 1
    joined = [source for source in sources[last] if source]
    widths = [0] * last + [channels]
    if joined:
        share, rest = divmod(channels, len(joined))
        for place, vertex in enumerate(joined):
            widths[vertex] = share + (place < rest)
    for target in range(last - 1, 0, -1):
        for source in sources[target]:
            if source and source not in joined:
                widths[source] = max(widths[source], widths[target])
    return widths


def parameters(cell: Cell, classes: int = 10) -> int:
    """Trainable parameters of the network of a pruned ``cell``, in closed form.

    The network itself says the same, but takes hundreds of times as long to build and to count.
    """
    sources = cell.sources
    total = STEM_CHANNELS * (3 * 9 + 2) + (STACK_CHANNELS[-1] + 1) * classes
    before = STEM_CHANNELS
    for channels in STACK_CHANNELS:
        widths = vertex_channels(sources, channels)
        inputs = before + (CELLS_PER_STACK - 1) * channels  # channels that the stack's cells read, summed
        for reads, width in zip(sources, widths, strict=True):
            if reads and not reads[0]:
                total += width * (inputs + 2 * CELLS_PER_STACK)
        for operation, width in zip(cell.operations, widths[1:-1], strict=True):
            if operation != POOL3:
                total += CELLS_PER_STACK * width * ((9 if operation == CONV3 else 1) * width + 2)
        before = channels
    return total


def _write_cell(
    writer: OnnxWriter, x: Feature, sources: Sources, operations: str, widths: list[int], name: str
) -> Feature:
    """One cell: a vertex adds up what it reads, cut to its channels; the output joins what it reads."""
    last = len(sources) - 1
    written = [x]
    for vertex in range(1, last):
        path, width = f"{name}.vertex{vertex}", widths[vertex]
        terms = [
            writer.first_channels(written[source], width, f"{path}.from{source}")
            for source in sources[vertex]
            if source
        ]
        if not sources[vertex][0]:
            terms.append(conv_norm_relu(writer, x, width, 1, path + ".input"))
        y = writer.sum(terms, path + ".add")
        operation = operations[vertex - 1]
        if operation == POOL3:
            y = writer.max_pool(y, 3, path + ".pool", padding=1)
        else:
            y = conv_norm_relu(writer, y, width, 3 if operation == CONV3 else 1, path)
        written.append(y)
    joined = [written[source] for source in sources[last] if source]
    terms = [writer.concat(joined, name + ".concat") if len(joined) > 1 else joined[0]] if joined else []
    if not sources[last][0]:
        terms.append(conv_norm_relu(writer, x, widths[last], 1, name + ".input"))
    return writer.sum(terms, name + ".add")


def _mutations(cell: Cell) -> Iterator[Cell]:
    """Cells one mutation away from a pruned one, some of them without a path or with too many edges."""
    edges, operations, vertices = cell.edges, cell.operations, cell.vertices
    for pair in _pairs(vertices):
        flipped = [edge for edge in edges if edge != pair] if pair in edges else [*edges, pair]
        yield _cell(range(vertices), flipped, operations)
    for index, operation in enumerate(operations):
        for other in OPERATIONS:
            if other != operation:
                yield Cell(cell.adjacency, operations[:index] + other + operations[index + 1 :])
    for vertex in range(1, vertices - 1):
        yield _cell([other for other in range(vertices) if other != vertex], edges, operations)
    if vertices == MOST_VERTICES:
        return
    for source, target in _pairs(vertices):
        moved = [(i + (i >= target), j + (j >= target)) for i, j in edges]
        grown = [*moved, (source, target), (target, target + 1)]
        for operation in OPERATIONS:
            digits = operations[: target - 1] + operation + operations[target - 1 :]
            yield _cell(range(vertices + 1), grown, digits)


def _cell(kept: Sequence[int], edges: Iterable[Edge], operations: str) -> Cell:
    """The cell of the vertices ``kept`` (ascending, the first and the last among them) and edges between them."""
    present = set(edges)
    bits = ["01"[(kept[i], kept[j]) in present] for i, j in _pairs(len(kept))]
    return Cell("".join(bits), "".join(operations[vertex - 1] for vertex in kept[1:-1]))


@cache
def _pairs(vertices: int) -> tuple[Edge, ...]:
    """Every possible edge of a cell, in the order of the code's bits."""
    return tuple((i, j) for i in range(vertices) for j in range(i + 1, vertices))


#: Number of bits of a code -> number of vertices.
_VERTICES = {len(_pairs(vertices)): vertices for vertices in range(2, MOST_VERTICES + 1)}


@cache
def _matrices(vertices: int) -> NDArray[np.int64]:
    """Adjacency matrices of pruned cells as numbers, ``(m,)``: the code's bits, the first one highest.

    A vertex is on a path exactly where it, or else it is the input, has a source, and, or else it is the output,
    a target: edges lead from lower to higher vertices, so that following them ends at the input and the output.
    """
    pairs = _pairs(vertices)
    matrices = np.arange(1 << len(pairs))
    for end in (0, 1):
        for vertex in range(vertices - 1):
            mask = sum(1 << (len(pairs) - 1 - k) for k, pair in enumerate(pairs) if pair[end] == vertex + end)
            matrices = matrices[matrices & mask != 0]
    return matrices[np.bitwise_count(matrices) <= MOST_EDGES]
