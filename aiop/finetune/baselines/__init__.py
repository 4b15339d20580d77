"""What a predictor has to beat: counting costs, trees and kernels on hand-made features and on codes, NCP, AIO-P.

`BASELINES` holds them all, each with scikit-learn's fit and predict on `aiop.finetune.views.Views`.
"""

from __future__ import annotations

from typing import Any

# Importing a module registers its baselines.
from aiop.finetune.baselines.base import BASELINES, Baseline, get_baseline
from aiop.finetune.baselines.codes import code_matrix, code_vector
from aiop.finetune.baselines.costs import CostRank, CostTrend, Macs, mean_cost_rank
from aiop.finetune.baselines.features import (
    Boosting,
    Forest,
    Process,
    Ridge,
    forest_features,
    forest_predict,
    hand_made,
)
from aiop.finetune.baselines.on_codes import FROM_SCRATCH, Perceptron
from aiop.finetune.baselines.transfer import OtherTasks, TransferFloor, TransferProcess

__all__ = [
    "BASELINES",
    "FROM_SCRATCH",
    "Baseline",
    "Boosting",
    "CostRank",
    "CostTrend",
    "Forest",
    "Macs",
    "OtherTasks",
    "Perceptron",
    "Process",
    "Ridge",
    "TransferFloor",
    "TransferProcess",
    "code_matrix",
    "code_vector",
    "forest_features",
    "forest_predict",
    "get_baseline",
    "hand_made",
    "mean_cost_rank",
]


def _aio_p(**options: Any) -> Baseline:
    """AIO-P as published; imported late, as it loads torch."""
    from aiop.finetune.baselines.aio_p import FewShotAioP

    return FewShotAioP(**options)


def _aio_p_tuned(**options: Any) -> Baseline:
    from aiop.finetune.baselines.aio_p import TunedAioP

    return TunedAioP(**options)


BASELINES["aio-p"] = _aio_p
BASELINES["aio-p-tuned"] = _aio_p_tuned
