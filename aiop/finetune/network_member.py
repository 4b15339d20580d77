"""The member that is a small multilayer perceptron, on the principal components of all views."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from aiop.finetune.blocks import Block
from aiop.finetune.views import Views

__all__ = ["NetworkMember"]

Array = npt.NDArray[Any]

_COMPONENTS, _HIDDEN, _RESTARTS, _FOLDS = 32, 32, 3, 5
_DECAY, _STEPS = 3.0, 100
_LAYERS = ("in/weight", "in/bias", "out/weight", "out/bias")
_BLOCKS = ("costs", "graph", "embedding", "outputs")
_PARTS = ("columns", "centre", "scale", "stretch")


@dataclass(eq=False)
class NetworkMember:
    """The mean of three networks of one hidden layer of 32, from three starts; ``held_out`` by five folds.

    ``axes``: ``(D, K)``, the first 32 principal axes of the standardised blocks side by side.
    """

    blocks: list[Block]
    axes: Array
    layers: dict[str, Array]
    held_out: Array

    @classmethod
    def fit(cls, views: Views, targets: Array, *, seed: int, sign: int) -> Self:
        found = cls._fit(views, targets, seed)
        count = len(targets)
        folds = np.random.default_rng(seed).permutation(count) % min(_FOLDS, count)
        for fold in range(int(folds.max()) + 1):
            inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            part = cls._fit(views.rows(inside), targets[inside], seed)
            found.held_out[outside] = part.predict(views.rows(outside))
        return found

    @classmethod
    def _fit(cls, views: Views, targets: Array, seed: int) -> Self:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor

        blocks = [Block.fit(views, name, targets, 0.0 if name == "costs" else 0.5) for name in _BLOCKS]
        rows = np.concatenate([block(views) for block in blocks], axis=1)
        axes = np.linalg.svd(rows, full_matrices=False)[2][:_COMPONENTS].T
        x = rows @ axes * np.sqrt(len(_BLOCKS))
        layers: dict[str, list[Array]] = {name: [] for name in _LAYERS}
        for restart in range(_RESTARTS):
            network = MLPRegressor(
                hidden_layer_sizes=(_HIDDEN,), solver="lbfgs", alpha=_DECAY, max_iter=_STEPS,
                random_state=seed + restart,
            )  # fmt: skip
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # stopping early is meant
                network.fit(x, targets)
            found = (network.coefs_[0], network.intercepts_[0], network.coefs_[1], network.intercepts_[1])
            for name, array in zip(_LAYERS, found, strict=True):
                layers[name].append(array)
        return cls(
            blocks, axes, {name: np.stack(arrays) for name, arrays in layers.items()}, np.zeros(len(targets))
        )

    def predict(self, views: Views) -> Array:
        rows = np.concatenate([block(views) for block in self.blocks], axis=1)
        x = rows @ self.axes * np.sqrt(len(self.blocks))
        hidden = np.maximum(x @ self.layers["in/weight"] + self.layers["in/bias"][:, None], 0.0)
        out = hidden @ self.layers["out/weight"] + self.layers["out/bias"][:, None]
        return np.asarray(out[..., 0].mean(axis=0))

    def to_state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        arrays = {"axes": self.axes} | self.layers
        for block in self.blocks:
            arrays |= {f"block/{block.name}/{part}": array for part, array in block.arrays().items()}
        return arrays, {}

    @classmethod
    def from_state(cls, arrays: dict[str, Array], document: dict[str, Any]) -> Self:
        blocks = [Block(name, *(arrays[f"block/{name}/{part}"] for part in _PARTS)) for name in _BLOCKS]
        return cls(blocks, arrays["axes"], {name: arrays[name] for name in _LAYERS}, np.zeros(0))
