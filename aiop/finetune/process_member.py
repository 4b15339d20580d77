"""Members of a head that are Gaussian processes: over all views, over counts alone, with linear kernels alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from aiop.finetune.additive_kernel import Component
from aiop.finetune.blocks import BLOCKS, Block
from aiop.finetune.gaussian_process import AdditiveGP
from aiop.finetune.label_scale import Warp
from aiop.finetune.views import Views

__all__ = ["CountingProcess", "Process", "ProcessMember", "Ridge", "WarpedProcess"]

Array = npt.NDArray[Any]

LARGEST = 4000
"""Labels that a process takes: above this many it is fitted to a part of them."""

_EACH, _FOLDS, _ANEW, _CLOSED = 12, 12, 60, 500
_FEW, _BEYOND = 4, 1.0
_SLOPE = 0.5  # deviations of the labels per deviation of what is expected


@dataclass(eq=False)
class ProcessMember:
    """An additive Gaussian process; with ``warp`` of targets bent towards a normal distribution.

    Where it is ``expecting`` its mean, before labels, is half of `Views.expected`.

    What it predicts stays within a deviation of the range of the targets.

    Up to 12 labels each is left out and everything fitted anew; up to 60 a twelfth at a time; up to 500 the variances
    and lengths are those of all labels, but columns are screened anew: screening with a label finds columns that go
    with it. Beyond, the closed form leaves out each with all but the weights as they are.
    ``deviation``: what is expected of the error of ``held_out``, ``(n,)``.
    """

    process: AdditiveGP
    warp: Warp
    held_out: Array
    deviation: Array

    components: tuple[Component, ...] = ()
    warped = False
    expecting = False

    @classmethod
    def fit(cls, views: Views, targets: Array, *, seed: int, sign: int) -> Self:
        if len(targets) > LARGEST:
            rows = np.sort(np.random.default_rng(seed).permutation(len(targets))[:LARGEST])
            part = cls.fit(views.rows(rows), targets[rows], seed=seed, sign=sign)
            held_out, deviation = part.predict(views), part.spread(views)
            held_out[rows], deviation[rows] = part.held_out, part.deviation
            part.held_out, part.deviation = held_out, deviation
            return part
        found = cls._fit(views, targets, seed)
        folds = _folds(len(targets), seed)
        if folds is not None:
            hyper = found.process.hyper if len(targets) > _ANEW else None
            for fold in range(int(folds.max()) + 1):
                inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
                part, seen = cls._fit(views.rows(inside), targets[inside], seed, hyper), views.rows(outside)
                found.held_out[outside], found.deviation[outside] = part.predict(seen), part.spread(seen)
        return found

    @classmethod
    def _fit(cls, views: Views, targets: Array, seed: int, hyper: Array | None = None) -> Self:
        expected = cls._expected(views)
        targets = targets - expected
        # Linear kernels go on without bound where a network is unlike all labelled ones
        low, high = float(targets.min()) - _BEYOND, float(targets.max()) + _BEYOND
        warp = Warp(1.0, low=low, high=high)
        if cls.warped and len(targets) > _FEW and np.ptp(targets) > 0:
            warp = Warp.fit(targets)
        process = AdditiveGP.fit(views, warp.forward(targets), cls.components, seed=seed, hyper=hyper)
        found = cls(process, warp, process.held_out, process.deviation.copy())
        found.held_out = expected + warp.backward(process.held_out)
        return found

    @classmethod
    def _expected(cls, views: Views) -> Array:
        if not cls.expecting or views.expected is None:
            return np.zeros(len(views))
        return np.asarray(_SLOPE * views.expected)

    def predict(self, views: Views) -> Array:
        return self._expected(views) + self.warp.backward(self.process.predict(views))

    def spread(self, views: Views) -> Array:
        """Return the standard deviation expected of a measurement, ``(m,)``."""
        return self.process.spread(views)

    def to_state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        process = self.process
        arrays = {"hyper": process.hyper, "weights": process.weights}
        arrays |= {
            f"support/{name}": process.counts.get(name, matrix.astype(np.float32))
            for name, matrix in process.support.items()
        }
        for name, block in process.blocks.items():
            arrays |= {f"block/{name}/{part}": array for part, array in block.arrays().items()}
        return arrays, {"warp": asdict(self.warp)}

    @classmethod
    def from_state(cls, arrays: dict[str, Array], document: dict[str, Any]) -> Self:
        names = dict.fromkeys(name for name, _ in cls.components)
        blocks = {
            name: Block(
                name, *(arrays[f"block/{name}/{part}"] for part in ("columns", "centre", "scale", "stretch"))
            )
            for name in names
        }
        counts, support = {}, {}
        for name, block in blocks.items():
            rows = arrays[f"support/{name}"]
            if rows.dtype == np.uint8:
                counts[name] = rows
                rows = block.of_counts(rows).astype(np.float32)
            support[name] = np.ascontiguousarray(rows, np.float64)
        empty = np.zeros(0)
        process = AdditiveGP(
            cls.components, blocks, arrays["hyper"], support, arrays["weights"], empty, empty, counts
        )
        return cls(process, Warp(**document["warp"]), empty, empty)


_COSTS: tuple[Component, ...] = (("costs", "linear"), ("costs", "smooth"))
_GRAPH: tuple[Component, ...] = (("graph", "linear"), ("graph", "local"))
_STRUCTURE: tuple[Component, ...] = (("structure", "linear"), ("structure", "local"))
_LEARNT: tuple[Component, ...] = (
    ("embedding", "linear"), ("embedding", "local"), ("outputs", "linear"), ("outputs", "local"),
    ("home", "linear"), ("home", "local"),
)  # fmt: skip


class Process(ProcessMember):
    """The process over all views."""

    components = _COSTS + _GRAPH + _STRUCTURE + _LEARNT
    expecting = True


class WarpedProcess(Process):
    """The same on warped targets: accuracies have a long tail of networks that hardly learn."""

    warped = True


class CountingProcess(ProcessMember):
    """The process over costs, graph features and structure alone: what no source can mislead."""

    components = _COSTS + _GRAPH + _STRUCTURE


class Ridge(ProcessMember):
    """Ridge regression in which every view has a penalty of its own: the process with linear kernels only."""

    components = tuple((name, "linear") for name in BLOCKS)


def _folds(count: int, seed: int) -> Array | None:
    """Return the fold of each of n labels, None where leaving out has a closed form that is good enough."""
    if count > _CLOSED:
        return None
    order = np.random.default_rng(seed).permutation(count)
    folds = np.empty(count, np.int64)
    folds[order] = np.arange(count) % (count if count <= _EACH else _FOLDS)
    return folds
