"""Everything a run needs to go on where it was, in one file that is always whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from aiop.errors import AiopError
from aiop.graph_ir.tensor_file import atomic_path, read_header

__all__ = ["SCHEMA", "load_checkpoint", "save_checkpoint"]

SCHEMA = 1


def save_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Replace the checkpoint at ``path`` in one move; a kill leaves the old one."""
    metadata = {"aiop": json.dumps({"kind": "aiop-checkpoint", "schema": SCHEMA, "state": state})}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata)


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint.

    Raises:
        AiopError: for a damaged file, or one of another version.
    """
    metadata, _ = read_header(path)
    try:
        header = json.loads(metadata["aiop"])
        if (header["kind"], header["schema"]) != ("aiop-checkpoint", SCHEMA):
            raise KeyError(header["schema"])
        state: dict[str, Any] = dict(header["state"])
        return safetensors.torch.load_file(path), state
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise AiopError(
            f"checkpoint {path} is not one of this version ({error}): delete it to train from the start"
        ) from None
