"""Which constants of a network are trained, each counted once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aiop.graph_ir.cost import WEIGHT_SLOTS, buffer_slots
from aiop.graph_ir.graph import TensorSpec
from aiop.graph_ir.values import Node, Tensor

__all__ = ["ParameterCounter", "Parameters", "leaves_of"]

_FLOATS = frozenset({"float32", "float16", "bfloat16", "float64"})
_QUANTISED = frozenset({"int8", "uint8", "int32", "int4", "uint4"})


class Parameters(NamedTuple):
    """Constants that one node reads: trained tensors, trained numbers not counted before, single numbers."""

    weights: tuple[TensorSpec, ...] = ()
    trained: int = 0
    scalars: tuple[float, ...] = ()


class ParameterCounter:
    """Counts trained numbers over the nodes of one network; tensors that several nodes share count once."""

    def __init__(self) -> None:
        self._counted: set[str] = set()

    def count(self, node: Node, index: int) -> Parameters:
        """Return the parameters of a node, the network's operation ``index``."""
        weights: list[TensorSpec] = []
        scalars: list[float] = []
        count = 0
        owner = ""
        skipped = buffer_slots(node.type)
        strict = node.type in WEIGHT_SLOTS
        for slot, tensor in enumerate(node.inputs):
            if tensor is None or not tensor.constant or slot in skipped:
                continue
            if not strict and tensor.elements == 1 and (value := tensor.value) is not None:
                number = value.reshape(-1)[0]
                if isinstance(number, np.number | np.bool_):
                    scalars.append(float(number.real))
                continue
            quantised = tensor.dtype.startswith("float8") or (strict and tensor.dtype in _QUANTISED)
            if tensor.dtype not in _FLOATS and not quantised:
                continue
            leaves = tensor.leaves or (((tensor.name, tensor.elements),) if strict else ())
            if not leaves:
                continue
            weights.append(TensorSpec(tensor.shape, tensor.dtype))
            if len(tensor.shape) > 1:
                owner = owner or leaves[0][0]
            elif tensor.uniform:
                # Exporters store equal vectors once. One that still has its initial values is shared for that reason,
                # not because the network ties it: it counts once for every layer, told apart by its matrix.
                leaves = ((f"{leaves[0][0]} of {owner or f'node {index}'}", tensor.elements),)
            for leaf, elements in leaves:
                if leaf not in self._counted:
                    self._counted.add(leaf)
                    count += elements
        return Parameters(tuple(weights), count, tuple(scalars))


def leaves_of(inputs: list[Tensor | None], elements: int) -> tuple[tuple[str, int], ...]:
    """Return the trained tensors behind a constant of ``elements`` numbers that is computed from ``inputs``.

    Exporters that fold part of a computed weight (weight standardisation) leave several copies of it in the file: of
    those of the weight's own size only the first is counted, and single numbers are constants of the computation.
    """
    kept: dict[tuple[str, int], None] = {}
    whole = False
    for tensor in inputs:
        for leaf in tensor.leaves if tensor is not None else ():
            size = leaf[1]
            if size > 1 and leaf not in kept and not (whole and size == elements):
                kept[leaf] = None
                whole |= size == elements
    return tuple(kept)
