"""A trained predictor on disk: weights in safetensors, everything else in a JSON card.

`aiop.pretrain.card` says where the card lies and checks it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from aiop.errors import AiopError
from aiop.graph_ir.checkpoint import save_tensors
from aiop.graph_ir.features import GRAPH_FEATURES, NODE_FEATURES, VOCABULARY, fingerprint
from aiop.graph_ir.tensor_file import atomic_path
from aiop.pretrain.adapters import AdapterGroup
from aiop.pretrain.card import CARD, KIND, SCHEMA, WEIGHTS, read_card
from aiop.pretrain.config import BackboneConfig, strict_dataclass
from aiop.pretrain.cost_link import uses_costs
from aiop.pretrain.described_heads import DescribedHeads
from aiop.pretrain.description import DESCRIPTION, DESCRIPTION_VERSION
from aiop.pretrain.module import Ensemble, PredictorModule
from aiop.pretrain.targets import LabelScaler

__all__ = ["CARD", "SCHEMA", "WEIGHTS", "Card", "TaskCard", "load_predictor", "read_card", "save_predictor"]

_ARRAYS = "arrays/"
_MOST_MEMBERS = 64
_WIDEST = 4096


@dataclass(frozen=True, slots=True)
class TaskCard:
    """What the predictor says about one task.

    Attributes:
        name: of the task.
        scaler: targets <-> values in the unit.
        unit: of the values.
        direction: ``max`` or ``min``, which is better.
        scores: held-out scores (``srcc``, ``tau``, ``mae``, ``labels``).
        extra: anything else JSON can hold: calibration of intervals, cost trends, licences.
    """

    name: str
    scaler: LabelScaler
    unit: str = ""
    direction: Literal["max", "min"] = "max"
    scores: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Card:
    """What is known about a predictor besides its weights.

    Attributes:
        tasks: in the order of the outputs.
        config: settings of the training run, for the record.
        tables: name -> sha256, licence, source and rows of every table it was trained on.
        extra: anything else JSON can hold.
        weights_sha256: content hash of the weights; set when saved.
    """

    tasks: tuple[TaskCard, ...]
    config: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""


def save_predictor(
    folder: str | Path, module: Ensemble, card: Card, arrays: Mapping[str, Tensor] | None = None
) -> Card:
    """Write weights and card into ``folder``, replacing what is there; return the card with its content hash.

    ``arrays`` are tensors that belong to the predictor but not to its network, such as reference embeddings.

    Raises:
        AiopError: for a card that does not fit the module, or a folder that cannot be written.
    """
    folder = Path(folder)
    if len(card.tasks) != module.num_tasks:
        raise AiopError(
            f"the card names {len(card.tasks)} tasks, the module has {module.num_tasks}: name all"
        )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    tensors |= {
        f"{_ARRAYS}{name}": tensor.detach().cpu().contiguous() for name, tensor in (arrays or {}).items()
    }
    card = dataclasses.replace(card, weights_sha256=_content_hash(tensors))
    tasks = [
        {"name": task.name, "unit": task.unit, "direction": task.direction, "scaler": task.scaler.to_dict(),
         "scores": task.scores, "extra": task.extra}
        for task in card.tasks
    ]  # fmt: skip
    document = {
        "kind": KIND,
        "schema": SCHEMA,
        "weights_sha256": card.weights_sha256,
        "fingerprint": fingerprint(),
        "vocabulary": list(VOCABULARY),
        "node_features": list(NODE_FEATURES),
        "graph_features": list(GRAPH_FEATURES),
        "backbone": dataclasses.asdict(module.config),
        "members": len(module.members),
        "heads": _heads(module),
        **_adapters(module, card),
        **_infused(module, card),
        "config": card.config,
        "tables": card.tables,
        "extra": card.extra,
        "tasks": tasks,
    }
    try:
        text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise AiopError(
            f"the card of {folder} holds what JSON cannot ({error}): use plain numbers and text"
        ) from None
    save_tensors(folder / WEIGHTS, tensors, {"card": text})
    with atomic_path(folder / CARD) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return card


def load_predictor(
    folder: str | Path, device: str | torch.device = "cpu"
) -> tuple[Ensemble, Card, dict[str, Tensor]]:
    """Load what :func:`save_predictor` wrote: the module in evaluation mode, its card, and the arrays beside it.

    Raises:
        AiopError: as :func:`read_card`, and for weights that do not fit the card or whose content hash is another.
    """
    folder = Path(folder)
    document = read_card(folder)
    card = _parse_card(folder, document)
    beside = folder / CARD
    if beside.exists() and _stated_hash(beside) != card.weights_sha256:
        raise AiopError(f"{beside} describes other weights than {WEIGHTS}: fetch or save the predictor again")
    try:
        tensors = safetensors.torch.load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise AiopError(
            f"predictor {folder / WEIGHTS} is damaged ({error}): fetch or save it again"
        ) from None
    if _content_hash(tensors) != card.weights_sha256:
        raise AiopError(
            f"predictor {folder / WEIGHTS} is damaged (content hash differs): fetch or save it again"
        )
    backbone = strict_dataclass(BackboneConfig, document["backbone"], f"card of {folder}")
    members = document.get("members")
    if not isinstance(members, int) or not 1 <= members <= _MOST_MEMBERS:
        raise AiopError(f"the card of predictor {folder} names {members!r} networks: save it again")
    infused = _infused_groups(folder, document, card)
    known = len(card.tasks) - sum(len(group.columns) for group, _, _ in infused)
    sizes = len(VOCABULARY), len(NODE_FEATURES), len(GRAPH_FEATURES), known
    costs = uses_costs([task.scaler for task in card.tasks[:known]])
    described = _descriptions(folder, document, tensors, known)
    # The initial weights are overwritten: leave no trace in the generator.
    with torch.random.fork_rng(devices=[]):
        module = Ensemble(
            [PredictorModule(backbone, *sizes, costs=costs, descriptions=described) for _ in range(members)]
        )
        _add_adapters(folder, document, card, module)
        for member in module.members:
            for entry in infused:
                cast(PredictorModule, member).add_infused(*entry)
    arrays = {name: tensors.pop(name) for name in list(tensors) if name.startswith(_ARRAYS)}
    try:
        module.load_state_dict(tensors)
    except RuntimeError:
        raise AiopError(
            f"predictor {folder / WEIGHTS} has tensors that do not fit its card: save it again"
        ) from None
    arrays = {name.removeprefix(_ARRAYS): tensor for name, tensor in arrays.items()}
    return module.to(device).eval().requires_grad_(False), card, arrays


def _heads(module: Ensemble) -> dict[str, Any]:
    described = isinstance(module.members[0].heads, DescribedHeads)
    return {"kind": "description", "version": DESCRIPTION_VERSION} if described else {"kind": "index"}


def _adapters(module: Ensemble, card: Card) -> dict[str, Any]:
    """What the card says of adapters: nothing where there are none."""
    if not module.adapters:
        return {}
    groups = {
        adapter.group.name: [card.tasks[column].name for column in adapter.group.columns]
        for adapter in module.adapters
    }
    return {"adapters": {"width": module.adapters[0].width, "groups": groups}}


def _infused(module: Ensemble, card: Card) -> dict[str, Any]:
    """What the card says of tasks that were infused: nothing where there are none."""
    if not module.infused:
        return {}
    return {
        "infused": [
            {
                "name": item.group.name,
                "width": item.width,
                "adapters": len(item.adapters),
                "tasks": [card.tasks[column].name for column in item.group.columns],
            }
            for item in module.infused
        ]
    }


def _infused_groups(
    folder: Path, document: Mapping[str, Any], card: Card
) -> list[tuple[AdapterGroup, int, int]]:
    """Read the groups of infused tasks, which are the last of the card's, with width and number of their adapters."""
    found: list[tuple[AdapterGroup, int, int]] = []
    names = [task.name for task in card.tasks]
    try:
        entries = [
            (str(entry["name"]), list(entry["tasks"]), entry["width"], entry["adapters"])
            for entry in document.get("infused", ())
        ]
        start = len(names) - sum(len(tasks) for _, tasks, _, _ in entries)
        for name, tasks, width, count in entries:
            stop = start + len(tasks)
            if start < 1 or not tasks or names[start:stop] != tasks:
                raise ValueError(name)
            for size, most in ((width, _WIDEST), (count, _MOST_MEMBERS)):
                if not isinstance(size, int) or not 1 <= size <= most:
                    raise ValueError(size)
            found.append((AdapterGroup(name, tuple(range(start, stop))), width, count))
            start = stop
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AiopError(
            f"the card of predictor {folder} describes infused tasks that cannot be ({error}): save it again"
        ) from None
    return found


