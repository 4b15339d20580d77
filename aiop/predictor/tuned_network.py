"""A pretrained network with one output for a task of one's own, and what training changed of it as data."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from aiop.errors import AiopError, suggest
from aiop.graph_ir.batch import GraphBatch, collate
from aiop.graph_ir.features import GraphArrays
from aiop.pretrain.adapters import Adapter
from aiop.pretrain.module import Ensemble, PredictorModule

__all__ = ["MODES", "Mode", "TunedNetwork", "TunedNetworks", "check_mode"]

Array = npt.NDArray[Any]
Mode = Literal["heads", "all", "adapter"]
MODES: tuple[Mode, ...] = get_args(Mode)
"""What labels train: an output on the embedding as it is; this and the whole network; this and an adapter beside the
network, which stays as it is."""

ADAPTER_WIDTH = 32
DROPOUT = 0.1
_BATCH = 128
_MOST = 64
_LEVELS, _ZERO = 127, 128


def check_mode(mode: str) -> Mode:
    """Return a known mode; another one is an AiopError."""
    if mode not in MODES:
        raise AiopError(f"tuning {mode!r} is unknown{suggest(mode, MODES)}: choose one of {', '.join(MODES)}")
    return mode


class TunedNetwork(nn.Module):
    """``y = u . s + b``, with ``s`` the embedding of a graph, standardised among the labelled networks.

    Beside an adapter ``s`` is joined by the adapter's pooled states.

    Args:
        member: the pretrained network; it is copied.
        mode: what of it is to be trained.
    """

    centre: Tensor
    inverse: Tensor

    def __init__(self, member: PredictorModule, mode: Mode) -> None:
        super().__init__()
        self.mode = mode
        width = member.config.embedding
        self.backbone = copy.deepcopy(member.backbone).requires_grad_(mode == "all")
        self.adapter = Adapter(member.config, ADAPTER_WIDTH) if mode == "adapter" else None
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("inverse", torch.ones(width))
        self.dropout = nn.Dropout(DROPOUT)
        self.output = nn.Linear(width + (3 * ADAPTER_WIDTH if self.adapter is not None else 0), 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self._start = {
            f"backbone.{name}": tensor.detach().clone()
            for name, tensor in member.backbone.named_parameters()
            if mode == "all"
        }

    def train(self, mode: bool = True) -> TunedNetwork:
        """As of any module; a backbone that stays as it is has no dropout either."""
        super().train(mode)
        self.backbone.train(mode and self.mode == "all")
        return self

    def embed(self, batch: GraphBatch) -> Tensor:
        """Embeddings of B graphs, (B, D)."""
        return self.backbone.encode(batch, self.backbone.graph_input(batch))

    def forward(self, batch: GraphBatch) -> Tensor:
        """Scaled values of B graphs, (B,)."""
        if self.adapter is None:
            return self.read(self.embed(batch))
        with torch.no_grad():
            embedding, _, states = self.backbone.encode_layers(batch, self.backbone.graph_input(batch))
        return self.read(embedding, self.adapter(batch, states))

    def read(self, embedding: Tensor, adapted: Tensor | None = None) -> Tensor:
        """Scaled values (B,) from embeddings (B, D) and, where there is an adapter, its pooled states."""
        seen = (embedding - self.centre) * self.inverse
        if adapted is not None:
            seen = torch.cat([seen, adapted], dim=1)
        result: Tensor = self.output(self.dropout(seen))[:, 0]
        return result

    @torch.no_grad()
    def outputs(self, graphs: Sequence[GraphArrays]) -> Array:
        """Return scaled values of n graphs, float64 ``(n,)``, in the mode that the network is in."""
        parts = [self(collate(graphs[start : start + _BATCH])) for start in range(0, len(graphs), _BATCH)]
        return torch.cat([*parts, torch.zeros(0)]).double().numpy()

    def changes(self) -> dict[str, Array]:
        """Return what training made, relative to the pretrained weights: matrices as bytes and a step per row."""
        found: dict[str, Array] = {}
        for name, tensor in self._changing().items():
            start = self._start.get(name)
            change = (tensor if start is None else tensor - start).detach().numpy()
            if change.ndim < 2:
                found[name] = change.astype(np.float32)
                continue
            step = np.abs(change).max(axis=1, keepdims=True) / _LEVELS
            found[name] = (_ZERO + np.rint(change / np.where(step > 0, step, 1.0))).astype(np.uint8)
            found[f"{name}/step"] = step[:, 0].astype(np.float32)
        return found

    @torch.no_grad()
    def put(self, changes: Mapping[str, Array]) -> None:
        """Put what `changes` returned in the place of the weights; a ValueError where it does not fit."""
        own = self._changing()
        wanted = {name for name, tensor in own.items()}
        wanted |= {f"{name}/step" for name, tensor in own.items() if tensor.ndim > 1}
        if changes.keys() != wanted:
            raise ValueError("tuned weights of another network")
        for name, tensor in own.items():
            change = np.asarray(changes[name], np.float32)
            if tensor.ndim > 1:
                change = (change - _ZERO) * np.asarray(changes[f"{name}/step"], np.float32)[:, None]
            if change.shape != tuple(tensor.shape):
                raise ValueError(f"shape of {name}")
            start = self._start.get(name)
            tensor.copy_(torch.from_numpy(change) if start is None else start + torch.from_numpy(change))

    def _changing(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {
            name: tensor for name, tensor in self.named_parameters() if name.partition(".")[0] != "backbone"
        }
        if self.mode == "all":
            found |= {f"backbone.{name}": tensor for name, tensor in self.backbone.named_parameters()}
        return found | {"centre": self.centre, "inverse": self.inverse}


class TunedNetworks:
    """Networks tuned to different parts of the same labels, read as one: their mean.

    Args:
        changes: what training made of each, as `TunedNetwork.changes` returns it.
        starts: which of the predictor's networks each began as.
        mode: what was trained.
        module: the predictor's networks; what does not fit them is a ValueError.
    """

    def __init__(
        self, changes: Sequence[Mapping[str, Array]], starts: Sequence[int], mode: Mode, module: Ensemble
    ) -> None:
        self.mode, self.starts, self._changes = mode, tuple(starts), tuple(changes)
        networks = []
        for change, start in zip(changes, starts, strict=True):
            if type(start) is not int or not 0 <= start < len(module.members):
                raise ValueError("network that a tuned one began as")
            # The initial weights are overwritten: leave no trace in the generator.
            with torch.random.fork_rng(devices=[]):
                network = TunedNetwork(cast(PredictorModule, module.members[start]), mode)
            network.put(change)
            networks.append(network.eval().requires_grad_(False))
        self.networks = tuple(networks)

    def predict(self, graphs: Sequence[GraphArrays]) -> Array:
        """Return values on the scale of the head's targets, float64 ``(n,)``."""
        return np.asarray(np.mean([network.outputs(graphs) for network in self.networks], axis=0))

    def to_state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return arrays by name and a document that JSON holds."""
        arrays = {
            f"{number}/{name}": array
            for number, changes in enumerate(self._changes)
            for name, array in changes.items()
        }
        return arrays, {"mode": self.mode, "starts": list(self.starts)}

    @classmethod
    def from_state(
        cls, arrays: Mapping[str, Array], document: Mapping[str, Any], module: Ensemble
    ) -> TunedNetworks:
        """Restore what `to_state` returned, on the predictor's networks; what does not fit is a ValueError."""
        mode, starts = check_mode(document["mode"]), list(document["starts"])
        if not 1 <= len(starts) <= _MOST:
            raise ValueError("number of tuned networks")
        changes: list[dict[str, Array]] = [{} for _ in starts]
        for name, array in arrays.items():
            number, _, rest = name.partition("/")
            changes[int(number)][rest] = array
        return cls(changes, starts, mode, module)
