"""What every piece of work of a build needs, made when it is asked for: scenes, targets, supernet, shared heads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from aiop.errors import AiopError
from aiop.graph_ir.checkpoint import load_checkpoint, save_checkpoint, under
from aiop.tasks.latent.body import Body
from aiop.tasks.latent.config import GroupConfig, LatentConfig, digest
from aiop.tasks.latent.draws import seed_of
from aiop.tasks.latent.heads import head_for
from aiop.tasks.latent.heads.base import Prepared, TaskHead
from aiop.tasks.latent.labels import Figures, GroupData, extracted, fresh_head, pseudo_label, true_label
from aiop.tasks.latent.latent_sampling import BodyBank, BodySwapper, LatentSampler, Source
from aiop.tasks.latent.ledger import Label
from aiop.tasks.latent.scene import InMemoryScenes, Scenes
from aiop.tasks.latent.shared_heads import HeadTraining, train_shared_head
from aiop.tasks.latent.shrinking import train
from aiop.tasks.latent.supernet import SMALLEST_CODE, Supernet
from aiop.tasks.latent.training import LabelSettings, Progress

__all__ = ["HeadJob", "Job", "LabelJob", "Studio", "make_scenes"]

METHODS: dict[str, type[LatentSampler | BodySwapper]] = {"latent": LatentSampler, "swapping": BodySwapper}

Bins = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class HeadJob:
    """Train the shared head of a group by a method (``latent``, ``swapping``), on the bodies of these bins of depth."""

    method: str
    group: str
    bins: Bins
    seed: int
    identity: str


@dataclass(frozen=True)
class LabelJob:
    """Label one body: ``truth``, or with the shared head of the method ``kind``.

    identity: of all that the label depends on. head_identity: of the shared head; empty for truth.
    """

    kind: str
    code: str
    group: str
    seed: int
    identity: str
    head_identity: str = ""


Job = HeadJob | LabelJob


def make_scenes(config: LatentConfig, note: Callable[[str], None] = lambda text: None) -> dict[str, Scenes]:
    """The scenes to train on and to measure on, by split; what was left out of them is told to ``note``.

    Raises:
        AiopError: for data of which nothing can be used, and splits that name different classes.
    """
    data = config.data
    if data.digits is not None:
        from aiop.tasks.latent.digits import digit_scenes

        return {
            "train": digit_scenes("train", data.digits.train, config.seed, data.size),
            "test": digit_scenes("test", data.digits.test, config.seed, data.size),
        }
    from aiop.tasks.latent.coco_folder import CocoFolder

    assert data.coco is not None
    found: dict[str, Scenes] = {}
    for split, place in (("train", data.coco.train), ("test", data.coco.test)):
        folder = CocoFolder(Path(place.images), Path(place.annotations), data.size)
        for problem in folder.problems:
            note(str(problem))
        found[split] = folder
    if found["train"].spec != found["test"].spec:
        raise AiopError(
            f"{data.coco.train.annotations} and {data.coco.test.annotations} name different classes or keypoints: "
            "give both files the same categories"
        )
    return found


class Studio:
    """The parts of one build, in one process; each is made once, when it is first asked for.

    config: of the build. scenes: by split, where they have been made already.
    """

    def __init__(self, config: LatentConfig, scenes: dict[str, Scenes] | None = None) -> None:
        self.config = config
        self.scenes = make_scenes(config) if scenes is None else scenes
        self._groups: dict[str, GroupData] = {}
        self._heads: dict[tuple[str, str], TaskHead] = {}

    @cached_property
    def data_identity(self) -> str:
        """Digest of what the data is, by its settings and by a few of its scenes."""
        parts: list[object] = [asdict(self.config.data), self.config.seed]
        for split, scenes in sorted(self.scenes.items()):
            rows = np.unique(np.linspace(0, len(scenes) - 1, min(len(scenes), 16)).astype(int))
            content = hashlib.sha256()
            for row in rows:
                scene = scenes[int(row)]
                for array in (scene.image, scene.classes, scene.boxes, scene.masks, scene.semantic):
                    content.update(np.ascontiguousarray(array).tobytes())
            parts.append([split, len(scenes), content.hexdigest()])
        return digest(*parts)

    @cached_property
    def supernet_identity(self) -> str:
        """Digest of all that the supernet depends on."""
        settings = {name: value for name, value in asdict(self.config.supernet).items() if name != "every"}
        return digest(self.data_identity, settings, self.config.seed)

    @cached_property
    def bodies_identity(self) -> str:
        """Digest of all that a body from the supernet depends on."""
        return digest(self.supernet_identity, self.config.calibration)

    @property
    def supernet_path(self) -> Path:
        """Where the finished supernet lies."""
        return self.config.folder / "supernet.safetensors"

    def head_path(self, method: str, group: str) -> Path:
        """Where a shared head lies, finished or not."""
        return self.config.folder / "heads" / f"{method}-{group}.safetensors"

    def group(self, group: str) -> GroupData:
        """Targets of a group of tasks."""
        if group not in self._groups:
            spec = self.scenes["train"].spec

            trainings = self.config.groups.get(group)  # the supernet needs classification, asked for or not
            threshold = None if trainings is None else trainings.threshold

            def make() -> TaskHead:
                return head_for(group, spec, Body.channels, Body.strides, threshold)

            head = make()
            prepared = {
                split: head.prepare(scenes)
                for split, scenes in (self.scenes | self._measured(trainings)).items()
            }
            images, _ = prepared["train"].batch(range(min(self.config.calibration, len(prepared["train"]))))
            self._groups[group] = GroupData(group, make, prepared["train"], prepared["test"], images)
        return self._groups[group]

    def _measured(self, trainings: GroupConfig | None) -> dict[str, Scenes]:
        """Scenes that the labels of a group are measured on, where they are not those of the data."""
        if trainings is None or not trainings.measured:
            return {}
        from aiop.tasks.latent.digits import digit_scenes

        return {"test": digit_scenes("test", trainings.measured, self.config.seed, self.config.data.size)}

    def train_supernet(self, progress: Progress | None = None) -> float:
        """Train the supernet, or go on with it; returns CPU seconds over all its parts. A finished one stays.

        Raises:
            AiopError: where the folder holds a supernet of other settings or data.
        """
        if self.supernet_path.exists():
            return self._supernet_file[1]
        part = self.supernet_path.with_suffix(".part.safetensors")
        classes = len(self.scenes["train"].spec.things)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(self.config.seed, "supernet"))
            supernet = Supernet(classes)
        shrunk = train(
            supernet,
            self._classification(),
            self.config.supernet,
            seed=seed_of(self.config.seed, "shrinking"),
            checkpoint=part,
            progress=progress,
        )
        state = {
            "supernet": {"classes": classes},
            "identity": self.supernet_identity,
            "seconds": shrunk.seconds,
        }
        save_checkpoint(self.supernet_path, supernet.state_dict(), state)
        part.unlink(missing_ok=True)
        return shrunk.seconds

    def _classification(self) -> Prepared:
        return self.group("classification").train

    @cached_property
    def _supernet_file(self) -> tuple[Supernet, float]:
        _, state = load_checkpoint(self.supernet_path)
        if state.get("identity") != self.supernet_identity:
            raise AiopError(
                f"{self.supernet_path} was made with other settings or data: give another `out`, or begin anew with "
                "--fresh"
            )
        return Supernet.load(self.supernet_path).eval().requires_grad_(False), float(state["seconds"])

    @property
    def supernet(self) -> Supernet:
        """The finished supernet."""
        return self._supernet_file[0]

    def source(self, method: str, group: str, bins: Sequence[Sequence[str]], seed: int) -> Source:
        """The features that a method trains the head of a group on."""
        calibration = self.group(group).calibration
        bank = BodyBank(lambda code: extracted(self.supernet, code, calibration), most=128)
        return METHODS[method](bank, bins, seed)

    def train_head(self, job: HeadJob, progress: Progress | None = None) -> HeadTraining:
        """Train a shared head, or go on with it; a finished one stays."""
        data = self.group(job.group)
        head = fresh_head(data, job.seed)
        source = self.source(job.method, job.group, job.bins, job.seed)
        return train_shared_head(
            head,
            source,
            data.train,
            self.config.groups[job.group].shared,
            seed=job.seed,
            checkpoint=self.head_path(job.method, job.group),
            identity=job.identity,
            progress=progress,
        )

    def head_done(self, job: HeadJob) -> float | None:
        """CPU seconds of a finished shared head; None where it is not finished.

        Raises:
            AiopError: where the folder holds one of other settings.
        """
        path = self.head_path(job.method, job.group)
        if not path.exists():
            return None
        _, state = load_checkpoint(path)
        if state.get("identity") != job.identity:
            raise AiopError(
                f"{path} was made with other settings: give another `out`, or begin anew with --fresh"
            )
        finished = int(state["step"]) >= self.config.groups[job.group].shared.steps
        return float(state["seconds"]) if finished else None

    def shared_head(self, method: str, group: str, identity: str) -> TaskHead:
        """A finished shared head."""
        if (method, group) not in self._heads:
            tensors, state = load_checkpoint(self.head_path(method, group))
            if state.get("identity") != identity:
                raise AiopError(
                    f"{self.head_path(method, group)} changed while it was used: build once at a time"
                )
            head = self.group(group).make()
            head.load_state_dict(under(tensors, "head."))
            self._heads[method, group] = head.eval()
        return self._heads[method, group]

    def label(self, job: LabelJob, progress: Progress | None = None) -> Label:
        """Label a body."""
        data, trainings = self.group(job.group), self.config.groups[job.group]
        found: Figures
        if job.kind == "truth":
            found = true_label(job.code, self.supernet, data, trainings.truth, job.seed, progress)
        else:
            head = self.shared_head(job.kind, job.group, job.head_identity)
            found = pseudo_label(job.code, self.supernet, head, data, trainings.pseudo, job.seed, progress)
        return Label(
            kind=job.kind,
            code=job.code,
            group=job.group,
            seed=job.seed,
            figures=found.figures,
            seconds=round(found.seconds, 3),
            evaluation_seconds=round(found.evaluation_seconds, 3),
            identity=job.identity,
        )

    def do(self, job: Job, progress: Progress | None = None) -> HeadTraining | Label | str:
        """Do a piece of work; a label that could not be made is the reason why."""
        if isinstance(job, HeadJob):
            return self.train_head(job, progress)
        try:
            return self.label(job, progress)
        except AiopError as error:
            return str(error)

    def rehearse(self) -> None:
        """Go through every kind of work once with next to nothing, so that what is wrong shows before hours are spent.

        Raises:
            AiopError: for whatever would have stopped the build later.
        """
        few: dict[str, Scenes] = {split: _few(scenes) for split, scenes in self.scenes.items()}
        groups = {group: replace(trainings, measured=0) for group, trainings in self.config.groups.items()}
        small = Studio(replace(self.config, groups=groups), few)
        supernet = Supernet(len(self.scenes["train"].spec.things))
        for group, trainings in self.config.groups.items():
            data = small.group(group)
            shared = LabelSettings(**vars(trainings.shared))
            every = (shared, trainings.pseudo, trainings.truth)
            for brief in dict.fromkeys(replace(settings, steps=1, batch=2) for settings in every):
                true_label(SMALLEST_CODE, supernet, data, brief, seed=0)


def _few(scenes: Scenes, count: int = 24) -> InMemoryScenes:
    return InMemoryScenes(scenes.spec, [scenes[row] for row in range(min(count, len(scenes)))])
