"""Places left to right: elements that belong below each other form straight chains, chains are packed side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from aiop.graph_ir.picture.layering import Layers, Link

__all__ = ["place"]

_ROUNDS = 16


def place(
    layers: Layers,
    widths: Sequence[float],
    gaps: Mapping[tuple[bool, bool], float],
    ports: Sequence[tuple[float, float]],
) -> list[float]:
    """Return the centre of each element.

    ``widths`` are those of the elements; ``gaps`` what is left free between (lane?, lane?) neighbours; ``ports`` has,
    for each link, where it leaves the upper and enters the lower element, relative to their centres.
    """
    chain_of, offsets = _chains(layers, ports)
    order = _left_to_right(layers, chain_of)
    if order is None:  # a ring of chains, each left of the next: take them apart
        chain_of, offsets = list(range(len(chain_of))), [0.0] * len(chain_of)
        order = _left_to_right(layers, chain_of) or []
    lefts, rights = _neighbours(layers, widths, gaps, chain_of, offsets)
    x = _pack(order, lefts, rights)
    pulls = _pulls(layers, chain_of, offsets, ports)
    for step in range(_ROUNDS):
        for chain in order if step % 2 else reversed(order):
            low = max((x[other] + distance for other, distance in lefts[chain]), default=-1e18)
            high = min((x[other] - distance for other, distance in rights[chain]), default=1e18)
            x[chain] = min(max(_median([(x[o] + d, w) for o, d, w in pulls[chain]], x[chain]), low), high)
    centres = [x[chain_of[index]] + offsets[index] for index in range(len(layers.elements))]
    left = min((centre - width / 2 for centre, width in zip(centres, widths, strict=True)), default=0.0)
    return [centre - left for centre in centres]


def _chains(layers: Layers, ports: Sequence[tuple[float, float]]) -> tuple[list[int], list[float]]:
    """Join elements that prefer each other: the parts of a lane first, then boxes along the longest way.

    Return the chain of each element, and how far right of the chain's first element it stands.
    """
    elements, rows = layers.elements, layers.rows
    position = {index: place for row in rows for place, index in enumerate(row)}
    above, below = _depths(layers)

    def rank(link: Link, far: Sequence[int], index: int) -> tuple[int, int, int]:
        return _priority(layers, link), far[index], -position[index]

    downs: dict[int, tuple[tuple[int, int, int], int]] = {}
    ups: dict[int, tuple[tuple[int, int, int], int]] = {}
    for number, link in enumerate(layers.links):
        downs[link.upper] = max(
            downs.get(link.upper, ((-1, 0, 0), -1)), (rank(link, below, link.lower), number)
        )
        ups[link.lower] = max(ups.get(link.lower, ((-1, 0, 0), -1)), (rank(link, above, link.upper), number))
    mutual = defaultdict(list)
    for _, number in downs.values():
        link = layers.links[number]
        if ups[link.lower][1] == number:
            mutual[elements[link.upper].layer].append(number)
    next_of: dict[int, int] = {}
    for numbers in mutual.values():
        kept: list[tuple[int, int]] = []
        for number in sorted(numbers, key=lambda number: -_priority(layers, layers.links[number])):
            link = layers.links[number]
            upper, lower = position[link.upper], position[link.lower]
            if all((upper < a) == (lower < b) for a, b in kept):
                kept.append((upper, lower))
                next_of[link.upper] = number
    chain_of, offsets, chain = [-1] * len(elements), [0.0] * len(elements), 0
    for start in (index for row in rows for index in row):
        if chain_of[start] >= 0:
            continue
        chain_of[start], index = chain, start
        while index in next_of:
            number = next_of[index]
            lower = layers.links[number].lower
            offsets[lower] = offsets[index] + ports[number][0] - ports[number][1]
            chain_of[lower], index = chain, lower
        chain += 1
    return chain_of, offsets


def _priority(layers: Layers, link: Link) -> int:
    lanes = (layers.elements[link.upper].node < 0) + (layers.elements[link.lower].node < 0)
    return (2, 1, 3)[lanes]


def _depths(layers: Layers) -> tuple[list[int], list[int]]:
    """Return the most boxes on a way from the top to each element, and from each to the bottom."""
    elements = layers.elements
    above, below = [0] * len(elements), [0] * len(elements)
    for row in layers.rows:
        for index in row:
            above[index] = max((above[up] for up in elements[index].up), default=0) + (
                elements[index].node >= 0
            )
    for row in reversed(layers.rows):
        for index in row:
            below[index] = max((below[down] for down in elements[index].down), default=0) + (
                elements[index].node >= 0
            )
    return above, below


def _left_to_right(layers: Layers, chain_of: Sequence[int]) -> list[int] | None:
    """Return the chains in an order in which every chain comes after those left of it; None if there is none."""
    count = 1 + max(chain_of, default=-1)
    after: list[set[int]] = [set() for _ in range(count)]
    waiting = [0] * count
    for row in layers.rows:
        for left, right in pairwise(row):
            a, b = chain_of[left], chain_of[right]
            if b not in after[a]:
                after[a].add(b)
                waiting[b] += 1
    ready = [chain for chain in range(count) if not waiting[chain]]
    order: list[int] = []
    while ready:
        chain = ready.pop()
        order.append(chain)
        for other in sorted(after[chain]):
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    return order if len(order) == count else None


_Bounds = list[list[tuple[int, float]]]


def _neighbours(
    layers: Layers,
    widths: Sequence[float],
    gaps: Mapping[tuple[bool, bool], float],
    chain_of: Sequence[int],
    offsets: Sequence[float],
) -> tuple[_Bounds, _Bounds]:
    """Return, for each chain, the (chain, least distance of their places) at its left, and those at its right."""
    distances: dict[tuple[int, int], float] = {}
    for row in layers.rows:
        for left, right in pairwise(row):
            gap = gaps[layers.elements[left].node < 0, layers.elements[right].node < 0]
            distance = (widths[left] + widths[right]) / 2 + gap + offsets[left] - offsets[right]
            pair = chain_of[left], chain_of[right]
            distances[pair] = max(distances.get(pair, distance), distance)
    lefts: _Bounds = [[] for _ in range(len(layers.elements))]
    rights: _Bounds = [[] for _ in range(len(layers.elements))]
    for (left, right), distance in distances.items():
        lefts[right].append((left, distance))
        rights[left].append((right, distance))
    return lefts, rights


def _pack(order: Sequence[int], lefts: _Bounds, rights: _Bounds) -> list[float]:
    """Return the mean of the packing to the left and that to the right, which keeps all distances too."""
    left: list[float] = [0.0] * len(lefts)
    for chain in order:
        left[chain] = max((left[other] + distance for other, distance in lefts[chain]), default=0.0)
    most = max(left, default=0.0)
    right: list[float] = [most] * len(lefts)
    for chain in reversed(order):
        right[chain] = min((right[other] - distance for other, distance in rights[chain]), default=most)
    return [(a + b) / 2 for a, b in zip(left, right, strict=True)]


def _pulls(
    layers: Layers, chain_of: Sequence[int], offsets: Sequence[float], ports: Sequence[tuple[float, float]]
) -> list[list[tuple[int, float, int]]]:
    """Return, for each chain, the (chain, distance, weight) at which a link to that chain would be straight."""
    pulls: list[list[tuple[int, float, int]]] = [[] for _ in range(len(layers.elements))]
    for link, (leaves, enters) in zip(layers.links, ports, strict=True):
        upper, lower = chain_of[link.upper], chain_of[link.lower]
        if upper != lower:
            distance = offsets[link.upper] + leaves - offsets[link.lower] - enters
            weight = _priority(layers, link)
            pulls[lower].append((upper, distance, weight))
            pulls[upper].append((lower, -distance, weight))
    return pulls


def _median(wishes: list[tuple[float, int]], now: float) -> float:
    """Return the place nearest to ``now`` with the least weighted distance to all wishes."""
    if not wishes:
        return now
    wishes.sort()
    half, weight = sum(weight for _, weight in wishes) / 2, 0.0
    for position, (wish, own) in enumerate(wishes):
        weight += own
        if weight > half:
            return wish
        if weight == half:
            return min(max(now, wish), wishes[position + 1][0])
    return now
