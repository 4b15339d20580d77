"""A trained AIO-P: its networks, what they were trained on, and the file they are kept in."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import safetensors.torch
from safetensors import SafetensorError

from aiop.errors import AiopError
from aiop.finetune.baselines.aio_p.network import Adapter, AioPNetwork
from aiop.finetune.baselines.aio_p.store import GraphStore
from aiop.finetune.baselines.aio_p.vocabulary import LABELS
from aiop.graph_ir.checkpoint import save_tensors
from aiop.graph_ir.tensor_file import read_header

__all__ = ["AioP", "load_aio_p"]

_KIND, _SCHEMA = "aio-p", 1


@dataclass(frozen=True, eq=False)
class AioP:
    """A trained predictor: safetensors with JSON beside it, so that loading a file runs nothing.

    network: with one adapter per entry of ``adapters``.
    task: what the base was trained on.
    adapters: what each adapter was trained on.
    settings: of every training, under ``base`` and the tasks of the adapters.
    known: what the networks gave for graphs of a store, by name: draws of labels ask for the same ones again.
    """

    network: AioPNetwork
    task: str
    adapters: tuple[str, ...]
    settings: dict[str, Any]
    known: WeakKeyDictionary[GraphStore, dict[str, Any]] = field(
        default_factory=WeakKeyDictionary, repr=False
    )

    def save(self, path: str | Path) -> None:
        """Write the file; one that cannot be written is an `AiopError`."""
        document = {
            "kind": _KIND,
            "schema": _SCHEMA,
            "labels": LABELS,
            "task": self.task,
            "adapters": self.adapters,
            "settings": self.settings,
        }
        save_tensors(Path(path), self.network.state_dict(), {"aiop": json.dumps(document)})


def load_aio_p(path: str | Path) -> AioP:
    """Read a file of `AioP.save`.

    Raises:
        AiopError: for a missing or damaged file, or one of another kind or version.
    """
    path = Path(path)
    metadata, _ = read_header(path)
    try:
        document = json.loads(metadata["aiop"])
        if (document["kind"], document["schema"], tuple(document["labels"])) != (_KIND, _SCHEMA, LABELS):
            raise KeyError(f"{document['kind']} of schema {document['schema']}")
        network = AioPNetwork()
        network.adapters.extend(Adapter() for _ in document["adapters"])
        network.load_state_dict(safetensors.torch.load_file(path))
        return AioP(network, str(document["task"]), tuple(document["adapters"]), dict(document["settings"]))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise AiopError(f"{path} is not AIO-P of this version ({error}): train it again") from None
