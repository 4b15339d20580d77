"""The checkpoint file of `aiop.graph_ir.checkpoint`, under the name that pretraining and baselines use."""

from __future__ import annotations

from aiop.graph_ir.checkpoint import (
    SCHEMA,
    load_checkpoint,
    resume_checkpoint,
    save_checkpoint,
    save_tensors,
    under,
)

__all__ = ["SCHEMA", "load_checkpoint", "resume_checkpoint", "save_checkpoint", "save_tensors", "under"]
