"""Labels as they come: one JSON object per line, appended whole, never computed twice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aiop.errors import AiopError
from aiop.journal import append, read_lines

__all__ = ["Key", "Label", "Ledger"]

Key = tuple[str, str, str, int]


@dataclass(frozen=True)
class Label:
    """What one training of one body said.

    kind: ``truth`` (trained individually), ``latent`` or ``swapping`` (brief tuning with that method's shared head).
    code: of the body. group: of tasks that one training serves. seed: of that training.
    figures: task -> figure, %.
    seconds: processor time of the training, recalibration included; evaluation_seconds: of the evaluation after it.
    identity: digest of every setting that the label depends on.
    """

    kind: str
    code: str
    group: str
    seed: int
    figures: dict[str, float]
    seconds: float
    evaluation_seconds: float
    identity: str

    def __post_init__(self) -> None:
        if not self.figures or not all(map(_is_number, self.figures.values())):
            raise ValueError(f"figures of {self.code} must be finite numbers, found {self.figures}")

    @property
    def key(self) -> Key:
        """What tells a label from others of one run."""
        return (self.kind, self.code, self.group, self.seed)


class Ledger:
    """A file of labels. The line that a killed process left unfinished is passed over, and its label made again.

    labels: of this run's settings, in the order in which they came; others: lines of other settings, which stay.
    identities: (kind, group) -> digest that labels of this run carry.

    Raises:
        AiopError: the file cannot be read or written.
    """

    def __init__(self, path: Path, identities: dict[tuple[str, str], str]) -> None:
        self.path = path
        self.labels: dict[Key, Label] = {}
        self.others = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for label in filter(None, map(_label, read_lines(path))):
                if identities.get((label.kind, label.group)) == label.identity:
                    self.labels.setdefault(label.key, label)
                else:
                    self.others += 1
        except OSError as error:
            raise _unusable(path, error) from None

    def __contains__(self, key: Key) -> bool:
        return key in self.labels

    def add(self, label: Label) -> None:
        """Append a label; it is on the disk when this returns."""
        try:
            append(self.path, asdict(label))
        except OSError as error:
            raise _unusable(self.path, error) from None
        self.labels.setdefault(label.key, label)


def _label(entry: Mapping[str, Any]) -> Label | None:
    try:
        return Label(
            kind=str(entry["kind"]),
            code=str(entry["code"]),
            group=str(entry["group"]),
            seed=int(entry["seed"]),
            figures=dict(entry["figures"]),
            seconds=float(entry["seconds"]),
            evaluation_seconds=float(entry["evaluation_seconds"]),
            identity=str(entry["identity"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _unusable(path: Path, error: OSError) -> AiopError:
    return AiopError(
        f"labels {path} cannot be kept ({error.strerror}): give an `out` folder that can be written"
    )
