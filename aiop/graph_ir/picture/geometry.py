"""Sizes, places and paths of everything in a picture, in pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from aiop.graph_ir.picture.labels import Row
from aiop.graph_ir.picture.layering import Layers, order
from aiop.graph_ir.picture.placement import place
from aiop.graph_ir.picture.scene import Node, Panel
from aiop.graph_ir.picture.text import width

__all__ = [
    "FONT",
    "FRAME_PAD",
    "FRAME_TITLE",
    "PAD_X",
    "PAD_Y",
    "ROW",
    "Cut",
    "Drawn",
    "Path",
    "Placed",
    "arrange",
    "font_size",
]

FONT = 12.0
ROW = 16.0
PAD_X, PAD_Y = 10.0, 5.0
_LEAST_WIDTH = 84.0
_BETWEEN = {(False, False): 26.0, (False, True): 16.0, (True, False): 16.0, (True, True): 11.0}
"""Free space between neighbours that are boxes (False) or lanes (True)."""
_GAP, _MOST_GAP = 26.0, 90.0
_PORTS_APART = 12.0
FRAME_PAD, FRAME_TITLE = 16.0, 14.0


_Bounds = tuple[list[float], list[float]]
"""Where each layer begins and ends."""


@dataclass(slots=True)
class Placed:
    """A node with its left upper corner and its size; ``inner`` is what is in a frame, from the same origin.

    ``title`` is where the text of a frame begins.
    """

    node: Node
    x: float
    y: float
    width: float
    height: float
    inner: Drawn | None = None
    title: float = 0.0

    def moved(self, right: float, down: float) -> Placed:
        """Return the same at another place."""
        return replace(self, x=self.x + right, y=self.y + down)


@dataclass(slots=True)
class Path:
    """An edge: points (x, y) with vertical tangents where it bends; ``arrow`` where it ends at a box.

    A ``lead`` goes from the foot of a column to the head of the next, by right angles.
    """

    points: list[tuple[float, float]]
    arrow: bool
    tooltip: str
    lead: bool = False

    def moved(self, right: float, down: float) -> Path:
        """Return the same at another place."""
        return replace(self, points=[(x + right, y + down) for x, y in self.points])


@dataclass(frozen=True, slots=True)
class Cut:
    """The foot (x, y) of a node below which nothing goes on but what that node writes."""

    x: float
    y: float
    tooltip: str


@dataclass(slots=True)
class Drawn:
    """A panel with every place known, its left upper corner being (0, 0); ``ports`` has their x by node."""

    width: float = 0.0
    height: float = 0.0
    nodes: list[Placed] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    ports: dict[int, float] = field(default_factory=dict)
    cuts: list[Cut] = field(default_factory=list)
    columns: int = 1


def font_size(row: Row) -> float:
    """Return the font size of a line of a box."""
    return FONT if row.strong else FONT - 1


def arrange(panel: Panel) -> Drawn:
    """Return the panel with a place for everything."""
    frames = {index: _frame(node) for index, node in enumerate(panel.nodes) if node.panel}
    sizes = [(frames[index].width, frames[index].height) if index in frames else _size(node)
             for index, node in enumerate(panel.nodes)]  # fmt: skip
    layers = order(panel)
    elements = layers.elements
    widths = [sizes[element.node][0] if element.node >= 0 else 1.0 for element in elements]
    ports = _frame_ports(panel, layers, frames, widths)
    centres = place(layers, widths, _BETWEEN, [(leave or 0.0, enter or 0.0) for leave, enter in ports])
    leaves, enters = _ends(layers, centres, widths, ports)
    tops, bottoms = _heights(layers, sizes, leaves, enters)
    drawn = Drawn(
        max((centre + own / 2 for centre, own in zip(centres, widths, strict=True)), default=0.0),
        bottoms[-1] if bottoms else 0.0,
    )
    for index, element in enumerate(elements):
        if element.node < 0:
            continue
        own_width, own_height = sizes[element.node]
        x, y = centres[index] - own_width / 2, tops[element.layer]
        placed = frames.get(element.node)
        if placed:
            placed.x, placed.y = x, y
        elif panel.nodes[element.node].kind == "port":
            drawn.ports[element.node] = centres[index]
            continue
        else:
            placed = Placed(panel.nodes[element.node], x, y, own_width, own_height)
        drawn.nodes.append(placed)
    drawn.paths = _paths(panel, layers, sizes, leaves, enters, (tops, bottoms))
    drawn.cuts = _cuts(panel, layers, sizes, leaves, (tops, bottoms))
    return drawn


def _size(node: Node) -> tuple[float, float]:
    if node.kind == "port":
        return 1.0, 0.0
    widest = max(
        width(row.left, font_size(row), row.strong) + (width(row.right, FONT - 1) + 14 if row.right else 0)
        for row in node.rows
    )
    return max(_LEAST_WIDTH, widest + 2 * PAD_X), ROW * len(node.rows) + 2 * PAD_Y


def _frame(node: Node) -> Placed:
    """Arrange the inside of a frame and leave room for its title where no edge enters."""
    assert node.panel is not None
    inner = arrange(node.panel)
    (row,) = node.rows
    title = width(row.left, FONT, bold=True) + (width(row.right, FONT - 1) + 10 if row.right else 0) + 18
    entries = [inner.ports[index] + FRAME_PAD for index in node.panel.entries]
    own_width = inner.width + 2 * FRAME_PAD
    at = 0.0
    if entries and min(entries) - 8 < title:
        at = max(entries) + 8
    own_width = max(own_width, at + title)
    return Placed(node, 0.0, 0.0, own_width, inner.height + FRAME_TITLE, inner, at)


def _frame_ports(
    panel: Panel, layers: Layers, frames: dict[int, Placed], widths: Sequence[float]
) -> list[tuple[float | None, float | None]]:
    """Return, for each link, where it must leave and enter relative to the centres; None where it is free to."""
    ports = []
    for link in layers.links:
        net = panel.nets[link.net]
        leave = enter = None
        upper, lower = layers.elements[link.upper].node, layers.elements[link.lower].node
        if upper in frames:
            frame = frames[upper]
            assert frame.inner is not None
            leave = FRAME_PAD + frame.inner.ports[frame.node.ports_out[net.key]] - widths[link.upper] / 2
        if lower in frames:
            frame = frames[lower]
            assert frame.inner is not None
            key = net.targets[link.target][1]
            enter = FRAME_PAD + frame.inner.ports[frame.node.ports_in[key]] - widths[link.lower] / 2
        ports.append((leave, enter))
    return ports


def _ends(
    layers: Layers,
    centres: Sequence[float],
    widths: Sequence[float],
    ports: Sequence[tuple[float | None, float | None]],
) -> tuple[list[float], list[float]]:
    """Return the x at which each link leaves its upper element and enters its lower one.

    Where a box reads several tensors their ends are spread over its upper side, each near where it comes from; in
    the same way where it writes several.
    """
    leaves, enters = [0.0] * len(layers.links), [0.0] * len(layers.links)
    into: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    out: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, link in enumerate(layers.links):
        leave, enter = ports[number]
        leaves[number] = centres[link.upper] + (leave or 0.0)
        enters[number] = centres[link.lower] + (enter or 0.0)
        if enter is None and layers.elements[link.lower].node >= 0:
            into[link.lower][number].append(number)
        if leave is None and layers.elements[link.upper].node >= 0:
            out[link.upper][link.net].append(number)
    for spread, own, other in ((into, enters, leaves), (out, leaves, enters)):
        for element, groups in spread.items():
            wishes = [
                (sum(other[number] for number in numbers) / len(numbers), key)
                for key, numbers in groups.items()
            ]
            for (_, key), x in zip(
                sorted(wishes),
                _spread([wish for wish, _ in sorted(wishes)], centres[element], widths[element]),
                strict=True,
            ):
                for number in groups[key]:
                    own[number] = x
    return leaves, enters


def _spread(wishes: Sequence[float], centre: float, wide: float) -> list[float]:
    """Return places on the side of a box: apart, near the sorted wishes; its middle for a single one."""
    if len(wishes) == 1:
        return [centre]
    half = max(wide / 2 - 12, 1.0)
    apart = min(_PORTS_APART, 2 * half / (len(wishes) - 1))
    places = [min(max(wish, centre - half), centre + half) for wish in wishes]
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + apart)
    limit = centre + half
    for index in range(len(places) - 1, -1, -1):
        places[index] = min(places[index], limit)
        limit = places[index] - apart
    return places


def _heights(
    layers: Layers, sizes: Sequence[tuple[float, float]], leaves: Sequence[float], enters: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Return where each layer begins and ends; wide bends get more room between two layers."""
    bends = [0.0] * len(layers.rows)
    for link, leave, enter in zip(layers.links, leaves, enters, strict=True):
        layer = layers.elements[link.upper].layer
        bends[layer] = max(bends[layer], abs(leave - enter))
    tops: list[float] = []
    bottoms: list[float] = []
    y = 0.0
    for layer, row in enumerate(layers.rows):
        tops.append(y)
        nodes = [layers.elements[index].node for index in row]
        y += max((sizes[node][1] for node in nodes if node >= 0), default=0.0)
        bottoms.append(y)
        y += min(_GAP + 0.12 * bends[layer], _MOST_GAP)
    return tops, bottoms


