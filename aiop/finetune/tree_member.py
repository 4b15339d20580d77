"""The member that is a forest of extremely randomised trees (Geurts et al. 2006), on counts, costs and sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from aiop.finetune.blocks import raw_block
from aiop.finetune.views import Views

__all__ = ["TreeMember"]

Array = npt.NDArray[Any]

_TREES = 150
_LEAVES = 512
_SMALL = 15
_VIEWS = ("costs", "graph", "outputs")
_ARRAYS = ("left", "right", "feature", "threshold", "value", "roots")
_CHUNK = 1024


@dataclass(eq=False)
class TreeMember:
    """The trees as flat arrays, one entry per node: a leaf's ``left`` is -1; ``roots`` are the trees' first nodes.

    Every tree sees a bootstrap sample; ``held_out`` is the mean of the trees that have not seen a network.
    """

    left: Array
    right: Array
    feature: Array
    threshold: Array
    value: Array
    roots: Array
    held_out: Array

    @classmethod
    def fit(cls, views: Views, targets: Array, *, seed: int, sign: int) -> Self:
        from sklearn.ensemble import ExtraTreesRegressor

        x, count = _features(views), len(targets)
        forest = ExtraTreesRegressor(
            _TREES, random_state=seed, bootstrap=True, max_features=0.5, max_leaf_nodes=_LEAVES,
            min_samples_leaf=2 if count > _SMALL else 1,
        ).fit(x, targets)  # fmt: skip
        trees = [tree.tree_ for tree in forest.estimators_]
        sizes = np.array([tree.node_count for tree in trees])
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        shift = np.repeat(starts, sizes)
        left, right = (
            np.concatenate([getattr(tree, side) for tree in trees])
            for side in ("children_left", "children_right")
        )
        inner = left >= 0
        found = cls(
            left=np.where(inner, left + shift, -1).astype(np.int32),
            right=np.where(inner, right + shift, -1).astype(np.int32),
            feature=np.where(inner, np.concatenate([tree.feature for tree in trees]), 0).astype(np.int16),
            # A threshold lies between two float32 values: rounded down to float32 it still parts them
            threshold=_floor32(np.concatenate([tree.threshold for tree in trees])),
            value=np.concatenate([tree.value.ravel() for tree in trees]).astype(np.float32),
            roots=starts.astype(np.int32),
            held_out=np.zeros(0),
        )
        every = found._each(x)
        unseen = np.ones((count, _TREES), bool)
        for place, rows in enumerate(forest.estimators_samples_):
            unseen[rows, place] = False
        votes = unseen.sum(axis=1)
        others = (targets.sum() - targets) / (count - 1)
        mean = (every * unseen).sum(axis=1) / np.maximum(votes, 1)
        found.held_out = np.where(votes > 0, mean, others)
        return found

    def predict(self, views: Views) -> Array:
        x = _features(views)
        parts = [self._each(x[start : start + _CHUNK]).mean(axis=1) for start in range(0, len(x), _CHUNK)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _each(self, x: Array) -> Array:
        """What each tree says of each row, float64 ``(m, trees)``."""
        rows = np.arange(len(x))[:, None]
        node = np.broadcast_to(self.roots, (len(x), len(self.roots))).astype(np.int64)
        while True:
            left = self.left[node]
            if (left < 0).all():
                return np.asarray(self.value[node], np.float64)
            down = np.where(x[rows, self.feature[node]] <= self.threshold[node], left, self.right[node])
            node = np.where(left < 0, node, down)

    def to_state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        return {name: getattr(self, name) for name in _ARRAYS}, {}

    @classmethod
    def from_state(cls, arrays: dict[str, Array], document: dict[str, Any]) -> Self:
        found = cls(**{name: arrays[name] for name in _ARRAYS}, held_out=np.zeros(0))
        found._check()
        return found

    def _check(self) -> None:
        """Refuse trees that do not end: every child comes after its parent, as scikit-learn writes them."""
        count = len(self.left)
        if {len(getattr(self, name)) for name in _ARRAYS if name != "roots"} != {count}:
            raise ValueError("arrays of trees differ in length")
        inner = np.flatnonzero(self.left >= 0)
        for children in (self.left[inner], self.right[inner]):
            if (children <= inner).any() or (children >= count).any():
                raise ValueError("a tree leads back to itself or out of its nodes")
        if (self.roots < 0).any() or (self.roots >= count).any() or (self.feature < 0).any():
            raise ValueError("a tree has no such root or feature")


def _features(views: Views) -> Array:
    return np.concatenate([raw_block(views, name) for name in _VIEWS], axis=1).astype(np.float32)


def _floor32(values: Array) -> Array:
    rounded = values.astype(np.float32)
    return np.where(rounded > values, np.nextafter(rounded, np.float32(-np.inf)), rounded)
