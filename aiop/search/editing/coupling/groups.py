"""Groups of channels that can be made fewer: what one analysis of a network finds, by names only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from aiop.search.editing.coupling.links import Atoms, Axes, Fix, Links
from aiop.search.editing.coupling.rules import collect
from aiop.search.editing.coupling.solving import Classes, solve

if TYPE_CHECKING:
    from aiop.search.editing.network import EditableNetwork

__all__ = ["Coupling", "Group", "coupling"]

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Group:
    """Channels that the same layers make.

    A unit is what goes together: one channel of every producer, or several (a head of an attention). ``parts`` holds
    the units by how they are used: units of one part appear equally often in every axis of the network, so that the
    sizes of a smaller network follow from how many of each part are kept, not from which.
    """

    where: str
    producers: tuple[str, ...]
    workers: tuple[str, ...]
    """Conv, Gemm and MatMul nodes that cost less with fewer units, in the order of the nodes."""
    channels: int
    """Channels of the first producer that belong to the group."""
    parts: tuple[Labels, ...] = field(repr=False)
    first_part: int
    """Number of the first part among those of all groups."""

    @property
    def units(self) -> int:
        """Number of units."""
        return sum(len(part) for part in self.parts)


class Coupling:
    """The groups of a network and what must change with them.

    Holds names and tensors but no nodes, so that it serves every clone of the network.
    """

    def __init__(self, links: Links, classes: Classes) -> None:
        self.label = classes.label
        self.count = classes.count
        self.weights: dict[str, Axes] = links.weights
        self.gains = links.gains
        self.fixes: list[Fix] = links.fixes
        self.tensors: dict[str, ir.TensorProtocol] = {}
        for name in links.weights:
            tensor = links.network.graph.initializers[name].const_value
            if tensor is not None:
                self.tensors[name] = tensor
        groups, self.refused = _groups(links, classes)
        self.groups: dict[str, Group] = {group.where: group for group in groups}
        self._part = np.full(self.count, -1, np.int64)
        sizes: list[int] = []
        for group in groups:
            for part in group.parts:
                self._part[part] = len(sizes)
                sizes.append(len(part))
        self.sizes: Labels = np.array(sizes, np.int64)
        self._uses: dict[int, tuple[Labels, Labels]] = {}
        self.orders: dict[tuple[str, str, int], tuple[Labels, ...]] = {}
        self.norms: dict[str, list[npt.NDArray[np.float64] | None]] = {}

    def length(self, axis: Atoms, kept: Labels) -> int:
        """Return what is left of an axis when ``kept[i]`` units of part ``i`` are."""
        parts, counts = self._used(axis)
        if not len(parts):
            return len(axis)
        gone = self.sizes[parts] - kept[parts]
        return len(axis) - int((counts * gone // self.sizes[parts]).sum())

    def changes(self, axis: Atoms | None, kept: Labels) -> bool:
        """Whether an axis shrinks when ``kept[i]`` units of part ``i`` are left."""
        if axis is None:
            return False
        parts, _ = self._used(axis)
        return bool(len(parts)) and bool((kept[parts] < self.sizes[parts]).any())

    def _used(self, axis: Atoms) -> tuple[Labels, Labels]:
        known = self._uses.get(id(axis))
        if known is None:
            parts = self._part[self.label[axis]]
            counts = np.bincount(parts[parts >= 0], minlength=0)
            found = np.flatnonzero(counts)
            known = self._uses[id(axis)] = (found, counts[found])
        return known


def coupling(network: EditableNetwork) -> Coupling:
    """Return the groups of a network; computed once for it and all clones of it that have not been changed."""
    found: Coupling | None = network.shared.get("coupling")
    if found is None:
        links = collect(network)
        found = network.shared["coupling"] = Coupling(links, solve(links))
    return found


def _groups(links: Links, classes: Classes) -> tuple[list[Group], dict[str, str]]:
    """Return the groups in the order of their first producers, and why other producers are in none."""
    label, count = classes.label, classes.count
    made = np.zeros(count, np.uint64)
    first = np.full(count, len(links.makers), np.int64)
    rng = np.random.default_rng(0)
    for number in range(len(links.makers) - 1, -1, -1):
        own = np.unique(label[links.makers[number][1]])
        made[own] += rng.integers(1, 2**63, dtype=np.uint64)
        first[own] = number
    free = np.flatnonzero((made != 0) & (classes.reason < 0))
    used = _uses(links, label, count, rng)
    order = np.lexsort((free, first[free]))
    by_makers: dict[int, list[int]] = {}
    for each, key in zip(free[order].tolist(), made[free[order]].tolist(), strict=True):
        by_makers.setdefault(key, []).append(each)
    ranks = {node.name or "": rank for rank, node in enumerate(links.network.graph)}
    of = np.full(count, -1, np.int64)
    for number, members in enumerate(by_makers.values()):
        of[members] = number
    makers, readers = (_members(entries, of[label], ranks) for entries in (links.makers, links.readers))
    groups: list[Group] = []
    reached: set[str] = set()
    single: dict[str, str] = {}
    parts_before = 0
    for index, members in enumerate(by_makers.values()):
        by_use: dict[int, list[int]] = {}
        for each in members:
            by_use.setdefault(int(used[each]), []).append(each)
        parts = tuple(np.array(part, np.int64) for part in by_use.values())
        maker, axis = links.makers[int(first[members[0]])]
        producers = makers.get(index, ())
        if max(len(part) for part in parts) < 2:
            for name in producers:
                single.setdefault(name, "its channels all go together or differ in what they are used for")
            continue
        where, number = maker, 1
        while any(group.where == where for group in groups):
            number += 1
            where = f"{maker}:{number}"
        channels = int((of[label[axis]] == index).sum())
        groups.append(Group(where, producers, readers.get(index, ()), channels, parts, parts_before))
        parts_before += len(parts)
        reached.update(producers)
    return groups, _refused(links, classes, reached, single)


def _uses(links: Links, label: Labels, count: int, rng: np.random.Generator) -> npt.NDArray[np.uint64]:
    """Return a number per class that is the same where classes appear equally often in every axis that matters."""
    used = np.zeros(count, np.uint64)
    axes: dict[int, Atoms] = {}
    for weight in links.weights.values():
        axes.update((id(axis), axis) for axis in weight if axis is not None and len(axis))
    for fix in links.fixes:
        axes.update((id(axis), axis) for axis in fix.arrays if axis is not None and len(axis))
    if axes:
        salts = rng.integers(1, 2**63, size=len(axes), dtype=np.uint64)
        lengths = [len(axis) for axis in axes.values()]
        np.add.at(used, label[np.concatenate(list(axes.values()))], np.repeat(salts, lengths))
    return used


def _members(
    entries: Sequence[tuple[str, Atoms]], group: Labels, ranks: Mapping[str, int]
) -> dict[int, tuple[str, ...]]:
    """Return per group the names of the nodes that have atoms of it on an axis; ``group`` is that of each atom."""
    found: dict[int, set[str]] = {}
    for name, axis in entries:
        for number in set(group[axis].tolist()):
            found.setdefault(number, set()).add(name)
    return {
        number: tuple(sorted(names, key=lambda name: ranks.get(name, 0))) for number, names in found.items()
    }


def _refused(links: Links, classes: Classes, reached: set[str], single: Mapping[str, str]) -> dict[str, str]:
    refused: dict[str, str] = {}
    for name, axis in links.makers:
        if name in reached or name in refused:
            continue
        number = int(classes.reason[classes.label[axis]].max())
        refused[name] = (
            classes.texts[number] if number >= 0 else single.get(name, "it has one output channel")
        )
    return refused
