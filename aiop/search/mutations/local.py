"""Mutations that change one place and leave the shapes around it as they are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import onnx_ir as ir

from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import Decision, Edit, Mutation, NotApplicableError, Refusal, Site

__all__ = [
    "LocalMutation",
    "check_amount",
    "data_inputs",
    "extents",
    "in_words",
    "is_standard",
    "none_of_them",
    "put_in_place",
    "weight_of",
]

DONE_OR_NOT = (0.0,)
"""Amounts of mutations that have no degrees."""

_PRODUCTS = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "Attention", "LSTM", "GRU", "RNN"}
)
_FOREIGN_PRODUCTS = ("Conv", "Gemm", "MatMul", "Attention")
_QUANTISED = frozenset({"QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger"})
_BODIES = frozenset({"If", "Loop", "Scan"})


class LocalMutation(Mutation):
    """A mutation of one node and what belongs to it; values that other nodes read keep their shapes.

    Several changes therefore need one `EditableNetwork.infer` in the end, and no place depends on a change
    elsewhere having been inferred.
    """

    @abstractmethod
    def candidates(self, network: EditableNetwork) -> Iterable[ir.Node]:
        """Nodes that look like places, in order."""

    @abstractmethod
    def fits(self, network: EditableNetwork, node: ir.Node) -> Site:
        """Return the site at a node.

        Raises:
            NotApplicableError: The mutation does not fit there.
        """

    @abstractmethod
    def change(self, network: EditableNetwork, node: ir.Node, amount: float) -> str:
        """Change a network at a node for which `fits` returned a site; say what was done.

        Raises:
            NotApplicableError: The amount is none for this place. Nothing was changed.
        """

    def looks_like_one(self, node: ir.Node) -> bool:
        """Whether a node is of a kind that `candidates` gives."""
        return True

    def sites(self, network: EditableNetwork) -> list[Site]:
        return [found for found in self._scan(network) if isinstance(found, Site)]

    def refusals(self, network: EditableNetwork) -> list[Refusal]:
        return [found for found in self._scan(network) if isinstance(found, Refusal)]

    def _scan(self, network: EditableNetwork) -> list[Site | Refusal]:
        key = f"places of {self.name}"
        found: list[Site | Refusal] | None = network.memo.get(key)
        if found is None:
            found = network.memo[key] = [self._try(network, node) for node in self.candidates(network)]
        return found

    def _try(self, network: EditableNetwork, node: ir.Node) -> Site | Refusal:
        try:
            return self.fits(network, node)
        except NotApplicableError as error:
            return Refusal(self.name, node.name or "", str(error))

    def apply(self, network: EditableNetwork, where: str, amount: float) -> Edit:
        edit = self._edit(network, Decision(self.name, where, amount))
        network.infer()
        return edit

    def change_all(self, network: EditableNetwork, decisions: Sequence[Decision]) -> Iterator[Edit | Refusal]:
        """Apply decisions one after the other without `EditableNetwork.infer`, which the caller owes."""
        for decision in decisions:
            try:
                yield self._edit(network, decision)
            except NotApplicableError as error:
                yield Refusal(self.name, decision.where, str(error))

    def apply_all(self, network: EditableNetwork, decisions: list[Decision]) -> Iterator[Edit | Refusal]:
        """Apply decisions one after the other, with one inference of shapes in the end."""
        done = list(self.change_all(network, decisions))
        if any(isinstance(found, Edit) for found in done):
            network.infer()
        yield from done

    def _edit(self, network: EditableNetwork, decision: Decision) -> Edit:
        node = network.node(decision.where)
        if node is None:
            raise NotApplicableError(f'there is no node "{decision.where}" any more')
        if not self.looks_like_one(node):
            raise NotApplicableError(f"{self.name} does not fit the operator {node.op_type}")
        site = self.fits(network, node)
        check_amount(site, decision.amount)
        return Edit(decision, self.change(network, node, decision.amount))


def check_amount(site: Site, amount: float) -> None:
    """Raise `NotApplicableError` for an amount that no place takes."""
    if site.amounts == DONE_OR_NOT:
        if amount != 0:
            raise NotApplicableError(f"{site.mutation} is done or not: its amount is 0, not {amount:g}")
    elif not 0 < amount < 1:
        raise NotApplicableError(f"the share that is left must lie between 0 and 1, not at {amount:g}")


def is_standard(node: ir.Node) -> bool:
    """Whether a node is of ONNX's own operators."""
    return node.domain in ("", "ai.onnx")


def none_of_them(node: ir.Node) -> str | None:
    """Say why a node that looks like a product of weights cannot be changed; None where nothing speaks against it."""
    if node.op_type in _BODIES:
        return f"what is inside {node.op_type} is left alone"
    if node.op_type in _QUANTISED:
        return f"{node.op_type} is quantised: change the network before it is quantised"
    if not is_standard(node):
        return f"{node.domain}.{node.op_type} is an operator of another domain"
    return None


def is_product(node: ir.Node) -> bool:
    """Whether a node multiplies and accumulates, or holds nodes that may."""
    if is_standard(node):
        return node.op_type in _PRODUCTS or node.op_type in _QUANTISED or node.op_type in _BODIES
    return any(word in node.op_type for word in _FOREIGN_PRODUCTS)


def weight_of(node: ir.Node, index: int) -> ir.Value:
    """Return the initialiser with floating-point values at an input of a node, else raise `NotApplicableError`."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None or value.const_value is None or value.producer() is not None:
        made = value.producer() if value is not None else None
        by = f" by {made.op_type}" if made is not None else ""
        raise NotApplicableError(f"its weights are computed{by}, not stored")
    if not ir.DataType(value.const_value.dtype).is_floating_point():
        raise NotApplicableError(f"its weights are of type {ir.DataType(value.const_value.dtype).name}")
    return value


def extents(value: ir.Value) -> tuple[int, ...]:
    """Return the shape of an initialiser."""
    tensor = value.const_value
    assert tensor is not None
    return tuple(tensor.shape.numpy())


def data_inputs(node: ir.Node) -> list[ir.Value]:
    """Return the inputs of a node that are no initialisers."""
    return [
        value
        for value in node.inputs
        if value is not None and not (value.const_value is not None and value.producer() is None)
    ]


def put_in_place(network: EditableNetwork, node: ir.Node, last: ir.Node) -> None:
    """Let all readers of a node's result read the result of ``last``, and take the node out."""
    output = last.outputs[0]
    old = node.outputs[0]
    if output.shape is None:
        output.shape, output.type = old.shape, old.type
    network.replace_uses(old, output)
    network.remove(node)


def in_words(names: Sequence[str], most: int = 4) -> str:
    """Join names for a reader: the first few, then how many more."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
