"""What the tests of the command line compare with, and a predictor that needs no training."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from aiop.errors import AiopError, suggest
from aiop.graph_ir import ComputeGraph

CODE = "nas-bench-201:|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
RESNET18 = str(Path(__file__).parents[2] / "examples" / "resnet18.onnx")


@dataclass
class Run:
    """One run of the command line."""

    status: int
    out: str
    err: str

    def objects(self) -> list[dict[str, Any]]:
        """Every line of stdout as a JSON object; anything else on stdout fails."""
        return [json.loads(line) for line in self.out.splitlines()]

    def is_user_error(self, *parts: str) -> None:
        """Status 1, nothing on stdout, one line on stderr that holds every one of ``parts``."""
        assert self.status == 1
        assert self.out == ""
        assert self.err.startswith("error: ")
        assert self.err.count("\n") == 1, self.err
        for part in parts:
            assert part in self.err


@dataclass
class StubPrediction:
    network: str
    macs: int
    params: int
    predictions: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class StubPredictor:
    """Answers like a predictor of two tasks; its values are the network's costs."""

    card: dict[str, Any] = field(
        default_factory=lambda: {
            "tasks": {
                "classification/nas-bench-201/cifar10-test-top1": {
                    "labels": 12000,
                    "unit": "%",
                    "held_out": {"srcc": 0.9871, "tau": 0.9, "mae": 0.4},
                },
                "latency/nas-bench-201/1080ti-batch1": {"labels": 11000, "unit": "ms", "held_out": None},
            }
        }
    )

    @property
    def names(self) -> list[str]:
        return list(self.card["tasks"])

    def match(self, tasks: str) -> list[int]:
        found = [index for index, name in enumerate(self.names) if fnmatchcase(name, tasks)]
        if not found:
            raise AiopError(f"no task {tasks!r}{suggest(tasks, self.names)}; list all with `aiop tasks`")
        return found

    def predict(self, nets: list[ComputeGraph], tasks: str = "*") -> list[StubPrediction]:
        names = [self.names[index] for index in self.match(tasks)]
        return [
            StubPrediction("", net.macs, net.params, [self._entry(name, net.macs / 1e6) for name in names])
            for net in nets
        ]

    def _entry(self, name: str, value: float) -> dict[str, Any]:
        return {
            "task": name,
            "value": value,
            "unit": self.card["tasks"][name]["unit"],
            "low": value - 1,
            "high": value + 1,
            "macs_only": value / 2,
            "in_distribution": value < 1000,
        }