def _add_adapters(folder: Path, document: Mapping[str, Any], card: Card, module: Ensemble) -> None:
    """Give the module the adapters of the card, with weights yet to be loaded."""
    if "adapters" not in document:
        return
    place = {task.name: column for column, task in enumerate(card.tasks)}
    try:
        width = document["adapters"]["width"]
        groups = [
            AdapterGroup(str(name), tuple(place[task] for task in tasks))
            for name, tasks in document["adapters"]["groups"].items()
        ]
        if not isinstance(width, int) or not 1 <= width <= _WIDEST or not all(g.columns for g in groups):
            raise ValueError(width)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AiopError(
            f"the card of predictor {folder} describes adapters that cannot be ({error}): save it again"
        ) from None
    for member in module.members:
        cast(PredictorModule, member).add_adapters(groups, width)


def _descriptions(
    folder: Path, document: Mapping[str, Any], tensors: Mapping[str, Tensor], tasks: int
) -> Tensor | None:
    """Return the descriptions of the ``tasks`` that the heads know, None where they know indices."""
    heads = document.get("heads", {"kind": "index"})
    if heads == {"kind": "index"}:
        return None
    if heads != {"kind": "description", "version": DESCRIPTION_VERSION}:
        raise AiopError(
            f"predictor {folder} has heads {heads!r}, which this version does not read: install the version it was "
            "trained with, or train it again"
        )
    found = tensors.get("members.0.heads.features")
    if found is None or found.shape != (tasks, len(DESCRIPTION)):
        raise AiopError(f"predictor {folder / WEIGHTS} has tensors that do not fit its card: save it again")
    return found


def _parse_card(folder: Path, document: Mapping[str, Any]) -> Card:
    try:
        tasks = tuple(
            TaskCard(
                name=str(task["name"]),
                scaler=LabelScaler.from_dict(task["scaler"]),
                unit=str(task["unit"]),
                direction=task["direction"],
                scores=dict(task["scores"]),
                extra=dict(task["extra"]),
            )
            for task in document["tasks"]
        )
        if not isinstance(document["backbone"], dict):
            raise TypeError("backbone")
        config, tables, extra = (dict(document[key]) for key in ("config", "tables", "extra"))
        return Card(tasks, config, tables, extra, str(document["weights_sha256"]))
    except (KeyError, TypeError, ValueError) as error:
        raise AiopError(f"the card of predictor {folder} lacks its fields ({error}): save it again") from None


def _stated_hash(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["weights_sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def _content_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over name, type, shape and bytes of every tensor, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].numpy()
        digest.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
