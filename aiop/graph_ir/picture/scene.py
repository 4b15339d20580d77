"""What a picture shows: boxes of operations, frames around repeated blocks, and what connects them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest

from aiop.graph_ir.picture import labels
from aiop.graph_ir.picture.labels import Row
from aiop.graph_ir.picture.repeats import Item, Repeat
from aiop.graph_ir.picture.wiring import OUTPUT, Tensor, Wiring

__all__ = ["MOST_STACKED", "Net", "Node", "Panel", "build", "build_groups"]

MOST_STACKED = 8
"""Operations in one box."""
_NOT_STACKED = frozenset(
    {
        "Input", OUTPUT, "Concat", "Split", "MaxPool", "AvgPool", "GlobalAvgPool", "GlobalMaxPool", "Resize",
        "DepthToSpace", "SpaceToDepth", "Control", "Unknown", "ReduceMean", "ReduceSum", "ReduceMax",
    }
)  # fmt: skip
"""Operators that get a box of their own even where they only continue what one operation computes."""


@dataclass(slots=True)
class Node:
    """Something that stands in a picture.

    ``kind`` is ``box`` (operations), ``end`` (an input or output of the network), ``frame`` (a repeated block, drawn
    in ``panel``) or ``port`` (where a tensor enters or leaves the panel of a frame). ``share`` is its part of the MACs
    of the network, all copies together, ``alike`` whether all copies have the shapes that are drawn. ``ports_in`` and
    ``ports_out`` are the ports of the tensors that enter and leave a frame, as nodes of its panel.
    """

    kind: str
    rows: tuple[Row, ...] = ()
    share: float = 0.0
    alike: bool = True
    panel: Panel | None = None
    ports_in: dict[Tensor, int] = field(default_factory=dict)
    ports_out: dict[Tensor, int] = field(default_factory=dict)


@dataclass(slots=True)
class Net:
    """A tensor drawn from one node to all that read it; the keys name ports where an end is a frame."""

    source: int
    key: Tensor
    targets: list[tuple[int, Tensor]]  # every pair once
    tooltip: str


@dataclass(slots=True)
class Panel:
    """Nodes, in an order in which no net points back, and nets; ``entries`` and ``exits`` are the `port` nodes."""

    nodes: list[Node] = field(default_factory=list)
    nets: list[Net] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)

    @property
    def alike(self) -> bool:
        """Whether every frame shows the shapes of all its copies."""
        return all(node.alike and (node.panel is None or node.panel.alike) for node in self.nodes)

    @property
    def boxes(self) -> int:
        """Number of boxes, those inside frames included."""
        return sum(node.panel.boxes if node.panel else node.kind != "port" for node in self.nodes)


def build(wiring: Wiring, items: Sequence[Item], exact: bool, total_macs: int) -> Panel:
    """Return the picture of ``items``, operations and repeats; ``exact`` where all copies of a block are the same."""
    return _Builder(wiring, exact, total_macs).panel(items, 0, len(wiring.operations), {}, {}, (0,))


def build_groups(wiring: Wiring, cuts: Sequence[int], total_macs: int) -> Panel:
    """Return a picture of one box per group of consecutive operations; group ``i`` is from cut ``i`` to the next."""
    builder = _Builder(wiring, True, total_macs)
    groups = [range(start, stop) for start, stop in pairwise(cuts)]
    panel = Panel()
    owner: dict[int, int] = {}
    for group in groups:
        owner.update(dict.fromkeys(group, len(panel.nodes)))
        rows, macs = labels.group_rows(wiring, group, total_macs)
        panel.nodes.append(Node("box", rows, macs / total_macs if total_macs else 0.0))
    for group in groups:
        node = owner[group[0]]
        targets = dict.fromkeys(owner[reader] for position in group for _, reader in wiring.readers[position])
        targets.pop(node, None)
        if targets:
            key = (group[0], 0)
            panel.nets.append(
                Net(node, key, [(target, key) for target in targets], builder.group_tooltip(group))
            )
    return panel


class _Builder:
    def __init__(self, wiring: Wiring, exact: bool, total_macs: int) -> None:
        self._wiring = wiring
        self._exact = exact
        self._total = total_macs

    def panel(
        self,
        items: Sequence[Item],
        start: int,
        stop: int,
        entries: dict[Tensor, list[int]],
        exits: dict[Tensor, None],
        shifts: tuple[int, ...],
    ) -> Panel:
        """Return what is drawn of the positions from ``start`` up to ``stop``.

        ``entries`` has the tensors from outside with the positions that read them, ``exits`` those read outside.
        The network has what is drawn at these positions plus each of ``shifts``.
        """
        panel = Panel()
        owner: dict[int, int] = {}
        frames: dict[int, Repeat] = {}
        entry_nodes: dict[Tensor, int] = {}
        for tensor in entries:
            entry_nodes[tensor] = len(panel.nodes)
            panel.entries.append(len(panel.nodes))
            panel.nodes.append(Node("port"))
        for item in self._stacked(items):
            index = len(panel.nodes)
            if isinstance(item, Repeat):
                frames[index] = item
                owner.update(dict.fromkeys(range(item.start, item.stop), index))
                panel.nodes.append(self._frame(item, shifts))
            else:
                owner.update(dict.fromkeys(item, index))
                panel.nodes.append(self._box(item, shifts))
        nets: dict[tuple[int, Tensor], dict[tuple[int, Tensor], None]] = {}

        def connect(tensor: Tensor, node: int, key: Tensor) -> None:
            if start <= tensor[0] < stop:
                source = owner[tensor[0]]
                repeat = frames.get(source)
                at = repeat.start + (tensor[0] - repeat.start) % repeat.period if repeat else tensor[0]
                out = (at, tensor[1])
            else:
                source, out = entry_nodes[tensor], tensor
            if source != node:
                nets.setdefault((source, out), {})[node, key] = None

        for position, node in owner.items():
            if node not in frames:
                for tensor in self._wiring.sources[position]:
                    if start <= tensor[0] < stop and owner[tensor[0]] != node:
                        connect(tensor, node, tensor)
        for node in frames:
            for tensor in panel.nodes[node].ports_in:
                if start <= tensor[0] < stop:
                    connect(tensor, node, tensor)
        for tensor, positions in entries.items():
            for position in positions:
                node = owner[position]
                if node not in frames or tensor in panel.nodes[node].ports_in:
                    connect(tensor, node, tensor)
        for tensor in exits:
            panel.exits.append(len(panel.nodes))
            panel.nodes.append(Node("port"))
            connect(tensor, panel.exits[-1], tensor)
        panel.nets = [
            Net(source, out, list(targets), self._tensor_tooltip(out))
            for (source, out), targets in nets.items()
        ]
        return panel

    def _frame(self, repeat: Repeat, shifts: tuple[int, ...]) -> Node:
        """Return the frame of a repeat, its ports named by the tensors outside and by those of the first copy."""
        begin, end, period = repeat.start, repeat.stop, repeat.period
        entries: dict[Tensor, list[int]] = {}
        exits: dict[Tensor, None] = {}
        # Where copies are the same, all but what the first reads comes from the copy before.
        for position in range(begin, begin + period if self._exact else end):
            for tensor in self._wiring.sources[position]:
                if tensor[0] < begin:
                    readers = entries.setdefault(tensor, [])
                    at = begin + (position - begin) % period
                    if at not in readers:
                        readers.append(at)
        for position in range(begin, end):
            for index, reader in self._wiring.readers[position]:
                if reader >= end:
                    exits[begin + (position - begin) % period, index] = None
        copies = tuple(shift + copy * period for shift in shifts for copy in range(repeat.count))
        panel = self.panel(repeat.items, begin, begin + period, entries, exits, copies)
        share = self._share(range(begin, end), shifts)
        alike = self._exact or all(
            self._wiring.shapes(position) == self._wiring.shapes(begin + (position - begin) % period)
            for position in range(begin, end)
        )
        return Node(
            "frame",
            labels.frame_rows(self._wiring, repeat, alike, share),
            share,
            alike,
            panel,
            dict(zip(entries, panel.entries, strict=True)),
            dict(zip(exits, panel.exits, strict=True)),
        )

    def _box(self, positions: tuple[int, ...], shifts: tuple[int, ...]) -> Node:
        rows: list[Row] = []
        for position, after in zip_longest(positions, positions[1:]):
            copies = [self._wiring.operations[position + shift].macs for shift in shifts]
            changes = after is None or self._wiring.shapes(after) != self._wiring.shapes(position)
            rows += labels.rows(
                self._wiring, position, copies, self._total, position == positions[0], changes
            )
        ends = self._wiring.operations[positions[0]].op in ("Input", OUTPUT)
        return Node("end" if ends else "box", tuple(rows), self._share(positions, shifts))

    def _share(self, positions: Iterable[int], shifts: tuple[int, ...]) -> float:
        operations = self._wiring.operations
        macs = sum(operations[position + shift].macs for position in positions for shift in shifts)
        return macs / self._total if self._total else 0.0

    def _stacked(self, items: Sequence[Item]) -> list[tuple[int, ...] | Repeat]:
        """Put what only continues one operation (its activation, its norm) into the box of that operation.

        The boxes come in the order of their first operations. That is topological: only the first of a box reads
        other boxes, and they read only its last.
        """
        single = {item for item in items if isinstance(item, int)}
        box_of: dict[int, list[int]] = {}
        boxes: list[list[int] | Repeat] = []
        for item in items:
            if isinstance(item, Repeat):
                boxes.append(item)
                continue
            box = box_of.get(self._continues(item, single))
            if box is None or len(box) == MOST_STACKED:
                box = []
                boxes.append(box)
            box.append(item)
            box_of[item] = box
        return [box if isinstance(box, Repeat) else tuple(box) for box in boxes]

    def _continues(self, position: int, single: set[int]) -> int:
        """Return the operation that ``position`` only continues, or -1."""
        operation, sources = self._wiring.operations[position], set(self._wiring.sources[position])
        if operation.macs or operation.op in _NOT_STACKED or len(sources) != 1:
            return -1
        ((source, _),) = sources
        before = self._wiring.operations[source]
        if source not in single or before.op == "Input" or len(before.outputs) > 1:
            return -1
        return source if len(self._wiring.readers[source]) == 1 else -1

    def _tensor_tooltip(self, tensor: Tensor) -> str:
        name = self._wiring.tensor_name(tensor)
        return labels.tensor(name, self._wiring.tensors[name])

    def group_tooltip(self, group: Iterable[int]) -> str:
        """Return how many tensors leave a group."""
        inside = set(group)
        names = [
            (position, index)
            for position in inside
            for index in {index for index, reader in self._wiring.readers[position] if reader not in inside}
        ]
        return self._tensor_tooltip(names[0]) if len(names) == 1 else f"{len(names)} tensors"
