"""DARTS (Liu et al., ICLR 2019): a normal and a reduction cell of four nodes each, stacked as deep as a task asks.

A code is ``NORMAL/REDUCTION``. Each cell reads, without the line break,

    |sep_conv_3x3~0|sep_conv_3x3~1|+|sep_conv_3x3~0|sep_conv_3x3~1|
    +|sep_conv_3x3~1|skip_connect~0|+|skip_connect~0|dil_conv_3x3~2|

which is for each of the nodes 2 to 5 its two inputs as ``operation~source``. Source 0 is the output of the cell before
the previous one, 1 that of the previous cell, 2 to 4 are earlier nodes. A node is the sum of its inputs, the cell's
output the concatenation of its nodes. A cell that concatenates some of them only ends in their numbers: ``:3,5``.

The literal that papers print, ``Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), ...)``, and the
names of `PUBLISHED` genotypes are read as well. Networks follow the DARTS repository and, at 46 channels, RelativeNAS
(Tan et al., 2021).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from aiop.errors import suggest
from aiop.tasks.spaces.base import Form, SearchSpace, register_space
from aiop.tasks.spaces.blocks import conv_norm, conv_norm_relu, pool_and_classify, relu_conv_norm
from aiop.tasks.spaces.darts_network import AUXILIARY, NODES, write_auxiliary, write_cell
from aiop.tasks.spaces.writer import OUTPUT, OnnxWriter

if TYPE_CHECKING:
    import onnx

    from aiop.tasks.spaces.writer import WeightMode

__all__ = [
    "DARTS_V1",
    "DARTS_V2",
    "OPERATIONS",
    "PUBLISHED",
    "RELATIVE_NAS",
    "Cell",
    "Darts",
    "Edge",
    "Genotype",
]

OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)

DARTS_V1 = (
    "|sep_conv_3x3~1|sep_conv_3x3~0|+|skip_connect~0|sep_conv_3x3~1|"
    "+|skip_connect~0|sep_conv_3x3~1|+|sep_conv_3x3~0|skip_connect~2|"
    "/|max_pool_3x3~0|max_pool_3x3~1|+|skip_connect~2|max_pool_3x3~0|"
    "+|max_pool_3x3~0|skip_connect~2|+|skip_connect~2|avg_pool_3x3~0|"
)
DARTS_V2 = (
    "|sep_conv_3x3~0|sep_conv_3x3~1|+|sep_conv_3x3~0|sep_conv_3x3~1|"
    "+|sep_conv_3x3~1|skip_connect~0|+|skip_connect~0|dil_conv_3x3~2|"
    "/|max_pool_3x3~0|max_pool_3x3~1|+|skip_connect~2|max_pool_3x3~1|"
    "+|max_pool_3x3~0|skip_connect~2|+|skip_connect~2|max_pool_3x3~1|"
)
RELATIVE_NAS = (
    "|sep_conv_3x3~0|dil_conv_5x5~1|+|sep_conv_3x3~1|sep_conv_3x3~1|"
    "+|sep_conv_3x3~1|sep_conv_5x5~1|+|skip_connect~0|sep_conv_3x3~0|"
    "/|avg_pool_3x3~1|max_pool_3x3~1|+|dil_conv_5x5~1|max_pool_3x3~1|"
    "+|avg_pool_3x3~3|skip_connect~1|+|dil_conv_5x5~3|sep_conv_3x3~1|"
)
#: Name -> code of genotypes that papers report.
PUBLISHED: Mapping[str, str] = {
    "darts-v1": DARTS_V1,
    "darts-v2": DARTS_V2,
    "relative-nas": RELATIVE_NAS,
}

_LONGEST_LITERAL = 2000
_LITERAL = re.compile(
    r"Genotype\(normal=\[([^]]*)\],normal_concat=([^=]*),reduce=\[([^]]*)\],reduce_concat=([^=]*)\)"
)
_PAIR = re.compile(r"\(['\"]([a-z0-9_]{1,20})['\"],([0-9])\)")
_RANGE = re.compile(r"range\(([0-9]),([0-9])\)")
_NUMBERS = re.compile(r"[0-9](,[0-9])*")


class Edge(NamedTuple):
    """One input of a node: an operation on the output of a cell input (0, 1) or of an earlier node (2 to 4)."""

    operation: str
    source: int


@dataclass(frozen=True)
class Cell:
    """Eight edges, two for each of the nodes 2 to 5, and the nodes whose outputs are concatenated, ascending."""

    edges: tuple[Edge, ...]
    concat: tuple[int, ...] = NODES


@dataclass(frozen=True)
class Genotype:
    """The two cells of a network."""

    normal: Cell
    reduction: Cell


@dataclass(frozen=True)
class NetworkForm(Form):
    """A form with what the task asks of the body.

    ``channels`` are those of a node in the first cells, ``cells`` the number of cells. ``imagenet`` tells a stem of
    stride 8 that the first cell follows as it would a reduction, ``auxiliary`` the second classifier for training.
    """

    channels: int = 36
    cells: int = 20
    imagenet: bool = False
    auxiliary: bool = False


@register_space
class Darts(SearchSpace[Genotype]):
    """About 10^18 pairs of cells; forms for CIFAR (stem at full resolution) and ImageNet (stem at stride 8).

    Of the cells of a network those numbered ``cells // 3`` and ``2 * cells // 3`` (from 0) are reductions. Forms that
    end in ``-aux`` are networks as they are trained, with a second output ``auxiliary`` after the second reduction.
    """

    name = "darts"
    forms: ClassVar[Mapping[str, Form]] = {
        "cifar10": NetworkForm((3, 32, 32), 10),
        "cifar100": NetworkForm((3, 32, 32), 100),
        "imagenet": NetworkForm((3, 224, 224), 1000, channels=48, cells=14, imagenet=True),
        "imagenet-46": NetworkForm((3, 224, 224), 1000, channels=46, cells=14, imagenet=True),
        "search": NetworkForm((3, 32, 32), 10, channels=16, cells=8),
        "cifar10-aux": NetworkForm((3, 32, 32), 10, auxiliary=True),
        "imagenet-aux": NetworkForm(
            (3, 224, 224), 1000, channels=48, cells=14, imagenet=True, auxiliary=True
        ),
    }
    default_form = "cifar10"  # the network whose parameters papers give
    example = DARTS_V2

    def parse(self, code: str) -> Genotype:
        """See `SearchSpace.parse`."""
        if code.startswith("Genotype"):
            return self._parse_literal(code)
        cells = PUBLISHED.get(code, code).split("/")
        if len(cells) != 2:
            raise self.refuse(
                code,
                f"expected two cells joined by '/', found {len(cells)}, and none of the names "
                f"{', '.join(PUBLISHED)}",
            )
        return Genotype(
            self._parse_cell(code, "normal", cells[0]), self._parse_cell(code, "reduction", cells[1])
        )

    def format(self, architecture: Genotype) -> str:
        """See `SearchSpace.format`."""
        return f"{_format_cell(architecture.normal)}/{_format_cell(architecture.reduction)}"

    def sample(self, rng: np.random.Generator) -> str:
        """See `SearchSpace.sample`: operations are uniform, and the two sources of a node differ."""
        cells: list[Cell] = []
        for _ in range(2):
            operations = rng.integers(len(OPERATIONS), size=2 * len(NODES)).tolist()
            sources = [
                source for node in NODES for source in sorted(rng.choice(node, 2, replace=False).tolist())
            ]
            edges = zip(operations, sources, strict=True)
            cells.append(Cell(tuple(Edge(OPERATIONS[operation], source) for operation, source in edges)))
        return self.format(Genotype(*cells))

    def neighbours(self, code: str) -> list[str]:
        """See `SearchSpace.neighbours`: another operation or another source of one input of a node.

        Both inputs of a node may then have one source. Nodes that do not reach the cell's output keep theirs.
        """
        genotype = self.parse(code)
        found = [Genotype(cell, genotype.reduction) for cell in _cells_nearby(genotype.normal)]
        found += [Genotype(genotype.normal, cell) for cell in _cells_nearby(genotype.reduction)]
        return [self.format(neighbour) for neighbour in found]

    def output_shapes(self, code: str, form: str | None = None) -> dict[str, tuple[int, ...]]:
        """See `SearchSpace.output_shapes`: a network as it is trained has a second classifier."""
        shapes = super().output_shapes(code, form)
        described = self.form(form)
        assert isinstance(described, NetworkForm)
        return shapes | {AUXILIARY: shapes[OUTPUT]} if described.auxiliary else shapes

    def _parse_cell(self, code: str, which: str, text: str) -> Cell:
        text, colon, listed = text.partition(":")
        groups = text.split("+")
        if len(groups) != len(NODES):
            raise self.refuse(
                code, f"expected {len(NODES)} nodes joined by '+' in the {which} cell, found {len(groups)}"
            )
        edges: list[tuple[str, str]] = []
        for node, group in zip(NODES, groups, strict=True):
            pair = group[1:-1].split("|")
            if len(group) < 2 or group[0] != "|" or group[-1] != "|" or len(pair) != 2:
                raise self.refuse(
                    code, f"node {node} of the {which} cell must read '|operation~source|operation~source|'"
                )
            for edge in pair:
                operation, _, source = edge.partition("~")
                edges.append((operation, source))
        concat = NODES if not colon else self._parse_concat(code, which, listed)
        if colon and concat == NODES:
            raise self.refuse(
                code, f"':2,3,4,5' of the {which} cell is what a cell without a list does: leave it out"
            )
        return self._cell(code, which, edges, concat)

    def _parse_literal(self, code: str) -> Genotype:
        if len(code) > _LONGEST_LITERAL:
            raise self.refuse(code, f"a Genotype(...) has at most {_LONGEST_LITERAL} characters")
        match = _LITERAL.fullmatch(re.sub(r"\s*([][(),=])\s*", r"\1", code))
        if match is None:
            raise self.refuse(
                code,
                "a literal must read Genotype(normal=[('operation', source), ...], normal_concat=[...], "
                "reduce=[...], reduce_concat=[...])",
            )
        cells: list[Cell] = []
        for which, pairs, listed in zip(
            ("normal", "reduction"), match.group(1, 3), match.group(2, 4), strict=True
        ):
            edges = _PAIR.findall(pairs)
            if ",".join(found.group() for found in _PAIR.finditer(pairs)) != pairs:
                raise self.refuse(code, f"the {which} cell must list pairs ('operation', source)")
            span = _RANGE.fullmatch(listed)
            if span is not None:
                listed = ",".join(map(str, range(int(span[1]), int(span[2]))))
            elif listed[:1] + listed[-1:] in ("[]", "()"):
                listed = listed[1:-1]
            cells.append(self._cell(code, which, edges, self._parse_concat(code, which, listed)))
        return Genotype(*cells)

    def _parse_concat(self, code: str, which: str, listed: str) -> tuple[int, ...]:
        numbers = tuple(map(int, listed.split(","))) if _NUMBERS.fullmatch(listed) else ()
        if not numbers or any(node not in NODES for node in numbers) or sorted(set(numbers)) != list(numbers):
            raise self.refuse(
                code,
                f"the nodes that the {which} cell concatenates must be some of 2,3,4,5 in ascending order, "
                f'found "{listed[:20]}"',
            )
        return numbers

    def _cell(self, code: str, which: str, edges: list[tuple[str, str]], concat: tuple[int, ...]) -> Cell:
        if len(edges) != 2 * len(NODES):
            raise self.refuse(
                code, f"the {which} cell must have {2 * len(NODES)} operations, found {len(edges)}"
            )
        checked: list[Edge] = []
        for index, (operation, source) in enumerate(edges):
            node = NODES[index // 2]
            if operation not in OPERATIONS:
                shown = operation[:30]
                raise self.refuse(
                    code,
                    f'"{shown}" (node {node} of the {which} cell) is not an operation{suggest(shown, OPERATIONS)}',
                )
            if source not in ("0", "1", "2", "3", "4")[:node]:
                raise self.refuse(
                    code,
                    f'source "{source[:10]}" of node {node} of the {which} cell must be 0 to {node - 1}',
                )
            checked.append(Edge(operation, int(source)))
        return Cell(tuple(checked), concat)

    def _write(
        self, architecture: Genotype, name: str, form: Form, weights: WeightMode, seed: int
    ) -> onnx.ModelProto:
        assert isinstance(form, NetworkForm)
        writer = OnnxWriter(name, *form.shape, weights=weights, seed=seed)
        channels = form.channels
        if form.imagenet:
            before = conv_norm_relu(writer, writer.image, channels // 2, 3, "stem0", stride=2)
            before = conv_norm(writer, before, channels, 3, "stem1", stride=2)
            x = relu_conv_norm(writer, before, channels, 3, "stem2", stride=2)
        else:
            before = x = conv_norm(writer, writer.image, 3 * channels, 3, "stem")
        halved = form.imagenet  # whether ``before`` has twice the resolution of ``x``
        trained = x
        reductions = (form.cells // 3, 2 * form.cells // 3)
        for index in range(form.cells):
            reduces = index in reductions
            channels *= 2 if reduces else 1
            cell = architecture.reduction if reduces else architecture.normal
            y = write_cell(writer, cell, before, x, channels, halved, reduces, f"cell{index}")
            before, x, halved = x, y, reduces
            if index == reductions[1]:
                trained = x
        pool_and_classify(writer, x, form.classes)
        shapes: dict[str, tuple[int, ...]] = {OUTPUT: (1, form.classes)}
        if form.auxiliary:
            write_auxiliary(writer, trained, form.classes, form.imagenet)
            shapes[AUXILIARY] = (1, form.classes)
        return writer.finish(shapes)


def _format_cell(cell: Cell) -> str:
    texts = [f"{operation}~{source}" for operation, source in cell.edges]
    nodes = "+".join(f"|{texts[i]}|{texts[i + 1]}|" for i in range(0, len(texts), 2))
    return nodes if cell.concat == NODES else f"{nodes}:{','.join(map(str, cell.concat))}"


def _cells_nearby(cell: Cell) -> list[Cell]:
    """Cells that differ in one operation or one source of a node that the output depends on."""
    live = set(cell.concat)
    for node in reversed(NODES):
        if node in live:
            live.update(edge.source for edge in cell.edges[2 * (node - 2) : 2 * (node - 1)])
    found: list[Cell] = []
    for index, edge in enumerate(cell.edges):
        node = NODES[index // 2]
        if node not in live or (index % 2 and edge == cell.edges[index - 1]):
            continue  # of two equal inputs, changing either is the same
        others = [Edge(operation, edge.source) for operation in OPERATIONS if operation != edge.operation]
        others += [Edge(edge.operation, source) for source in range(node) if source != edge.source]
        found += [
            Cell((*cell.edges[:index], other, *cell.edges[index + 1 :]), cell.concat) for other in others
        ]
    return found
