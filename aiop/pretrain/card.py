"""The card of a saved predictor: what it predicts, from what and how well. Reading it loads no torch.

``predictor.safetensors`` holds the tensors and, in its header, the card; ``card.json`` is the same card for people and
for programs that do not need the weights. The header is the one that counts, so that replacing one file replaces both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiop.errors import AiopError
from aiop.graph_ir.features import GRAPH_FEATURES, NODE_FEATURES, VOCABULARY, fingerprint
from aiop.graph_ir.tensor_file import read_header

__all__ = ["CARD", "KIND", "SCHEMA", "SHIPPED", "WEIGHTS", "card_tasks", "read_card"]

SHIPPED = Path(__file__).resolve().parents[1] / "weights"
"""The folder of the predictor that comes with the package."""

SCHEMA = 1
WEIGHTS = "predictor.safetensors"
CARD = "card.json"
KIND = "aiop-predictor"


def read_card(folder: str | Path) -> dict[str, Any]:
    """Read and check the card in the weights file of ``folder`` without loading a tensor.

    Raises:
        AiopError: for missing or damaged files, or a predictor of another schema, vocabulary or feature set.
    """
    path = Path(folder) / WEIGHTS
    if not path.exists():
        raise AiopError(
            f"{folder} holds no predictor ({WEIGHTS} is missing): give the folder that training wrote"
        )
    metadata, _ = read_header(path)
    try:
        card: dict[str, Any] = json.loads(metadata["card"])
        if card["kind"] != KIND:
            raise KeyError("kind")
    except (KeyError, TypeError, ValueError, RecursionError):
        raise AiopError(
            f"{path} is not a predictor of this project: give the folder that training wrote"
        ) from None
    if card.get("schema") != SCHEMA:
        raise AiopError(
            f"predictor {path} has schema {card.get('schema')}, this version reads {SCHEMA}: train again"
        )
    known = {"vocabulary": VOCABULARY, "node_features": NODE_FEATURES, "graph_features": GRAPH_FEATURES}
    for key, current in known.items():
        if card.get(key) != list(current):
            raise AiopError(
                f"predictor {path} was trained with another {key.replace('_', ' ')} than this version has: install "
                "the version it was trained with, or train it again"
            )
    if card.get("fingerprint") != fingerprint():
        raise AiopError(
            f"predictor {path} was trained with features {str(card.get('fingerprint'))[:12]}, this version has "
            f"{fingerprint()[:12]}: install the version it was trained with, or train it again"
        )
    return card


def card_tasks(card: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return task -> ``unit``, ``direction``, ``labels`` (networks trained on), ``corpus`` and ``held_out`` (scores).

    Raises:
        AiopError: for a card that lacks one of them.
    """
    try:
        return {
            str(task["name"]): {
                "unit": str(task["unit"]),
                "direction": str(task["direction"]),
                "labels": int(task["extra"]["labels"]),
                "corpus": str(task["extra"]["corpus"]),
                "held_out": dict(task["scores"]),
            }
            for task in card["tasks"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise AiopError(
            f"the card of the predictor lacks its fields ({error}): train it again with `aiop pretrain`"
        ) from None
