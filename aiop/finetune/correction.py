"""From a prediction that ranks well to the true values, by a few of them: more than a line.

A cheap label differs from the true one in ways that networks have in common, such as an operator that pays only in full
training. So the prediction is the prior mean, and what it is off by is linear in what else is known of a network:
predictions of related tasks, costs, graph features, embedding, outputs of pretraining.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from aiop.finetune.rescaling import EXPECTED, WORTH

__all__ = ["PARTS", "VARIANCES", "Correction", "Link", "link_of"]

Array = npt.NDArray[Any]
Link = Literal["identity", "log", "logit"]
"""On what scale of the values the correction is linear."""

PARTS = ("centre", "scale", "weights")
"""What is saved of every block."""

VARIANCES = {"others": 0.5, "costs": 0.1, "graph": 0.2, "embedding": 0.2, "outputs": 0.2}
"""Prior variance of what a block adds, in variances of the labels. Twenty labels cannot tell these: half or twice as
much of each changes no mean error by more than a hundredth."""

_NOISE = 0.5  # variance of the rest, likewise
_CLIP = 4.0
_FLAT = 1e-6
_EXACT, _FOLDS = 60, 20


def link_of(values: Array, unit: str, transform: str) -> Link:
    """Return the scale for labels ``(n,)``: shares have ends that they come near to ever more slowly."""
    if transform == "log":
        return "log"
    inside = bool(np.all((values > 0) & (values < 100)))
    return "logit" if unit == "%" and inside else "identity"


@dataclass(frozen=True, eq=False)
class Correction:
    """Values from an own prediction and B blocks of columns, ``(n, D_b)`` each.

    On the scale of ``link`` a value is ``intercept`` plus, over the blocks, standardised columns times weights. The
    first block, ``own``, is the prediction to correct; of ``others``, predictions of related tasks, the differences
    from it count.

    blocks: name -> centre, scale and weights, ``(D_b,)`` each.
    held_out: ``(n,)``, what is said of each label without it; only there after `fit`.
    """

    link: Link
    intercept: float
    blocks: Mapping[str, tuple[Array, Array, Array]]
    held_out: Array | None = None

    @classmethod
    def fit(
        cls, own: Array, blocks: Mapping[str, Array], values: Array, link: Link = "identity"
    ) -> Correction:
        """Fit to an own prediction ``(n,)``, blocks called as `VARIANCES` and values ``(n,)``, at least 4.

        Gaussian-process regression with linear kernels of fixed variances. The mean is a line through the own
        prediction, whose slope is that of correlation .75 as if three labels had shown it.
        """
        own, values = np.asarray(own, np.float64), np.asarray(values, np.float64)
        given = {"own": own[:, None]} | {
            name: np.asarray(block, np.float64) for name, block in blocks.items() if np.shape(block)[1]
        }
        targets = _linked(values, link)
        count = len(targets)
        folds = np.random.default_rng(0).permutation(count) % (count if count <= _EXACT else _FOLDS)
        held_out = np.empty(count)
        for fold in range(int(folds.max()) + 1):
            inside, outside = folds != fold, folds == fold
            part = _fitted({name: block[inside] for name, block in given.items()}, targets[inside], link)
            held_out[outside] = part.predict({name: block[outside] for name, block in given.items()})
        found = _fitted(given, targets, link)
        return cls(link, found.intercept, found.blocks, held_out)

    def predict(self, blocks: Mapping[str, Array]) -> Array:
        """Return values ``(m,)`` of networks with these blocks, ``own`` among them, ``(m, D_b)`` each."""
        total = np.full(len(blocks["own"]), self.intercept)
        for name, (centre, scale, weights) in self.blocks.items():
            total += _standardised(np.asarray(blocks[name], np.float64), centre, scale) @ weights
        return _unlinked(total, self.link)

    def arrays(self) -> dict[str, Array]:
        """Return what is saved beside link and intercept: ``BLOCK/PART`` of `PARTS`."""
        return {
            f"{name}/{part}": array
            for name, parts in self.blocks.items()
            for part, array in zip(PARTS, parts, strict=True)
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], link: str, intercept: float) -> Correction:
        """Restore what `arrays` returned; anything else is a KeyError or ValueError."""
        if link not in get_args(Link):
            raise ValueError(f"link {link!r}")
        blocks = {}
        for name in ("own", *VARIANCES):
            if name == "own" or f"{name}/{PARTS[0]}" in arrays:
                centre, scale, weights = (np.asarray(arrays[f"{name}/{part}"], np.float64) for part in PARTS)
                if not centre.shape == scale.shape == weights.shape:
                    raise ValueError(f"shapes of block {name!r}")
                blocks[name] = (centre, scale, weights)
        return cls(link, float(intercept), blocks)  # type: ignore[arg-type]


def _fitted(given: Mapping[str, Array], targets: Array, link: Link) -> Correction:
    mean, spread = float(targets.mean()), float(targets.std())
    if spread <= _FLAT * max(1.0, abs(mean)):  # all but one are equal
        spread = 0.0
    frames = {name: _frame(block) for name, block in given.items()}
    columns = {name: _standardised(given[name], *frame) for name, frame in frames.items()}
    own = columns["own"][:, 0]
    kernel = _NOISE / WORTH * np.outer(own, own)
    factors: dict[str, tuple[Array, float]] = {}
    for name, block in columns.items():
        if name == "own":
            continue
        block = block - own[:, None] if name == "others" else block
        # However many columns vary: a typical network's row has length 1.
        size = block.shape[1] if name == "others" else float((block**2).sum(axis=1).mean())
        factors[name] = block, VARIANCES[name] / size if size > 0 else 0.0
        kernel += factors[name][1] * (block @ block.T)
    standard = (targets - mean) / spread if spread else np.zeros(len(targets))
    dual = np.linalg.solve(kernel + _NOISE * np.eye(len(targets)), standard - EXPECTED * own)
    weights = {name: spread * factor * (block.T @ dual) for name, (block, factor) in factors.items()}
    slope = spread * (EXPECTED + _NOISE / WORTH * float(own @ dual))
    if "others" in weights:
        slope -= float(weights["others"].sum())
    weights["own"] = np.array([slope])
    return Correction(link, mean, {name: (*frame, weights[name]) for name, frame in frames.items()})


def _frame(block: Array) -> tuple[Array, Array]:
    """Return centre and scale of columns; scale 0 leaves out what does not vary."""
    centre, deviation = block.mean(axis=0), block.std(axis=0)
    varies = deviation > _FLAT * np.maximum(1.0, np.abs(centre))
    return centre, np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)


def _standardised(block: Array, centre: Array, scale: Array) -> Array:
    return np.asarray(np.clip((block - centre) * scale, -_CLIP, _CLIP))


def _linked(values: Array, link: Link) -> Array:
    if link == "logit":
        return np.asarray(logit(values / 100.0))
    return np.asarray(np.log(values)) if link == "log" else values


def _unlinked(targets: Array, link: Link) -> Array:
    if link == "logit":
        return np.asarray(100.0 * expit(targets))
    return np.asarray(np.exp(targets)) if link == "log" else targets
