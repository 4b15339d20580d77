"""What `aiop latent build` is asked to do: data, sizes and schedules, read strictly from YAML."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aiop.errors import AiopError, suggest
from aiop.strict import at_least
from aiop.tasks.latent.heads import GROUPS
from aiop.tasks.latent.settings_file import SettingsFile
from aiop.tasks.latent.shrinking import ShrinkingSettings
from aiop.tasks.latent.training import FitSettings, LabelSettings

__all__ = [
    "BodiesConfig",
    "CocoData",
    "CocoSplit",
    "DataConfig",
    "DigitsData",
    "GroupConfig",
    "LatentConfig",
    "digest",
]

_NAME = "config.yaml"


def digest(*parts: object) -> str:
    """16 hexadecimal digits of values that JSON can hold.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class DigitsData:
    """Embedded scenes of digits: how many to train on, and how many to measure on."""

    train: int = 2000
    test: int = 500

    def __post_init__(self) -> None:
        at_least(self, 8, "train", "test")


@dataclass(frozen=True, kw_only=True)
class CocoSplit:
    """A folder of images and the annotation file (JSON) in COCO's format that describes them."""

    images: str
    annotations: str


@dataclass(frozen=True, kw_only=True)
class CocoData:
    """Two COCO-format folders: to train on, and to measure on."""

    train: CocoSplit
    test: CocoSplit


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The data: ``digits`` or ``coco``, one of them. size: sides of the images, pixels, a multiple of 32."""

    digits: DigitsData | None = None
    coco: CocoData | None = None
    size: int = 64

    def __post_init__(self) -> None:
        if (self.digits is None) == (self.coco is None):
            raise AiopError("setting 'data' needs one of 'digits' and 'coco'")
        at_least(self, 32, "size")
        if self.size % 32 or self.size > 1024:
            raise AiopError(f"setting 'size' is {self.size}: give a multiple of 32, at most 1024")


@dataclass(frozen=True, kw_only=True)
class BodiesConfig:
    """How many bodies there are; no two of them are one network, whatever they serve for.

    truth: trained individually; they get pseudo-labels too, to compare.
    repeats: of these, the first so many are trained a second time with another seed, to see the noise.
    pseudo: that get pseudo-labels only.
    bins: of total depth, and bodies present at once where heads are trained. per_bin: bodies of each bin.
    """

    truth: int = 60
    repeats: int = 4
    pseudo: int = 400
    bins: int = 5
    per_bin: int = 20

    def __post_init__(self) -> None:
        at_least(self, 1, "truth", "per_bin")
        at_least(self, 0, "repeats", "pseudo")
        at_least(self, 2, "bins")
        if self.repeats > self.truth:
            raise AiopError(f"setting 'repeats' is {self.repeats}: give at most 'truth', {self.truth}")


@dataclass(frozen=True, kw_only=True)
class GroupConfig:
    """The trainings of one group of tasks: of the shared heads, of pseudo-labels, of truth.

    measured: scenes of the test split that labels of the group are measured on; 0: those of the data. Data that are
        drawn may be drawn in larger numbers for a group whose figures would be noisy otherwise.
    threshold: of PCK, as a share of the object's longer side; for keypoints only. None is a tenth.
    """

    shared: FitSettings
    pseudo: LabelSettings
    truth: LabelSettings
    measured: int = 0
    threshold: float | None = None

    def __post_init__(self) -> None:
        at_least(self, 0, "measured")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise AiopError(f"setting 'threshold' is {self.threshold}: give a number above 0, at most 1")

    def figures(self) -> list[dict[str, float]]:
        """What figures depend on beside the trainings, for digests: nothing where all is at its default."""
        chosen = {"measured": self.measured or None, "threshold": self.threshold}
        given = {name: value for name, value in chosen.items() if value is not None}
        return [given] if given else []


@dataclass(frozen=True, kw_only=True)
class LatentConfig:
    """One build.

    Attributes:
        out: folder for checkpoints, labels and the table; relative to the file's own folder.
        data: images and annotations.
        groups: group of tasks -> its trainings: ``classification``, ``keypoints``, and ``dense`` (detection, instance,
            semantic and panoptic segmentation from one training).
        supernet: its training on classification.
        bodies: how many.
        calibration: images of the training split that batch statistics of a body from the supernet are estimated from.
        swapping: also train heads by body swapping, and give the bodies of truth pseudo-labels with them, to compare.
        seed: of everything that is drawn.
        source: the file that this is from; not a setting.
    """

    out: str
    data: DataConfig
    groups: Mapping[str, GroupConfig]
    supernet: ShrinkingSettings = field(default_factory=ShrinkingSettings)
    bodies: BodiesConfig = field(default_factory=BodiesConfig)
    calibration: int = 256
    swapping: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, 0, "seed")
        at_least(self, 8, "calibration")
        if not self.groups:
            raise AiopError(f"setting 'groups' is empty: name some of {', '.join(GROUPS)}")
        for group, trainings in self.groups.items():
            if group not in GROUPS:
                raise AiopError(
                    f"setting 'groups' has {group!r}{suggest(group, GROUPS)}: the groups are {', '.join(GROUPS)}"
                )
            if trainings.threshold is not None and group != "keypoints":
                raise AiopError(f"setting 'groups' has 'threshold' for {group}: only keypoints have one")
            if trainings.measured and self.data.digits is None:
                raise AiopError(
                    f"setting 'groups' has 'measured' for {group}, but only digits can be drawn: leave it out"
                )

    @classmethod
    def load(cls, path: str | Path) -> LatentConfig:
        """Read a YAML file; relative paths in it are relative to its own folder.

        Raises:
            AiopError: for a file that cannot be read, and for unknown, missing and wrong settings: all of them at once,
                each with its line.
        """
        file = SettingsFile(Path(path))
        config = file.read(cls)
        return config.relative_to(Path(path).resolve().parent)

    def relative_to(self, folder: Path) -> LatentConfig:
        """The same with every path made absolute from ``folder``."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["out"] = str(folder / self.out)
        if self.data.coco is not None:
            splits = {
                name: CocoSplit(
                    images=str(folder / split.images), annotations=str(folder / split.annotations)
                )
                for name, split in (("train", self.data.coco.train), ("test", self.data.coco.test))
            }
            values["data"] = DataConfig(coco=CocoData(**splits), size=self.data.size)
        return LatentConfig(**values)

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return Path(self.out)

    def methods(self) -> tuple[str, ...]:
        """Kinds of shared heads."""
        return ("latent", "swapping") if self.swapping else ("latent",)

    def plain(self) -> dict[str, Any]:
        """All settings as JSON holds them, without `out`, which changes no number."""
        return {name: value for name, value in asdict(self).items() if name != "out"}
