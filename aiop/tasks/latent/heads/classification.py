"""The class of a scene's main object, from the pooled coarsest features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from aiop.tasks.latent.heads.base import Prepared, Record, TaskHead
from aiop.tasks.latent.metrics import top1
from aiop.tasks.latent.scene import Scene, SceneSpec

__all__ = ["ClassificationHead"]


class ClassificationHead(TaskHead):
    """Global average pool of the coarsest feature map, then one linear layer: the ``classification`` task."""

    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    group: ClassVar[str] = "classification"

    def __init__(self, spec: SceneSpec, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__(spec, channels, strides)
        self.linear = nn.Linear(self.channels[-1], len(spec.things))

    def record(self, scene: Scene) -> Record | None:
        main = scene.main
        if main is None:
            return None
        image = torch.from_numpy(np.ascontiguousarray(scene.image.transpose(2, 0, 1)))
        return {"image": image, "class": torch.tensor(int(scene.classes[main]))}

    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        return {"logits": self.linear(features[-1].mean(dim=(2, 3)))}

    def loss(self, outputs: dict[str, Tensor], targets: Record) -> Tensor:
        return functional.cross_entropy(outputs["logits"], targets["class"], label_smoothing=0.1)

    def decode(self, outputs: dict[str, Tensor]) -> list[Any]:
        """The class of every image."""
        return outputs["logits"].argmax(dim=1).tolist()

    def figures(self, predictions: list[Any], prepared: Prepared) -> dict[str, float]:
        """Top-1 accuracy, %."""
        if "class" not in prepared.memo:
            measured = [int(scene.classes[scene.main or 0]) for scene in prepared.truth()]
            prepared.memo["class"] = np.asarray(measured)
        return {"classification": top1(np.asarray(predictions), prepared.memo["class"])}
