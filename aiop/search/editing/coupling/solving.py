"""From links to classes of atoms that go together, and whether a class can go at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aiop.search.editing.coupling.links import Atoms, Links, Product, spread

__all__ = ["Classes", "solve"]

Labels = npt.NDArray[np.int64]

_UNFROZEN = -1
_DECIDED = 1000.0


@dataclass(frozen=True, slots=True)
class Classes:
    """What goes together.

    ``label`` ``(atoms,)``: the class of each atom; ``reason`` ``(classes,)``: which of ``texts`` says why it stays, -1
    where it can go.
    """

    label: Labels
    reason: Labels
    texts: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of classes."""
        return len(self.reason)


def solve(links: Links) -> Classes:
    """Join what is linked and choose for every product which of its factors can shrink."""
    label = _components(links.count, links.edges)
    count = int(label.max()) + 1
    texts = [text for _, text in links.reasons]
    reason = np.full(count, _UNFROZEN, np.int64)
    for number, (atom, _) in enumerate(links.reasons):
        reason[label[atom]] = max(reason[label[atom]], number)
    votes = np.zeros(count)
    for axis, vote in links.votes:
        votes[label[axis]] += vote
    state = _State(label, reason, votes, texts)
    state.settle(links.products)
    return Classes(state.label, state.reason, tuple(texts))


def _components(count: int, edges: Sequence[tuple[Atoms, Atoms]]) -> Labels:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not edges:
        return np.arange(count, dtype=np.int64)
    rows = np.concatenate([one for one, _ in edges])
    columns = np.concatenate([other for _, other in edges])
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)  # type: ignore[no-any-return]


class _State:
    """Classes while products are settled: one factor of each shrinks with the product, the others stay."""

    def __init__(
        self, label: Labels, reason: Labels, votes: npt.NDArray[np.float64], texts: list[str]
    ) -> None:
        self.label, self.reason, self.votes, self.texts = label, reason, votes, texts
        self.edges: list[tuple[Atoms, Atoms]] = []

    def settle(self, products: Sequence[Product]) -> None:
        """Settle what leaves no choice first, then choose where there is one, until nothing is open."""
        texts = self.texts
        texts.append("is one of several axes that one axis is made of, of which another one is thinned")
        chosen = len(texts) - 1
        texts.append("is made of axes that all stay")
        stuck = len(texts) - 1
        open_ = list(products)
        while open_:
            open_ = [product for product in open_ if not self._forced(product, stuck)]
            if self.edges:
                self._join()
                continue
            if open_:
                self._choose(open_, chosen)

    def _free(self, product: Product) -> list[int]:
        return [
            place
            for place, factor in enumerate(product.factors)
            if (self.reason[self.label[factor]] == _UNFROZEN).any()
        ]

    def _forced(self, product: Product, stuck: int) -> bool:
        flat = self.label[product.flat]
        free = self._free(product)
        if (self.reason[flat] != _UNFROZEN).all():
            for place in free:
                self._freeze(self.label[product.factors[place]], int(self.reason[flat].max()))
            return True
        if not free:
            reasons = [int(self.reason[self.label[factor]].max()) for factor in product.factors]
            self._freeze(flat, max(reasons, default=stuck) or stuck)
            return True
        if len(free) > 1:
            return False
        (place,) = free
        extents = [len(factor) for factor in product.factors]
        self.edges.append((flat, self.label[spread(product.factors[place], place, extents)]))
        return True

    def _freeze(self, classes: Labels, reason: int) -> None:
        free = classes[self.reason[classes] == _UNFROZEN]
        self.reason[free] = reason

    def _join(self) -> None:
        merged = _components(len(self.reason), self.edges)
        self.edges = []
        count = int(merged.max()) + 1
        reason = np.full(count, _UNFROZEN, np.int64)
        np.maximum.at(reason, merged, self.reason)
        self.votes = np.bincount(merged, self.votes, count).astype(np.float64)
        self.reason, self.label = reason, merged[self.label]

    def _choose(self, products: Sequence[Product], chosen: int) -> None:
        """Choose one factor of every product that shares no class with one chosen before it."""
        touched = np.zeros(len(self.reason), bool)
        for product in products:
            free = self._free(product)
            classes = [self.label[product.factors[place]] for place in free]
            seen = any(touched[each].any() for each in classes)
            for each in classes:
                touched[each] = True
            if seen or len(free) < 2:
                continue
            scores = [(float(self.votes[each].mean()), len(each), rank) for rank, each in enumerate(classes)]
            best = max(scores)[2]
            self.votes[classes[best]] += _DECIDED  # other products of the same axis follow
            for place, each in enumerate(classes):
                if place != best:
                    self._freeze(each, chosen)
