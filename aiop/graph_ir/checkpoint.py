"""Everything a run needs to go on where it was, in one file that is always whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from aiop.errors import AiopError
from aiop.graph_ir.tensor_file import atomic_path, read_header

__all__ = ["SCHEMA", "load_checkpoint", "resume_checkpoint", "save_checkpoint", "save_tensors", "under"]

SCHEMA = 1


def save_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Replace the checkpoint at ``path`` in one move; a kill leaves the old one."""
    metadata = {"aiop": json.dumps({"kind": "aiop-checkpoint", "schema": SCHEMA, "state": state})}
    save_tensors(path, tensors, metadata)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Replace a safetensors file in one move; a folder that cannot be written or is full is an AiopError."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            safetensors.torch.save_file(kept, temporary, metadata)
        except SafetensorError as error:
            raise AiopError(f"{path} cannot be written ({error}): check folder and space") from None


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


def resume_checkpoint(
    path: Path, identity: Callable[[], Mapping[str, str]], otherwise: str
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read the checkpoint of a run of this ``identity``, which is asked for where there is one; else None.

    Raises:
        AiopError: for a damaged file, and one of another run: ``otherwise`` says so, with ``{key}`` for what differs.
    """
    if not path.exists():
        return None
    tensors, state = load_checkpoint(path)
    for key, value in identity().items():
        if state.get(key) != value:
            raise AiopError(f"checkpoint {path} is {otherwise.format(key=key)}")
    return tensors, state


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with ``prefix``, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
