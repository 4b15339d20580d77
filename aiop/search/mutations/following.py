"""What follows from other sizes of a network's inputs: the shapes of all values, and constants that hold sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import NotApplicableError
from aiop.search.mutations.local import is_standard
from aiop.search.mutations.size_plan import Constant, Plan, Shape
from aiop.search.mutations.size_rules import RULES, WINDOWS, integer, written

__all__ = ["Plan", "Walk", "follow"]

Array = npt.NDArray[Any]

# Operators for which the same attributes and constants mean the same at any size.
_FREE = frozenset(
    "Relu LeakyRelu PRelu Clip Elu Selu Celu Sigmoid HardSigmoid HardSwish Swish Gelu Mish Softplus Softsign Tanh "
    "Erf Exp Log Sqrt Abs Neg Reciprocal Floor Ceil Round Sin Cos Cast Identity Dropout Softmax LogSoftmax Hardmax Not "
    "Sign ThresholdedRelu Transpose Squeeze Unsqueeze Flatten Concat GlobalAveragePool GlobalMaxPool GlobalLpPool "
    "LpNormalization ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare "
    "ReduceLogSumExp ArgMax ArgMin DepthToSpace SpaceToDepth Pad MatMul Gemm Einsum LRN IsNaN BatchNormalization "
    "InstanceNormalization GroupNormalization LayerNormalization MeanVarianceNormalization RMSNormalization".split()
)
_BROADCAST = frozenset(
    "Add Sub Mul Div Pow Max Min Mean Sum Mod And Or Xor Equal Less Greater LessOrEqual GreaterOrEqual "
    "Where PRelu".split()
)


def follow(network: EditableNetwork, inputs: Mapping[str, Shape]) -> Plan:
    """Return what follows from new shapes of inputs, the network unchanged.

    Raises:
        NotApplicableError: Something does not follow; the message names the first such node.
    """
    plan = Plan(dict(inputs), dict(inputs))
    walk = Walk(network, plan)
    for node in network.graph:
        if any(value is not None and value.name in plan.shapes for value in node.inputs):
            walk.step(node)
    for output in network.graph.outputs:
        old, new = network.shape(output), plan.shapes.get(output.name or "")
        if new is not None and old is not None and len(new) != len(old):
            raise NotApplicableError(f"the output {output.name} would change its rank")
    return plan


class Walk:
    """Goes through a network in the order of its nodes and keeps what it finds in a plan."""

    def __init__(self, network: EditableNetwork, plan: Plan) -> None:
        self.network, self.plan = network, plan
        self.opset = network.model.opset_imports.get("", 17)
        self.imports = [onnx.helper.make_opsetid("", self.opset)]
        for name, shape in plan.inputs.items():
            self._remember(network.shape(network.value(name)), shape)

    def old(self, value: ir.Value | None) -> Shape:
        shape = self.network.shape(value)
        if shape is None:
            name = value.name if value is not None else ""
            raise NotApplicableError(f"the shape of {name} is not known")
        return shape

    def new(self, value: ir.Value | None) -> Shape:
        assert value is not None
        return self.plan.shapes.get(value.name or "") or self.old(value)

    def step(self, node: ir.Node) -> None:
        """Find the new shapes of the outputs of a node, and what it needs for them."""
        kind = node.op_type
        if not is_standard(node):
            self.refuse(node, f"{node.domain}.{kind} may depend on sizes")
        rule = RULES.get(kind)
        if rule is not None:
            shapes = rule(self, node)
        elif kind in _FREE or kind in _BROADCAST or kind in WINDOWS:
            shapes = None
        else:
            self.refuse(node, f"{kind} may depend on sizes")
        if kind in _BROADCAST:
            self.check_broadcast(node)
        if shapes is None:
            shapes = self.infer(node)
        self.check_weights(node)
        for output, shape in zip(node.outputs, shapes, strict=True):
            if not output.name:
                continue
            if any(extent is not None and extent < 1 for extent in shape):
                self.refuse(node, "nothing is left of the map")
            old = self.old(output)
            if len(old) != len(shape):
                self.refuse(node, "its rank changes")
            if None in shape[1:] and output.uses():
                self.refuse(node, "its size is computed while the network runs")
            if shape != old:
                self.plan.shapes[output.name] = shape
                self._remember(old, shape)

    def _remember(self, old: Shape | None, new: Shape) -> None:
        """Keep which rows and columns become which, for reshapes that split them again."""
        if old is not None and len(old) == 4:
            for pair, other in ((old[2:], new[2:]), (old[1:3], new[1:3])):
                self.learn(pair, other)

    def learn(self, old: Shape, new: Shape) -> None:
        if None in old or None in new or all(a == b for a, b in zip(old, new, strict=True)):
            return
        known = self.plan.regrouped.setdefault(old, new)
        if known != new:
            self.plan.regrouped[old] = None  # two ways

    def refuse(self, node: ir.Node, reason: str) -> NoReturn:
        raise NotApplicableError(f"{node.name}: {reason}")

    def infer(self, node: ir.Node, changed: Mapping[int, Array] | None = None) -> list[Shape]:
        """Return the shapes that ONNX's own inference gives."""
        types: dict[str, onnx.TypeProto] = {}
        data: dict[str, onnx.TensorProto] = {}
        for index, value in enumerate(node.inputs):
            if value is None or not value.name:
                continue
            dtype = value.dtype
            if dtype is None:
                self.refuse(node, f"the type of {value.name} is not known")
            types[value.name] = onnx.helper.make_tensor_type_proto(int(dtype), list(self.new(value)))
            numbers = changed[index] if changed and index in changed else self.network.constant(value)
            if numbers is not None and index and numbers.ndim < 2 and dtype != ir.DataType.BFLOAT16:
                data[value.name] = onnx.numpy_helper.from_array(np.asarray(numbers, order="C"), value.name)
        message = ir.serde.serialize_node(node)
        try:
            schema = onnx.defs.get_schema(node.op_type, self.opset, "")
            found = onnx.shape_inference.infer_node_outputs(
                schema, message, types, data, opset_imports=self.imports
            )
        except Exception:  # whatever the inference of an operator raises
            self.refuse(node, f"{node.op_type} does not fit {self.sizes(node)}")
        shapes: list[Shape] = []
        for output in node.outputs:
            proto = found.get(output.name or "")
            if proto is None or not proto.tensor_type.HasField("shape"):
                self.refuse(node, "its new shape cannot be inferred")
            shapes.append(
                tuple(
                    dim.dim_value if dim.HasField("dim_value") else None
                    for dim in proto.tensor_type.shape.dim
                )
            )
        return shapes

    def sizes(self, node: ir.Node) -> str:
        return " and ".join(
            written(self.new(value)) for value in node.inputs if value is not None and value.name
        )

    def check_broadcast(self, node: ir.Node) -> None:
        """Constants must fit as they did: what has the old number of tokens or rows belongs to positions."""
        values = [value for value in node.inputs if value is not None]
        rank = max(len(self.new(value)) for value in values)
        rows = [(1,) * (rank - len(self.new(value))) + self.new(value) for value in values]
        before = [(1,) * (rank - len(self.old(value))) + self.old(value) for value in values]
        for axis in range(rank):
            new = {row[axis] for row in rows if row[axis] != 1}
            shrunk = any(row[axis] == 1 and was[axis] != 1 for row, was in zip(rows, before, strict=True))
            if len(new) <= 1 and not (shrunk and new):
                continue
            for value in values:
                if value.const_value is not None and value.producer() is None:
                    what = f"position constant {value.name} of {written(self.old(value))}"
                    self.refuse(node, f"the {what} does not fit {self.sizes(node)}")
            self.refuse(node, f"{self.sizes(node)} do not fit together")

    def check_weights(self, node: ir.Node) -> None:
        """Check what ONNX's inference lets pass: extents that stored weights fix."""
        kind = node.op_type
        if kind in ("Conv", "ConvTranspose"):
            group = integer(node, "group", 1)
            weight = self.new(node.inputs[1])
            wanted = (weight[1] or 0) * group if kind == "Conv" else weight[0]
            if self.new(node.inputs[0])[1] != wanted:
                self.refuse(node, f"its weights are for {wanted} positions")
        elif kind == "Gemm":
            one, other = self.new(node.inputs[0]), self.new(node.inputs[1])
            inner = one[0 if integer(node, "transA", 0) else 1], other[1 if integer(node, "transB", 0) else 0]
            if inner[0] != inner[1]:
                self.refuse(node, f"its weights are for {inner[1]} inputs, not {inner[0]}")
        elif kind in ("BatchNormalization", "InstanceNormalization", "GroupNormalization"):
            if self.new(node.inputs[0])[1] != self.old(node.inputs[0])[1]:
                self.refuse(node, "it normalises positions one by one")
        elif kind in ("LayerNormalization", "RMSNormalization"):
            axis = integer(node, "axis", -1)
            if self.new(node.inputs[0])[axis:] != self.old(node.inputs[0])[axis:]:
                self.refuse(node, "it has weights for positions")
        elif kind == "Einsum":
            self.check_einsum(node)

    def check_einsum(self, node: ir.Node) -> None:
        text = node.attributes["equation"].as_string().replace(" ", "").split("->")[0]
        known: dict[str, int | None] = {}
        for labels, value in zip(text.split(","), node.inputs, strict=True):
            shape = self.new(value)
            if "." in labels or len(labels) != len(shape):
                self.refuse(node, "its equation leaves axes open")
            for label, extent in zip(labels, shape, strict=True):
                if known.setdefault(label, extent) != extent:
                    self.refuse(node, f"{self.sizes(node)} do not fit together")

    def changed_axes(self, value: ir.Value | None) -> set[int]:
        return {
            axis for axis, (a, b) in enumerate(zip(self.old(value), self.new(value), strict=True)) if a != b
        }

    def numbers(self, node: ir.Node, index: int) -> list[int] | None:
        """Return the constant at an input as integers, None where there is no such input."""
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None or not value.name:
            return None
        found = self.network.constant(value)
        if found is None:
            self.refuse(node, f"{node.op_type} computes sizes")
        return [int(number) for number in found.reshape(-1)]

    def set_numbers(self, node: ir.Node, index: int, numbers: Sequence[int]) -> None:
        self.plan.constants.append(Constant(node.name or "", index, np.array(numbers, np.int64)))
