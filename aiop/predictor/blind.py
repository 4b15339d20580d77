"""Networks whose output does not depend on their input: training shows few, and what they reach is known without any.

A search space that can leave every path out holds a few of them (a cell of ``none`` operations alone). A classifier
that does not see its image is at chance, the worst that a task knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.finetune.zero_labels import COST_DOMAINS
from aiop.graph_ir.features import GraphArrays
from aiop.graph_ir.operators import VOCABULARY
from aiop.pretrain.weights_io import TaskCard

__all__ = ["blind", "worst_known"]

Array = npt.NDArray[Any]

_INPUT = VOCABULARY.index("Input")


def blind(graphs: Iterable[GraphArrays]) -> Array:
    """Return which of n encoded graphs do not depend on any input, bool ``(n,)``.

    The canonical form keeps nothing that does not reach an output, so that an input of such a graph leads nowhere.
    """
    return np.array([not (graph.op[graph.edge_index[0]] == _INPUT).any() for graph in graphs], bool)


def worst_known(tasks: Sequence[TaskCard]) -> Array:
    """Return the scaled target of the worst label of every task of quality, ``(T,)``; NaN for what a network costs.

    NaN as well where targets were not scaled by rank: only ranks keep the worst label.
    """
    return np.array([_worst(task) for task in tasks], np.float32)


def _worst(task: TaskCard) -> float:
    if task.name.partition("/")[0] in COST_DOMAINS or task.scaler.scaling != "rank-gaussian":
        return np.nan
    return task.scaler.scaled[0 if task.direction == "max" else -1]