def _paths(
    panel: Panel,
    layers: Layers,
    sizes: Sequence[tuple[float, float]],
    leaves: Sequence[float],
    enters: Sequence[float],
    bounds: _Bounds,
) -> list[Path]:
    """Return one path per lane and one per end of an edge."""
    tops, bottoms = bounds
    paths: list[Path] = []
    lanes: dict[int, Path] = {}
    for number, link in enumerate(layers.links):
        upper, lower = layers.elements[link.upper], layers.elements[link.lower]
        net = panel.nets[link.net]
        points = [(leaves[number], bottoms[upper.layer]), (enters[number], tops[lower.layer])]
        if upper.node >= 0:
            foot = tops[upper.layer] + sizes[upper.node][1]
            if foot < bottoms[upper.layer]:
                points.insert(0, (leaves[number], foot))
        if lower.node >= 0:
            port = panel.nodes[lower.node].kind in ("port", "frame")
            paths.append(Path(points, not port, net.tooltip))
        else:
            points.append((enters[number], bottoms[lower.layer]))
            if upper.node < 0:
                lanes[link.net].points += points
            else:
                lanes[link.net] = Path(points, False, net.tooltip)
                paths.append(lanes[link.net])
    return paths


def _cuts(
    panel: Panel,
    layers: Layers,
    sizes: Sequence[tuple[float, float]],
    leaves: Sequence[float],
    bounds: _Bounds,
) -> list[Cut]:
    """Return the places between two layers where all links leave one node at one place."""
    tops, bottoms = bounds
    crossing: dict[int, set[tuple[int, int, float]]] = defaultdict(set)
    for link, leave in zip(layers.links, leaves, strict=True):
        crossing[layers.elements[link.upper].layer].add((link.upper, link.net, leave))
    cuts: list[Cut] = []
    for layer in range(len(layers.rows) - 1):
        if len(crossing[layer]) == 1:
            ((upper, net, leave),) = crossing[layer]
            node = layers.elements[upper].node
            if node >= 0 and tops[layer] + sizes[node][1] == bottoms[layer]:
                cuts.append(Cut(leave, bottoms[layer], panel.nets[net].tooltip))
    return cuts
