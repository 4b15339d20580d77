"""Predictors of an architecture's values and costs from its code vector, which gradients go through.

Two kinds, one use. The *published* one is NCP's perceptron (Ding et al., ICLR 2022; `CodeMLP`) trained on measured
values. A *student* is for this project's predictor, which sees graphs and not codes, so that nothing of it can be
differentiated with respect to a code: whatever the predictor, or a head of it, says of sampled codes (the teacher) is
what a small perceptron learns, with the costs beside it. Such values are free of noise: there is no dropout.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from aiop.errors import AiopError
from aiop.finetune.baselines.code_mlp import CodeMLP
from aiop.graph_ir.checkpoint import save_tensors
from aiop.graph_ir.tensor_file import read_header
from aiop.search.methods.code_vectors import CodeVectors, code_vectors

__all__ = ["COSTS", "CodePredictor", "Scaling"]

Array = npt.NDArray[Any]

COSTS = ("macs", "params")
"""What is predicted besides the values of tasks, after them."""

_HIDDEN = 192
_RATE, _DECAY, _BATCH = 4e-3, 1e-5, 128
_LEAST = 2
_KIND, _SCHEMA = "aiop-code-student", 1


@dataclass(frozen=True, eq=False)
class Scaling:
    """Means and deviations: of code vectors ``(D,)``, and of targets ``(T + 2,)``, costs as logarithms if ``log``."""

    code_mean: Array
    code_scale: Array
    mean: Array
    scale: Array
    log: bool

    @classmethod
    def of(cls, matrix: Array, targets: Array, *, log: bool) -> Scaling:
        """Take them from vectors ``(n, D)`` and targets ``(n, T + 2)``."""
        return cls(
            matrix.mean(axis=0), np.maximum(matrix.std(axis=0), 1e-6), targets.mean(axis=0),
            np.maximum(targets.std(axis=0), 1e-9), log,
        )  # fmt: skip


class CodePredictor:
    """Values of T tasks, MACs and parameters of code vectors, differentiable: the mean of a few perceptrons.

    Made by `published`, `student` or `load`.

    Args:
        vectors: of the space.
        tasks: names of the T tasks.
        scaling: of what goes in and comes out; the perceptrons work on standardised numbers.
        members: perceptrons ``(n, D) -> (n, T + 2)``.
    """

    def __init__(
        self, vectors: CodeVectors, tasks: Sequence[str], scaling: Scaling, members: Sequence[nn.Module]
    ) -> None:
        self.vectors, self.tasks, self.scaling = vectors, tuple(tasks), scaling
        self.members = [member.eval().requires_grad_(False) for member in members]
        self._code_mean, self._code_scale = (
            torch.from_numpy(array.astype(np.float32)) for array in (scaling.code_mean, scaling.code_scale)
        )

    @classmethod
    def published(
        cls,
        space: str,
        codes: Sequence[str],
        values: Array,
        macs: Array,
        params: Array,
        *,
        task: str,
        seed: int = 0,
        epochs: int = 200,
    ) -> CodePredictor:
        """Train NCP's perceptron as published on measured values.

        ``values`` are ``(n, K)``, the metric to follow first, then the second metrics of its setting; costs are
        standardised as they are. Rows with an unknown value are left out.
        """
        vectors = code_vectors(space)
        matrix, targets = _rows(vectors, codes, values, macs, params)
        second = targets.shape[1] - 3
        groups = [1, *([second] if second else []), 2]
        mlp = CodeMLP(seed, epochs, groups=groups, dropouts=[*[0.5] * (len(groups) - 1), 0.0]).fit(
            matrix, targets
        )
        scaling = Scaling(mlp.code_mean, mlp.code_scale, mlp.mean, mlp.scale, log=False)
        names = [task, *(f"{task}#{place}" for place in range(1, second + 1))]
        return cls(vectors, names, scaling, [mlp.network])

    @classmethod
    def student(
        cls,
        space: str,
        codes: Sequence[str],
        values: Array,
        macs: Array,
        params: Array,
        *,
        tasks: Sequence[str],
        seed: int = 0,
        members: int = 2,
        epochs: int = 120,
    ) -> CodePredictor:
        """Train perceptrons on a teacher's values ``(n, T)`` of codes and the logarithms of their costs ``(n,)``."""
        vectors = code_vectors(space)
        matrix, targets = _rows(vectors, codes, values, macs, params)
        targets[:, -2:] = np.log1p(targets[:, -2:])
        scaling = Scaling.of(matrix, targets, log=True)
        x = _float((matrix - scaling.code_mean) / scaling.code_scale)
        y = _float((targets - scaling.mean) / scaling.scale)
        with torch.random.fork_rng(devices=[]):
            made = []
            for number in range(members):
                torch.manual_seed(1_000_003 * number + seed)
                made.append(_trained(x, y, epochs))
        return cls(vectors, tasks, scaling, made)

    def standardise(self, matrix: Array) -> Tensor:
        """Code vectors ``(n, D)`` -> the coordinates that gradients are with respect to, ``(n, D)``."""
        return _float((matrix - self.scaling.code_mean) / self.scaling.code_scale)

    def restore(self, points: Tensor) -> Array:
        """The way back from `standardise`, float64."""
        return np.asarray(points.detach().double().numpy() * self.scaling.code_scale + self.scaling.code_mean)

    def __call__(self, points: Tensor) -> Tensor:
        """Standardised points ``(n, D)`` -> standardised targets ``(n, T + 2)``, tasks first; differentiable."""
        plain = points * self._code_scale + self._code_mean
        inner = (self.vectors.seen(plain) - self._code_mean) / self._code_scale
        return torch.stack([member(inner) for member in self.members]).mean(dim=0)

    def in_units(self, outputs: Array) -> Array:
        """Standardised targets ``(n, T + 2)`` -> values in the tasks' units, MACs and parameters."""
        found = np.asarray(outputs, np.float64) * self.scaling.scale + self.scaling.mean
        if self.scaling.log:
            found[:, -2:] = np.expm1(np.clip(found[:, -2:], 0.0, 60.0))
        return found

    def predict(self, codes: Sequence[str]) -> Array:
        """Return values in the tasks' units, MACs and parameters of codes, ``(n, T + 2)``."""
        with torch.inference_mode():
            outputs = self(self.standardise(self.vectors.encode(codes)))
        return self.in_units(outputs.double().numpy())

    def standard_macs(self, macs: float) -> float:
        """Return so many MACs as the standardised target that the predictor gives of them."""
        number = np.log1p(macs) if self.scaling.log else macs
        return float((number - self.scaling.mean[-2]) / self.scaling.scale[-2])

    def save(self, path: Path, key: str = "") -> None:
        """Write a student, replacing the file as a whole; ``key`` says of what it is one."""
        tensors = {
            f"member{number}/{name}": tensor
            for number, member in enumerate(self.members)
            for name, tensor in member.state_dict().items()
        }
        arrays = {
            "code_mean": self.scaling.code_mean, "code_scale": self.scaling.code_scale, "mean": self.scaling.mean,
            "scale": self.scaling.scale,
        }  # fmt: skip
        tensors |= {name: torch.from_numpy(np.asarray(array, np.float64)) for name, array in arrays.items()}
        header = {
            "kind": _KIND, "schema": _SCHEMA, "space": self.vectors.space, "tasks": self.tasks,
            "log": self.scaling.log, "members": len(self.members), "key": key,
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, tensors, {"aiop": json.dumps(header)})

    @classmethod
    def load(cls, path: Path, key: str = "") -> CodePredictor:
        """Read a student that `save` wrote; one of something else than ``key`` is an `AiopError`."""
        try:
            header = json.loads(read_header(path)[0]["aiop"])
            if (header["kind"], header["schema"], header["key"]) != (_KIND, _SCHEMA, key):
                raise KeyError(header["key"])
            tensors = safetensors.torch.load_file(path)
            arrays = {name: tensors[name].numpy() for name in ("code_mean", "code_scale", "mean", "scale")}
            vectors = code_vectors(str(header["space"]))
            members = []
            for number in range(int(header["members"])):
                start = f"member{number}/"
                state = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
                member = _perceptron(vectors.width, len(header["tasks"]) + len(COSTS))
                member.load_state_dict(state)
                members.append(member)
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise AiopError(
                f'"{path}" is no student of this search ({error}): delete it to make it anew'
            ) from None
        return cls(vectors, header["tasks"], Scaling(**arrays, log=bool(header["log"])), members)


