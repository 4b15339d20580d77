"""Cheaper activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import NotApplicableError, Site, register
from aiop.search.mutations.local import DONE_OR_NOT, LocalMutation, data_inputs, is_standard, put_in_place

__all__ = ["Activation"]

Array = npt.NDArray[Any]

# Operators of their own that become a Relu.
_WHOLE = frozenset({"Gelu", "Elu", "Selu", "Celu", "Mish", "HardSwish", "Swish"})
# Operators around which an activation may be spelled.
_CURVES = frozenset({"Sigmoid", "HardSigmoid", "Erf", "Tanh", "Softplus", "Clip"})
# Nodes that hand their input on: a gate read through them is still an output.
_VIEWS = frozenset(
    {
        "Reshape",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Concat",
        "Slice",
        "Split",
        "Identity",
        "Cast",
    }
)
_FAR = 6  # nodes from the curve to the end of a spelling, and back to its input

_POINTS = np.array([-7.0, -3.0, -1.3, -0.4, 0.0, 0.3, 0.9, 2.2, 5.0])
_HARD = np.clip(_POINTS / 6 + 0.5, 0, 1)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _erf(x: Array) -> Array:
    return np.array([math.erf(value) for value in x])


def _softplus(x: Array) -> Array:
    return np.asarray(np.log1p(np.exp(x)))


_KNOWN: dict[str, Array] = {
    "SiLU": _POINTS * _sigmoid(_POINTS),
    "GELU": _POINTS / 2 * (1 + _erf(_POINTS / math.sqrt(2))),
    "quick GELU": _POINTS * _sigmoid(1.702 * _POINTS),
    "Mish": _POINTS * np.tanh(_softplus(_POINTS)),
    "HardSwish": _POINTS * _HARD,
}
_NEAR = 2e-3  # the tanh form of GELU is within 5e-4 of it
_PAIRS: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
}
_SINGLES: dict[str, Callable[[Array], Array]] = {
    "Sigmoid": _sigmoid,
    "Erf": _erf,
    "Tanh": np.tanh,
    "Softplus": _softplus,
    "Sqrt": np.sqrt,
    "Neg": np.negative,
}


@dataclass(frozen=True)
class _Spelling:
    """Nodes that together are an activation of ``source``, the last one first."""

    kind: str
    source: ir.Value
    nodes: list[ir.Node]


@register
class Activation(LocalMutation):
    """SiLU, GELU, Mish, HardSwish, Elu and their like become a Relu, a Sigmoid that gates becomes a HardSigmoid.

    Spellings of several operators are recognised by what they compute, and become one. Multiply-accumulates stay
    as they are: what falls is the cost of element-wise operators, which latency sees and MACs do not. What gives
    an output of the network stays, since its range means something there.
    """

    name = "activation"

    def candidates(self, network: EditableNetwork) -> Iterable[ir.Node]:
        for node in network.graph:
            if not self.looks_like_one(node):
                continue
            if node.op_type in ("HardSigmoid", "Clip") and _spelling(network, node) is None:
                continue  # cheap already
            yield node

    def looks_like_one(self, node: ir.Node) -> bool:
        return is_standard(node) and (node.op_type in _WHOLE or node.op_type in _CURVES)

    def fits(self, network: EditableNetwork, node: ir.Node) -> Site:
        if node.op_type in _CURVES and _spelling(network, node) is None:
            if node.op_type not in ("Sigmoid", "Softplus"):
                raise NotApplicableError(f"{node.op_type} is no part of an activation with a cheaper one")
            if _gives_output(node.outputs[0]):
                raise NotApplicableError("it gives an output of the network")
        return Site(self.name, node.name or "", DONE_OR_NOT, ())

    def change(self, network: EditableNetwork, node: ir.Node, amount: float) -> str:
        spelling = _spelling(network, node) if node.op_type in _CURVES else None
        if spelling is None:
            old, new = node.op_type, "HardSigmoid" if node.op_type == "Sigmoid" else "Relu"
            attributes = {"alpha": 1 / 6, "beta": 0.5} if new == "HardSigmoid" else {}
            single = ir.node(new, [node.inputs[0]], attributes, name=f"{node.name}.{new.lower()}")
            network.insert(single, before=node)
            put_in_place(network, node, single)
            return f"{node.name}: {old} -> {new}"
        last, *others = spelling.nodes
        single = ir.node("Relu", [spelling.source], name=f"{node.name}.relu")
        network.insert(single, before=last)
        put_in_place(network, last, single)
        network.remove(*others)
        return f"{node.name}: {spelling.kind} -> Relu"


def _spelling(network: EditableNetwork, curve: ir.Node) -> _Spelling | None:
    """Return the activation that a curve is the heart of, None where it is none or not all of it can go."""
    for source in _sources(curve):
        for last in _ends(curve):
            nodes = _between(network, last, source)
            if nodes is None or curve not in nodes:
                continue
            found = _values(network, last.outputs[0], source, {})
            if found is None or found.shape != _POINTS.shape:
                continue
            for kind, values in _KNOWN.items():
                if np.abs(found - values).max() < _NEAR:
                    return _Spelling(kind, source, nodes)
    return None


def _sources(curve: ir.Node) -> Iterator[ir.Value]:
    """Values from which a curve is computed by element-wise nodes with one operand that is no constant."""
    current = curve.inputs[0]
    for _ in range(_FAR):
        if current is None:
            return
        yield current
        node = current.producer()
        if (
            node is None
            or not is_standard(node)
            or (node.op_type not in _PAIRS and node.op_type not in _SINGLES)
        ):
            return
        data = data_inputs(node)
        current = data[0] if data else None


def _ends(curve: ir.Node) -> Iterator[ir.Node]:
    node = curve
    for _ in range(_FAR):
        uses = node.outputs[0].uses()
        if len(uses) != 1 or node.outputs[0].is_graph_output():
            return
        node = next(iter(uses)).node
        if node.graph is not curve.graph or not is_standard(node):
            return
        if node.op_type not in _PAIRS and node.op_type not in _SINGLES:
            return
        yield node


def _between(network: EditableNetwork, last: ir.Node, source: ir.Value) -> list[ir.Node] | None:
    """Return the nodes that compute a result from ``source`` and numbers alone, None where others read or feed them."""
    found: dict[ir.Node, None] = {}
    waiting = [last]
    while waiting:
        node = waiting.pop()
        if node in found:
            continue
        if len(found) > 2 * _FAR or not is_standard(node):
            return None
        if node.op_type not in _PAIRS and node.op_type not in _SINGLES and node.op_type not in _CURVES:
            return None
        found[node] = None
        for value in node.inputs:
            if value is None or value is source:
                continue
            producer = value.producer()
            if producer is not None:
                waiting.append(producer)
            elif _number(network, value) is None:
                return None
    for node in found:
        if node is not last:
            output = node.outputs[0]
            if output.is_graph_output() or any(use.node not in found for use in output.uses()):
                return None
    return list(found)


def _number(network: EditableNetwork, value: ir.Value | None) -> float | None:
    values = network.constant(value)
    return float(values.reshape(-1)[0]) if values is not None and values.size == 1 else None


def _values(
    network: EditableNetwork, value: ir.Value, source: ir.Value, known: dict[int, Array]
) -> Array | None:
    """Return what a value is where ``source`` takes the values of the test points."""
    if value is source:
        return _POINTS
    if id(value) in known:
        return known[id(value)]
    node = value.producer()
    if node is None:
        number = _number(network, value)
        return None if number is None else np.array(number)
    operands = [_values(network, item, source, known) for item in node.inputs if item is not None]
    given = [operand for operand in operands if operand is not None]
    if len(given) < len(operands):
        return None
    with np.errstate(all="ignore"):
        result = _computed(node, given)
    if result is not None:
        known[id(value)] = result
    return result


def _computed(node: ir.Node, operands: list[Array]) -> Array | None:
    if node.op_type in _PAIRS and len(operands) == 2:
        return _PAIRS[node.op_type](operands[0], operands[1])
    if node.op_type in _SINGLES and len(operands) == 1:
        return _SINGLES[node.op_type](operands[0])
    if node.op_type == "Clip" and len(operands) == 3:
        return np.asarray(np.clip(operands[0], operands[1], operands[2]))
    if node.op_type == "HardSigmoid":
        alpha, beta = (node.attributes.get(key) for key in ("alpha", "beta"))
        slope = alpha.as_float() if alpha is not None else 0.2
        return np.asarray(np.clip(slope * operands[0] + (beta.as_float() if beta is not None else 0.5), 0, 1))
    return None


def _gives_output(value: ir.Value) -> bool:
    """Whether a value is an output of the network, as it is or moved."""
    if value.is_graph_output():
        return True
    return any(
        _gives_output(output)
        for use in value.uses()
        if use.node.op_type in _VIEWS
        for output in use.node.outputs
    )
