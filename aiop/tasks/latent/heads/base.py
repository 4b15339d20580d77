"""What every task head offers: targets of a data set, a loss, and figures in %."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from aiop.errors import AiopError
from aiop.tasks.latent.scene import Scene, Scenes, SceneSpec

__all__ = ["TASKS", "BodyLike", "Prepared", "Record", "TaskHead", "to_input"]

TASKS = ("classification", "keypoints", "detection", "instance", "semantic", "panoptic")
MEMORY = 2**30  # bytes of records a prepared data set may hold; the rest is read again at every use

Record = dict[str, Tensor]  # of one scene: "image" uint8 (3, H, W), and targets


class BodyLike(Protocol):
    """What a head needs of a body: three feature maps, and how wide and how coarse they are."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Of every feature map, the finest first."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image to a cell, ascending."""

    def __call__(self, images: Tensor) -> Sequence[Tensor]: ...


def to_input(images: Tensor) -> Tensor:
    """uint8 ``(n, 3, H, W)`` -> float32 of the same shape within [-1, 1], channels last: what a body reads."""
    return images.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1.0)


@dataclass
class Prepared:
    """The scenes of which a head can learn, with their targets.

    Records are computed once and held as far as `MEMORY` allows; those beyond are computed again when asked for.

    rows: of the scenes that serve (a scene without a main object has no class, say); `len` counts these.
    memo: what the figures need of the truth, computed at the first evaluation.
    """

    scenes: Scenes
    rows: list[int]
    record: Callable[[Scene], Record | None]
    collate: Callable[[list[Record]], Record]
    held: list[Record | None]
    memo: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Tensor | Sequence[int]) -> tuple[Tensor, Record]:
        """Images float ``(n, 3, H, W)`` (`to_input`) and targets of the rows (0 .. len - 1) asked for."""
        collated = self.collate([self._at(int(row)) for row in rows])
        return to_input(collated.pop("image")), collated

    def truth(self) -> Iterator[Scene]:
        """The scenes that serve, in the order of the rows."""
        for row in self.rows:
            yield self.scenes[row]

    def _at(self, row: int) -> Record:
        held = self.held[row]
        if held is not None:
            return held
        made = self.record(self.scenes[self.rows[row]])
        if made is None:  # it served when it was prepared
            raise AiopError(f"scene {self.rows[row]} changed while it was used: keep the data set as it is")
        return made


class TaskHead(nn.Module, ABC):
    """Reads the feature maps of a body and serves the tasks of one group, all from one training.

    spec: what the labels of the data speak of. channels, strides: of the body's feature maps, finest first.
    """

    tasks: ClassVar[tuple[str, ...]]
    group: ClassVar[str]

    def __init__(self, spec: SceneSpec, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.spec, self.channels, self.strides = spec, tuple(channels), tuple(strides)

    def prepare(self, scenes: Scenes) -> Prepared:
        """Targets of a data set; they depend on the labels and the strides, not on the weights of the head.

        Raises:
            AiopError: where no scene can serve.
        """
        rows: list[int] = []
        held: list[Record | None] = []
        used = 0
        for row, scene in enumerate(scenes):
            record = self.record(scene)
            if record is None:
                continue
            used += sum(value.nbytes for value in record.values())
            rows.append(row)
            held.append(record if used <= MEMORY else None)
        if not rows:
            raise AiopError(
                f"none of the {len(scenes)} scenes has labels for {self.group}: "
                f"use data that has them, or leave {self.group} out"
            )
        return Prepared(scenes, rows, self.record, self.collate, held)

    @abstractmethod
    def record(self, scene: Scene) -> Record | None:
        """Image and targets of one scene; None where it has none for this head."""

    def collate(self, records: list[Record]) -> Record:
        """One batch of records: every entry stacked along a new first dimension."""
        return {name: torch.stack([record[name] for record in records]) for name in records[0]}

    @abstractmethod
    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """Feature maps ``(n, C_i, H_i, W_i)``, finest first -> raw outputs."""

    @abstractmethod
    def loss(self, outputs: dict[str, Tensor], targets: Record) -> Tensor:
        """The scalar to minimise, a mean over the batch."""

    @abstractmethod
    def decode(self, outputs: dict[str, Tensor]) -> list[Any]:
        """Raw outputs -> one prediction per image, as `figures` takes them."""

    @abstractmethod
    def figures(self, predictions: list[Any], prepared: Prepared) -> dict[str, float]:
        """Predictions for every row of the prepared scenes -> figure of every task of `tasks`, %."""

    def evaluate(self, body: BodyLike, prepared: Prepared, batch: int = 64) -> dict[str, float]:
        """Figures in % of this head on that body; both are left in the mode (training or not) they were in."""
        modules = [self, *([body] if isinstance(body, nn.Module) else [])]
        modes = [module.training for module in modules]
        for module in modules:
            module.eval()
        predictions: list[Any] = []
        try:
            with torch.inference_mode():
                for rows in torch.split(torch.arange(len(prepared)), batch):
                    images, _ = prepared.batch(rows)
                    predictions += self.decode(self(body(images)))
        finally:
            for module, mode in zip(modules, modes, strict=True):
                module.train(mode)
        return self.figures(predictions, prepared)
