"""Which constants of a network are trained, each counted once.

A file does not say which of its constants were trained. What counts is: a floating-point or quantised tensor of more
than one number that the file stores, read where an operator takes weights, or computed from such a tensor. Integers,
booleans, single numbers, running statistics, limits, sizes, quantisation scales and fixed filters do not count. A
buffer of floating-point numbers (a position table, anchors) looks like a parameter and counts as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from aiop.graph_ir.cost import WEIGHT_SLOTS, buffer_slots
from aiop.graph_ir.graph import TensorSpec
from aiop.graph_ir.reading.quantisation import narrower
from aiop.graph_ir.values import Node, Shape, Tensor, is_uniform

__all__ = ["TRAINABLE", "Leaf", "ParameterCounter", "Parameters", "leaves_of", "no_bias", "own_leaf"]

_FLOATS = frozenset({"float32", "float16", "bfloat16", "float64"})
_QUANTISED = frozenset(
    "int8 uint8 int4 uint4 int2 uint2 float8e4m3fn float8e4m3fnuz float8e5m2 float8e5m2fnuz float4e2m1".split()
)
TRAINABLE = _FLOATS | _QUANTISED
"""Element types that weights are stored in; wider integers are sizes, indices, or biases of quantised layers."""

Leaf = tuple[str, int, str]
"""A trained tensor that a file stores: name, elements, element type."""

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_NORMS = frozenset(
    "BatchNormalization InstanceNormalization GroupNormalization LayerNormalization RMSNormalization".split()
)
_BIASED = _CONVOLUTIONS | {"Gemm"}


class Parameters(NamedTuple):
    """Constants that one node reads: tensors, trained numbers not counted before, single numbers.

    ``precision`` is the element type of the first weight of two or more axes, as the file stores it or as it is used,
    whichever has fewer bits; empty where there is none.
    """

    weights: tuple[TensorSpec, ...] = ()
    trained: int = 0
    scalars: tuple[float, ...] = ()
    precision: str = ""


class ParameterCounter:
    """Counts trained numbers over the nodes of one network; tensors that several nodes share count once."""

    def __init__(self) -> None:
        self._counted: dict[str, None] = {}  # in the order they were counted in
        self.scales: set[str] = set()
        """Tensors that hold scales and zero points computed from activations; what multiplies them is no weight."""

    def count(self, node: Node, index: int) -> Parameters:
        """Return the parameters of a node, the network's operation ``index``."""
        weights: list[TensorSpec] = []
        scalars: list[float] = []
        counted: list[int] = []
        precision = ""
        skipped = buffer_slots(node.type)
        if self.scales and any(tensor is not None and tensor.name in self.scales for tensor in node.inputs):
            return Parameters()  # a scale times a scale
        strict = node.type in WEIGHT_SLOTS
        for slot, tensor in enumerate(node.inputs):
            if tensor is None or not tensor.constant or slot in skipped:
                continue
            if not strict and tensor.elements == 1 and (value := tensor.value) is not None:
                number = value.reshape(-1)[0]
                if isinstance(number, np.number | np.bool_):
                    scalars.append(float(number.real))
                continue
            kind = tensor.dtype
            leaves = tensor.leaves
            if kind not in TRAINABLE:
                continue
            if not leaves and no_bias(node, slot, tensor):
                continue
            weights.append(TensorSpec(tensor.shape, kind))
            if not leaves and strict and not _fixed(node, slot, tensor):
                leaves = own_leaf(tensor)
            if not leaves or (leaves[0][1] == tensor.elements and _fixed(node, slot, tensor)):
                continue
            if len(tensor.shape) > 1:
                precision = precision or narrower(kind, leaves[0][2])
            counted.append(slot)
        node.counted = tuple(counted)
        trained = self.tally(node.inputs, counted, index) if counted else 0
        return Parameters(tuple(weights), trained, tuple(scalars), precision)

    def tally(self, inputs: Sequence[Tensor | None], slots: Sequence[int], index: int) -> int:
        """Return the trained numbers at the inputs ``slots`` of operation ``index`` that were not counted before."""
        count = 0
        read = [tensor for slot in slots if (tensor := inputs[slot]) is not None]
        for position, tensor in enumerate(read):
            leaves = tensor.leaves or own_leaf(tensor)
            if tensor.has_value and _vector(tensor.shape) and is_uniform(tensor.look()):
                # Exporters store equal vectors once. One that still has its initial values is shared for that reason,
                # not because the network ties it: it counts once for every layer, told apart by its matrix.
                owner = _first_matrix(read[:position]) or f"node {index}"
                leaves = ((f"{leaves[0][0]} of {owner}", tensor.elements, leaves[0][2]),)
            for name, elements, _ in leaves:
                if name not in self._counted:
                    self._counted[name] = None
                    count += elements
        return count

    def mark(self) -> int:
        """Return how many tensors were counted, to `take_back` those that are counted from here on."""
        return len(self._counted)

    def take_back(self, mark: int) -> list[str]:
        """Forget, and return, what was counted since ``mark``."""
        return [self._counted.popitem()[0] for _ in range(len(self._counted) - mark)][::-1]

    def put_back(self, names: Iterable[str]) -> None:
        """Count as counted what was taken back."""
        self._counted.update(dict.fromkeys(names))


