"""Layers of a picture: which node stands in which, and in which order from left to right.

The classic steps of layered drawing (Sugiyama, Tagawa and Toda 1981): longest-path layers, a place in every layer
that an edge crosses, and orders by barycentre that keep crossings few. All edges of one tensor share one lane.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass, field

from aiop.graph_ir.picture.scene import Panel

__all__ = ["Element", "Layers", "Link", "assign_layers", "lanes_needed", "order"]

_SWEEPS = 12
_LARGE = 4000  # elements above which the orders are not polished


@dataclass(slots=True)
class Element:
    """A node, or the place of a lane in a layer (``node`` is -1)."""

    layer: int
    node: int
    net: int = -1
    up: list[int] = field(default_factory=list)
    down: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Link:
    """Part of an edge from an element to one in the next layer; ``target`` indexes the net's targets or is -1."""

    upper: int
    lower: int
    net: int
    target: int


@dataclass(slots=True)
class Layers:
    """Elements, the links between neighbouring layers, and the order of elements in each layer."""

    elements: list[Element]
    links: list[Link]
    rows: list[list[int]]


def assign_layers(panel: Panel) -> list[int]:
    """Return the layer of each node: the longest way to it; what reads nothing stands right above its readers."""
    first = 1 if panel.entries else 0
    entries, exits = set(panel.entries), set(panel.exits)
    layers = [0 if node in entries else first for node in range(len(panel.nodes))]
    below: list[list[int]] = [[] for _ in panel.nodes]
    reads = [False] * len(panel.nodes)
    for net in panel.nets:
        for target, _ in net.targets:
            below[net.source].append(target)
            reads[target] = True
    for node in range(len(panel.nodes)):
        for target in below[node]:
            layers[target] = max(layers[target], layers[node] + 1)
    for node in range(len(panel.nodes)):
        if not reads[node] and below[node] and node not in entries:
            layers[node] = min(layers[target] for target in below[node]) - 1
    bottom = 1 + max((layer for node, layer in enumerate(layers) if node not in exits), default=0)
    return [bottom if node in exits else layer for node, layer in enumerate(layers)]


def lanes_needed(panel: Panel) -> int:
    """Return how many places lanes take in all layers, those inside frames included."""
    layers = assign_layers(panel)
    own = sum(
        max(0, max(layers[target] for target, _ in net.targets) - layers[net.source] - 1)
        for net in panel.nets
    )
    return own + sum(lanes_needed(node.panel) for node in panel.nodes if node.panel)


def order(panel: Panel) -> Layers:
    """Return the layers of a panel with few crossings."""
    layers = _connect(panel)
    _first_order(layers)
    best, fewest = [list(row) for row in layers.rows], _crossings(layers)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        _sweep(layers, down=sweep % 2 == 0)
        if len(layers.elements) <= _LARGE:
            _swap_neighbours(layers)
        count = _crossings(layers)
        if count < fewest:
            best, fewest = [list(row) for row in layers.rows], count
    layers.rows = best
    return layers


def _connect(panel: Panel) -> Layers:
    """Make the lanes; the rows are still in the order of nodes."""
    at = assign_layers(panel)
    elements = [Element(layer, node) for node, layer in enumerate(at)]
    links: list[Link] = []
    for number, net in enumerate(panel.nets):
        start, stop = at[net.source], max(at[target] for target, _ in net.targets)
        lane = [net.source]
        for layer in range(start + 1, stop):
            links.append(Link(lane[-1], len(elements), number, -1))
            lane.append(len(elements))
            elements.append(Element(layer, -1, number))
        for index, (target, _) in enumerate(net.targets):
            links.append(Link(lane[at[target] - 1 - start], target, number, index))
    for link in links:
        elements[link.upper].down.append(link.lower)
        elements[link.lower].up.append(link.upper)
    rows: list[list[int]] = [[] for _ in range(max(at, default=0) + 1)]
    for index, element in enumerate(elements):
        rows[element.layer].append(index)
    return Layers(elements, links, rows)


def _first_order(layers: Layers) -> None:
    """Order each layer by what is above; among equals boxes come first, so that lanes run at the right side."""
    elements = layers.elements
    place: dict[int, int] = {}
    for row in layers.rows:
        row.sort(key=lambda index: (_mean(elements[index].up, place, 0.0), elements[index].node < 0, index))
        place.update({index: position for position, index in enumerate(row)})


def _sweep(layers: Layers, down: bool) -> None:
    elements = layers.elements
    place = {index: position for row in layers.rows for position, index in enumerate(row)}
    for row in layers.rows if down else reversed(layers.rows):
        keys = {
            index: _mean(elements[index].up if down else elements[index].down, place, place[index])
            for index in row
        }
        row.sort(key=lambda index: (keys[index], place[index]))
        place.update({index: position for position, index in enumerate(row)})


def _mean(neighbours: list[int], place: dict[int, int], otherwise: float) -> float:
    return sum(place[index] for index in neighbours) / len(neighbours) if neighbours else otherwise


def _swap_neighbours(layers: Layers) -> None:
    """Swap elements that stand side by side wherever that saves crossings."""
    elements = layers.elements
    place = {index: position for row in layers.rows for position, index in enumerate(row)}
    for _ in range(4):
        better = False
        for row in layers.rows:
            for position in range(len(row) - 1):
                left, right = row[position], row[position + 1]
                gain = 0
                for one, other in (
                    (elements[left].up, elements[right].up),
                    (elements[left].down, elements[right].down),
                ):
                    for a in one:
                        for b in other:
                            gain += (place[a] > place[b]) - (place[a] < place[b])
                if gain > 0:
                    row[position], row[position + 1] = right, left
                    place[left], place[right] = position + 1, position
                    better = True
        if not better:
            return


def _crossings(layers: Layers) -> int:
    place = {index: position for row in layers.rows for position, index in enumerate(row)}
    count = 0
    for row in layers.rows:
        seen: list[int] = []
        for upper in row:
            ends = sorted(place[lower] for lower in layers.elements[upper].down)
            count += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return count
