"""MACs and parameters as numbers that learners compute with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.finetune.views import Views

__all__ = ["log_costs"]


def log_costs(views: Views) -> npt.NDArray[Any]:
    """Return log2 of one plus MACs and parameters, float64 ``(n, 2)``."""
    return np.log2(1.0 + np.stack([views.macs, views.params], axis=1).astype(np.float64))