def own_leaf(tensor: Tensor) -> tuple[Leaf, ...]:
    """Return what a stored tensor is made of: itself where its element type is one of weights, nothing otherwise."""
    return ((tensor.name, tensor.elements, tensor.dtype),) if tensor.dtype in TRAINABLE else ()


def _first_matrix(tensors: Sequence[Tensor]) -> str:
    """Return the name of the first trained tensor that is no vector, empty where there is none."""
    for tensor in tensors:
        if not _vector(tensor.shape):
            return (tensor.leaves or own_leaf(tensor))[0][0]
    return ""


def leaves_of(inputs: Iterable[Tensor | None], elements: int) -> tuple[Leaf, ...]:
    """Return the trained tensors behind a constant of ``elements`` numbers that is computed from ``inputs``.

    Exporters that fold part of a computed weight (weight standardisation) leave several copies of it in the file: of
    those of the weight's own size only the first is counted, and single numbers are constants of the computation.
    """
    kept: dict[Leaf, None] = {}
    whole = False
    for tensor in inputs:
        for leaf in tensor.leaves if tensor is not None else ():
            size = leaf[1]
            if size > 1 and leaf not in kept and not (whole and size == elements):
                kept[leaf] = None
                whole |= size == elements
    return tuple(kept)


def _vector(shape: Shape) -> bool:
    """Return whether all elements lie along one axis."""
    return len(shape) < 2 or sum([extent != 1 for extent in shape]) < 2


def no_bias(node: Node, slot: int, tensor: Tensor) -> bool:
    """Return whether the bias of a layer is zeros that the file computes: exporters write a missing one that way."""
    if slot != 2 or node.type not in _BIASED or tensor.leaves or not tensor.uniform:
        return False
    value = tensor.value
    return value is not None and not value.flat[0]


def _fixed(node: Node, slot: int, tensor: Tensor) -> bool:
    """Return whether a constant in the place of a weight was evidently never trained.

    Known so far: ones and zeros of a norm that has no scale and shift of its own, written as literals, or of the
    instance norm of groups that a group norm is written with; and a depthwise convolution with one and the same filter
    for every channel (a blur).
    """
    if node.type in _NORMS:
        data = node.input(0)
        grouped = node.type == "InstanceNormalization" and data is not None and len(data.shape) == 3
        if (tensor.leaves and not grouped) or not tensor.uniform or (value := tensor.value) is None:
            return False
        return abs(float(value.flat[0]) - (1 if slot == 1 else 0)) < 1e-3  # quantised ones are not exact
    channels = tensor.shape[0] if tensor.shape else 0
    if node.type not in _CONVOLUTIONS or slot != 1 or channels < 2 or node.get("group", 1) != channels:
        return False
    if tensor.leaves and max(node.get("strides") or [1]) < 2:
        return False  # a blur thins out; others are not looked at, since that costs
    if (value := tensor.value) is None:
        return not tensor.leaves  # a literal of unknown values
    filters = value.reshape(channels, -1)
    if not (filters[0] == filters[1]).all() or (filters[0] == filters[0, 0]).all():
        return False
    return bool((filters == filters[0]).all())
