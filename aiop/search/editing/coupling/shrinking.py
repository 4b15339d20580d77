"""The change itself: fewer units in several groups of a network at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from aiop.errors import AiopError
from aiop.search.editing.coupling.groups import Coupling
from aiop.search.editing.coupling.importance import ranked
from aiop.search.editing.coupling.links import Atoms, Axes
from aiop.search.editing.weights import extents

if TYPE_CHECKING:
    from aiop.search.editing.network import EditableNetwork

__all__ = ["shrink"]

Array = npt.NDArray[np.generic]
Labels = npt.NDArray[np.int64]


class _Kept:
    """Which atoms are kept, found out when the first weight is asked for."""

    def __init__(
        self, coupling: Coupling, kept: Mapping[str, Sequence[int]], importance: str, seed: int
    ) -> None:
        self._coupling, self._kept, self._importance, self._seed = coupling, kept, importance, seed
        self._mask: npt.NDArray[np.bool_] | None = None

    def atoms(self) -> npt.NDArray[np.bool_]:
        """``(atoms,)``: True for what stays."""
        if self._mask is None:
            classes = np.ones(self._coupling.count, bool)
            for where, counts in self._kept.items():
                group = self._coupling.groups[where]
                for order, count in zip(
                    ranked(self._coupling, group, self._importance, self._seed), counts, strict=True
                ):
                    classes[order[count:]] = False
            self._mask = classes[self._coupling.label]
        return self._mask

    def cut(self, axes: Mapping[int, Atoms]) -> Callable[[Array], Array]:
        """Return the function that takes what is kept along some axes of a weight."""

        def function(array: Array) -> Array:
            for place, axis in axes.items():
                array = np.compress(self.atoms()[axis], array, axis=place)
            return array

        return function


class _Journal:
    """Changes of nodes, and how to take them back."""

    def __init__(self, network: EditableNetwork, kept: _Kept) -> None:
        self._network, self._kept = network, kept
        self._undo: list[Callable[[], object]] = []

    def set_integer(self, node: ir.Node, key: str, value: int) -> None:
        """See `Changes`."""
        self._remember(node, key)
        node.attributes[key] = ir.AttrInt64(key, value)

    def drop_attribute(self, node: ir.Node, key: str) -> None:
        """See `Changes`."""
        if key in node.attributes:
            self._remember(node, key)
            del node.attributes[key]

    def set_constant(self, node: ir.Node, index: int, values: Sequence[int]) -> None:
        """See `Changes`."""
        constant = self._network.add_initializer(f"{node.name}/sizes", np.array(values, np.int64))
        self._replace(node, index, constant)

    def set_kept(self, node: ir.Node, index: int, make: Callable[[Atoms], Atoms], length: int) -> None:
        """See `Changes`."""

        def values() -> Labels:
            return np.asarray(make(self._kept.atoms().astype(np.int64)), np.int64)

        constant = self._network.add_weight(f"{node.name}/indices", (length,), ir.DataType.INT64, values)
        self._replace(node, index, constant)

    def derive(self, value: ir.Value, shape: tuple[int, ...], axes: Mapping[int, Atoms]) -> None:
        """Let an initialiser be what is left of it."""
        tensor, old = value.const_value, value.shape

        def undo() -> None:
            value.const_value, value.shape = tensor, old

        self._undo.append(undo)
        self._network.derive(value, shape, self._kept.cut(axes))

    def back(self) -> None:
        """Take all changes back, the last one first."""
        for undo in reversed(self._undo):
            undo()

    def _remember(self, node: ir.Node, key: str) -> None:
        old = node.attributes.get(key)

        def undo() -> None:
            if old is None:
                node.attributes.pop(key, None)
            else:
                node.attributes[key] = old

        self._undo.append(undo)

    def _replace(self, node: ir.Node, index: int, value: ir.Value) -> None:
        if index >= len(node.inputs):
            length = len(node.inputs)
            self._undo.append(lambda: node.resize_inputs(length))
            node.resize_inputs(index + 1)
        else:
            old = node.inputs[index]

            def undo() -> None:
                node.replace_input_with(index, old)
                if old is not None and old.const_value is not None and old.producer() is None:
                    self._network.graph.initializers[old.name or ""] = old

            self._undo.append(undo)
        node.replace_input_with(index, value)


def shrink(
    network: EditableNetwork,
    coupling: Coupling,
    kept: Mapping[str, Sequence[int]],
    *,
    importance: str = "magnitude",
    seed: int = 0,
) -> None:
    """Keep ``kept[where][i]`` units of part ``i`` of each named group; weights follow when they are asked for.

    Raises:
        AiopError: The smaller sizes do not fit together; the network is as it was before.
    """
    left = coupling.sizes.copy()
    for where, counts in kept.items():
        first = coupling.groups[where].first_part
        left[first : first + len(counts)] = counts
    choice = _Kept(coupling, kept, importance, seed)
    journal = _Journal(network, choice)
    initializers = network.graph.initializers
    for name, axes in coupling.weights.items():
        shrinking = {
            place: axis for place, axis in _shrinking(coupling, axes, left).items() if axis is not None
        }
        if shrinking:
            value = initializers[name]
            assert value.const_value is not None
            shape = [
                coupling.length(axis, left) if place in shrinking and axis is not None else int(extent)
                for place, (axis, extent) in enumerate(zip(axes, extents(value.const_value), strict=True))
            ]
            journal.derive(value, tuple(shape), shrinking)
    for fix in coupling.fixes:
        if any(coupling.changes(axis, left) for axis in fix.arrays):
            node = network.node(fix.node)
            assert node is not None, f"{fix.node} is not there"
            lengths = [-1 if axis is None else coupling.length(axis, left) for axis in fix.arrays]
            fix.repair(journal, node, lengths)
    try:
        network.infer()
    except AiopError:
        journal.back()
        network.infer()
        raise


def _shrinking(coupling: Coupling, axes: Axes, left: Labels) -> dict[int, Atoms | None]:
    return {place: axis for place, axis in enumerate(axes) if coupling.changes(axis, left)}
