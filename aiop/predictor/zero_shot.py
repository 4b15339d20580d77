"""What a predictor says about tasks that it was not trained on, from their descriptions alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aiop.errors import AiopError
from aiop.pretrain.description import describe
from aiop.pretrain.module import Ensemble
from aiop.tasks.task import Task

__all__ = ["described_outputs"]

Array = npt.NDArray[Any]


def described_outputs(
    module: Ensemble, known: Sequence[str], embedding: Array, graph: Array, tasks: Sequence[Task]
) -> Array:
    """Return scaled predictions (n, K) of K tasks for networks with embeddings (n, D) and graph features (n, G).

    They rank networks as the task's values would, larger for larger values; their scale is that of scaled targets.
    ``known`` names the tasks of the module: where targets leave costs out, an unseen task takes the mean relation to
    costs of those in its domain, of all where there is none.

    Raises:
        AiopError: for a module whose heads know no descriptions, or embeddings of another one.
    """
    if embedding.shape[1] != module.embedding:
        raise AiopError(
            f"the views have embeddings of {embedding.shape[1]} numbers, the predictor's have {module.embedding}: "
            "make them with this predictor"
        )
    if not tasks:
        return np.zeros((len(embedding), 0), np.float32)
    similar = np.array(
        [[name.partition("/")[0] == task.domain for name in known] for task in tasks], np.float32
    )
    similar[~similar.any(axis=1)] = 1.0
    similar /= similar.sum(axis=1, keepdims=True)
    device = next(module.parameters()).device
    given = (embedding, graph, np.stack([describe(task) for task in tasks]), similar)
    with torch.inference_mode():
        tensors = [torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device) for array in given]
        found: Array = module.zero_shot(*tensors).cpu().numpy()
    return found