def _rows(
    vectors: CodeVectors, codes: Sequence[str], values: Array, macs: Array, params: Array
) -> tuple[Array, Array]:
    """Return code vectors ``(m, D)`` and targets ``(m, T + 2)`` of the rows that are known, float64."""
    values = np.asarray(values, np.float64).reshape(len(codes), -1)
    targets = np.concatenate([values, np.asarray(macs)[:, None], np.asarray(params)[:, None]], axis=1)
    known = np.isfinite(targets).all(axis=1)
    if known.sum() < _LEAST:
        raise AiopError(
            f"a predictor on codes of {vectors.space} needs at least {_LEAST} architectures with all values, "
            f"found {int(known.sum())}: give more"
        )
    return vectors.encode([code for code, kept in zip(codes, known, strict=True) if kept]), targets[known]


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, _HIDDEN),
        nn.SiLU(),
        nn.Linear(_HIDDEN, _HIDDEN),
        nn.SiLU(),
        nn.Linear(_HIDDEN, outputs),
    )


def _trained(x: Tensor, y: Tensor, epochs: int) -> nn.Sequential:
    """SmoothL1, AdamW, one cycle, batches of 128."""
    network = _perceptron(x.shape[1], y.shape[1])
    optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=_DECAY, fused=True)
    steps = epochs * max(1, -(-len(x) // _BATCH))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps, pct_start=0.2)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(x)), _BATCH):
            loss = functional.smooth_l1_loss(network(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network


def _float(array: Array) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.float32))
