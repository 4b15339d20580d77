"""What a head sees of networks: one network in several views, none of which knows the head's task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError

__all__ = ["Views"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Views:
    """n networks as a pretrained predictor and plain counting see them.

    names: n names of networks, such as ``space:code``.
    embedding: float32 ``(n, D)``, of the backbone (of all members of an ensemble, side by side).
    outputs: float32 ``(n, S)``, scaled predictions of the S tasks of pretraining, the *sources* of a new task.
    graph: float32 ``(n, G)``, hand-made graph features (`aiop.graph_ir.features.GRAPH_FEATURES`).
    macs, params: float64 ``(n,)``.
    sources: names of the S tasks.
    remoteness: float32 ``(n, S)``, how far networks are from those that each source was learnt on, 1 the limit of the
        inside; None where nobody knows.
    structure: uint8 ``(n, W)``, counts of what operations are among their neighbours
        (`aiop.graph_ir.structure.structure_counts`); None where nobody counted.
    blind: bool ``(n,)``, networks that do not depend on their input; None where nobody looked.
    expected: float64 ``(n,)``, what is expected before a label is seen, in deviations of the labels; a head adds it
        (`aiop.finetune.expectation`), None elsewhere.
    """

    names: tuple[str, ...]
    embedding: Array
    outputs: Array
    graph: Array
    macs: Array
    params: Array
    sources: tuple[str, ...]
    remoteness: Array | None = None
    structure: Array | None = None
    blind: Array | None = None
    expected: Array | None = None

    def __post_init__(self) -> None:
        count = len(self.names)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray) and len(value) != count:
                raise AiopError(
                    f"view {field.name!r} has {len(value)} rows for {count} networks: give one each"
                )
        for name in ("outputs", "remoteness"):
            value = getattr(self, name)
            if value is not None and value.shape[1:] != (len(self.sources),):
                raise AiopError(
                    f"{name} have shape {value.shape} for {len(self.sources)} sources: expected (n, S)"
                )

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, indices: Sequence[int] | Array) -> Views:
        """Some of the networks, in the order of ``indices``."""
        places = np.asarray(indices, np.int64)
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        taken: dict[str, Any] = {
            name: array[places] for name, array in arrays.items() if isinstance(array, np.ndarray)
        }
        return replace(self, names=tuple(self.names[place] for place in places), **taken)

    def only(self, keep: Sequence[bool] | Array) -> Views:
        """The same networks with some of the sources: those where ``keep``, ``(S,)``, is true."""
        mask = np.asarray(keep, bool)
        return replace(
            self,
            outputs=self.outputs[:, mask],
            sources=tuple(name for name, kept in zip(self.sources, mask, strict=True) if kept),
            remoteness=None if self.remoteness is None else self.remoteness[:, mask],
        )
