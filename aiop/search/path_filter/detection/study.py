"""A detection supernet trained with a path filter and without it, at equal steps, and what each finds at every cost.

Both arms go on from one short warm-up on bodies of the whole space. Bodies of all costs are labelled with the shared
weights by their box AP, a filter is fitted to what a predictor sees of them, and one arm then draws bodies of the whole
space, the other only those that the filter leaves over. After that both search for the front in the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from aiop.errors import AiopError
from aiop.search.path_filter.detection.detector import (
    DetectionSettings,
    Detector,
    Drawn,
    Survivors,
    Trained,
    WholeSpace,
    box_ap,
    train_detector,
)
from aiop.search.path_filter.detection.fronts import front
from aiop.search.path_filter.detection.ledger import Evaluations
from aiop.search.path_filter.detection.pool import Pool
from aiop.strict import at_least, between
from aiop.tasks.latent.body import Body
from aiop.tasks.latent.config import digest
from aiop.tasks.latent.digits import digit_scenes
from aiop.tasks.latent.draws import seed_of
from aiop.tasks.latent.heads import head_for
from aiop.tasks.latent.heads.base import Prepared
from aiop.tasks.latent.scene import InMemoryScenes, SceneSpec
from aiop.tasks.latent.supernet import Supernet

__all__ = ["ARMS", "WARM_UP", "Candidates", "Filter", "Scenery", "Study", "StudySettings", "digit_scenery"]

ARMS = ("whole", "survivors")
WARM_UP = "warm-up"

Array = npt.NDArray[Any]
Watch = Callable[[str, int, int, str], None]  # stage, done, in all, note


class Filter(Protocol):
    """What the study asks of a path filter; all arrays over n bodies."""

    def score(self, features: Array, macs: Array) -> Array:
        """Larger is better among bodies of like cost, ``(n,)``."""

    def keep(self, features: Array, macs: Array, share: float) -> Array:
        """Which bodies survive, bool ``(n,)``."""


Fit = Callable[[Array, Array, Array, int], Filter]  # features, macs, values, seed


@dataclass(frozen=True)
class StudySettings:
    """Sizes of a study.

    warm_up, arm: trainings, before the labels and after them. labels: bodies that the filter is fitted to. share: of
    the pool that survives. bins: ranges of cost, as many bodies of the pool in each. calibration: images that batch
    statistics are estimated from.

    Raises:
        AiopError: for a value out of its range.
    """

    warm_up: DetectionSettings = field(default_factory=lambda: DetectionSettings(steps=400))
    arm: DetectionSettings = field(default_factory=DetectionSettings)
    labels: int = 80
    share: float = 0.2
    bins: int = 8
    calibration: int = 256

    def __post_init__(self) -> None:
        at_least(self, 2, "labels", "calibration")
        at_least(self, 1, "bins")
        between(self, 1e-6, 1, "share")


@dataclass(frozen=True)
class Scenery:
    """The data of a study, prepared by a detection head: to train on, to choose by, to judge by."""

    spec: SceneSpec
    train: Prepared
    validation: Prepared
    test: Prepared


def digit_scenery(train: int, validation: int, test: int, *, seed: int = 0, size: int = 64) -> Scenery:
    """Draw scenes of digits. Validation has scenes of its own, of the scans to train with; test has scans of its own.

    Raises:
        AiopError: for no scene, or a size that the detection head does not take.
    """
    drawn = digit_scenes("train", train + validation, seed, size)
    spec = drawn.spec
    head = head_for("dense", spec, Body.channels, Body.strides)
    first, second = (
        head.prepare(InMemoryScenes(spec, [drawn[row] for row in rows]))
        for rows in (range(train), range(train, train + validation))
    )
    return Scenery(spec, first, second, head.prepare(digit_scenes("test", test, seed, size)))


@dataclass(frozen=True, eq=False)
class Candidates:
    """Bodies that were evaluated with the weights of one arm.

    rows: int64 ``(n,)``, places in the pool. macs: ``(n,)``. validation, test: box AP in %, ``(n,)``, nan where it was
    not measured.
    """

    rows: Array
    macs: Array
    validation: Array
    test: Array


class Study:
    """One seed of the comparison; everything is made when it is first asked for, and kept in a folder.

    supernet: with classification weights. scenery: the data. pool: bodies to filter and to search. fit: makes a filter.
    folder: of checkpoints and evaluations. seed: of everything that is drawn. watch: is told how things get on.

    Raises:
        AiopError: for more labels than bodies.
    """

    def __init__(
        self,
        supernet: Supernet,
        scenery: Scenery,
        pool: Pool,
        fit: Fit,
        settings: StudySettings,
        folder: Path,
        *,
        seed: int = 0,
        watch: Watch = lambda stage, done, total, note: None,
    ) -> None:
        if settings.labels > len(pool):
            raise AiopError(
                f"{settings.labels} labels need as many bodies and the pool has {len(pool)}: draw a larger pool"
            )
        self.scenery, self.pool, self.settings, self.folder, self.seed = scenery, pool, settings, folder, seed
        self._supernet, self._fit, self._watch = supernet, fit, watch
        self._trained: dict[str, tuple[Detector, Trained]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.evaluations = Evaluations(folder / "evaluations.jsonl")
        self.edges, self.bins = pool.bins(settings.bins)

    def trained(self, stage: str) -> tuple[Detector, Trained]:
        """The detector after the ``"warm-up"`` or an arm (`ARMS`), in evaluation mode, and what its training cost."""
        if stage not in self._trained:
            drawn: Drawn = self.survivors if stage == "survivors" else WholeSpace()
            classes = self._supernet.classifier.out_features
            detector = Detector(Supernet(classes), self.scenery.spec, seed_of(self.seed, "detection head"))
            warm_up = stage == WARM_UP
            if warm_up:
                detector.supernet.load_state_dict(self._supernet.state_dict())
            else:
                detector.load_state_dict(self.trained(WARM_UP)[0].state_dict())
            cost = train_detector(
                detector,
                self.scenery.train,
                drawn,
                self.settings.warm_up if warm_up else self.settings.arm,
                # Both arms see the same images in the same order.
                seed=seed_of(self.seed, WARM_UP if warm_up else "arm"),
                checkpoint=self.folder / f"{stage}.safetensors",
                progress=lambda done, total, loss: self._watch(stage, done, total, f"loss {loss:.3f}"),
            )
            self._trained[stage] = detector, cost
        return self._trained[stage]

    @cached_property
    def labelled(self) -> Array:
        """Places of the bodies that get a label, int64 ``(labels,)``: one of each of as many ranges of cost."""
        random = np.random.default_rng(seed_of(self.seed, "labels"))
        ranges = np.array_split(np.argsort(self.pool.macs, kind="stable"), self.settings.labels)
        return np.array([random.choice(places) for places in ranges], np.int64)

    @cached_property
    def labels(self) -> Array:
        """Box AP in % of the labelled bodies with the weights of the warm-up, ``(labels,)``."""
        return self.measure(WARM_UP, "validation", self.labelled)

    @cached_property
    def filter(self) -> Filter:
        """The filter that was fitted to the labels."""
        rows = self.labelled
        return self._fit(self.pool.features[rows], self.pool.macs[rows], self.labels, self.seed)

    @cached_property
    def kept(self) -> Array:
        """Places of the bodies that survive, int64, increasing."""
        kept = self.filter.keep(self.pool.features, self.pool.macs, self.settings.share)
        return np.flatnonzero(kept)

    @property
    def survivors(self) -> Survivors:
        """The bodies that survive, to draw from."""
        return Survivors([self.pool.codes[row] for row in self.kept])

    def measure(self, stage: str, split: str, rows: Iterable[int]) -> Array:
        """Box AP in % of bodies by their places, with the weights of a stage, on ``"validation"`` or ``"test"``."""
        data: Prepared = getattr(self.scenery, split)
        identity, places = self._identity(stage, split), [int(row) for row in rows]
        found = []
        for done, row in enumerate(places, start=1):
            code = self.pool.codes[row]
            found.append(self.evaluations.get(identity, code, lambda: self._box_ap(stage, code, data)))  # noqa: B023
            self._watch(f"{stage}, {split}", done, len(places), f"AP {found[-1]:.2f}")
        return np.array(found)

    def seconds(self, stage: str, split: str, rows: Iterable[int]) -> float:
        """CPU seconds that the evaluations of `measure` took when they were made."""
        identity = self._identity(stage, split)
        return sum(self.evaluations.seconds(identity, self.pool.codes[int(row)]) for row in rows)

    def candidates(self, of: str, count: int) -> Array:
        """Draw up to ``count`` bodies of each bin, of the ``"whole"`` pool or of its ``"survivors"``: places ``(m,)``.

        More of them begin with the same in every bin; the order is bin by bin.
        """
        members = np.arange(len(self.pool)) if of == "whole" else self.kept
        found = []
        for place in range(self.settings.bins):
            inside = members[self.bins[members] == place]
            random = np.random.default_rng(seed_of(self.seed, "candidates", of, place))
            found.append(random.permutation(inside)[:count])
        return np.concatenate(found).astype(np.int64)

    def best_scored(self) -> Array:
        """Places of the survivor that the filter scores highest in each bin; no body is evaluated for it."""
        scores = self.filter.score(self.pool.features, self.pool.macs)
        inside = [self.kept[self.bins[self.kept] == place] for place in range(self.settings.bins)]
        return np.array([rows[int(np.argmax(scores[rows]))] for rows in inside if len(rows)], np.int64)

    def search(self, arm: str, of: str, count: int) -> Candidates:
        """Evaluate candidates on validation with the weights of an arm, and those on the front on test."""
        rows = self.candidates(of, count)
        macs, validation = self.pool.macs[rows], self.measure(arm, "validation", rows)
        test = np.full(len(rows), np.nan)
        best = front(macs, validation)
        test[best] = self.measure(arm, "test", rows[best])
        return Candidates(rows, macs, validation, test)

    def _box_ap(self, stage: str, code: str, data: Prepared) -> float:
        return box_ap(self.trained(stage)[0], code, self._calibration, data)

    @cached_property
    def _calibration(self) -> Tensor:
        count = min(self.settings.calibration, len(self.scenery.train))
        return self.scenery.train.batch(range(count))[0]

    def _identity(self, stage: str, split: str) -> str:
        """Digest of all that an evaluation depends on beside the body."""
        bodies = self.survivors.identity if stage == "survivors" else ""
        return digest(self._common, stage, split, bodies)

    @cached_property
    def _common(self) -> str:
        seen = hashlib.sha256()
        for value in self._supernet.state_dict().values():
            seen.update(value.contiguous().numpy().tobytes())
        sizes = [len(self.scenery.train), len(self.scenery.validation), len(self.scenery.test)]
        settings = asdict(self.settings)
        for part in ("warm_up", "arm"):
            del settings[part]["every"]
        return digest(seen.hexdigest(), self.pool.identity, settings, sizes, self.seed)
