"""What follows from other sizes of a network's inputs: the shapes of all values, and constants that hold sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import NotApplicableError
from aiop.search.mutations.local import is_standard
from aiop.search.mutations.regrouping import regroup

__all__ = ["Constant", "Kernel", "Plan", "follow"]

Array = npt.NDArray[Any]
Shape = tuple[int | None, ...]

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
_WINDOWS = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"})
_FEW = 5  # positions at an edge that slices and splits may name: class tokens and the like
_LARGE = 2**31 - 1  # ends of slices from here on mean the end


@dataclass(frozen=True)
class Constant:
    """New values of the constant at an input of a node."""

    node: str
    index: int
    values: Array


@dataclass(frozen=True)
class Kernel:
    """New sides of a pooling window that covers the whole map."""

    node: str
    sides: tuple[int, ...]


@dataclass
class Plan:
    """New shapes of the inputs and of all values that change (by name), and what must change with them."""

    inputs: dict[str, Shape]
    shapes: dict[str, Shape] = field(default_factory=dict)
    constants: list[Constant] = field(default_factory=list)
    kernels: list[Kernel] = field(default_factory=list)
    regrouped: dict[Shape, Shape | None] = field(default_factory=dict)


def follow(network: EditableNetwork, inputs: Mapping[str, Shape]) -> Plan:
    """Return what follows from new shapes of inputs, the network unchanged.

    Raises:
        NotApplicableError: Something does not follow; the message names the first such node.
    """
    plan = Plan(dict(inputs), dict(inputs))
    walk = _Walk(network, plan)
    for node in network.graph:
        if any(value is not None and value.name in plan.shapes for value in node.inputs):
            walk.step(node)
    for output in network.graph.outputs:
        old, new = network.shape(output), plan.shapes.get(output.name or "")
        if new is not None and old is not None and len(new) != len(old):
            raise NotApplicableError(f"the output {output.name} would change its rank")
    return plan


class _Walk:
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
        rule = _RULES.get(kind)
        if rule is not None:
            shapes = rule(self, node)
        elif kind in _FREE or kind in _BROADCAST or kind in _WINDOWS:
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
        return " and ".join(_by(self.new(value)) for value in node.inputs if value is not None and value.name)

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
                    what = f"position constant {value.name} of {_by(self.old(value))}"
                    self.refuse(node, f"the {what} does not fit {self.sizes(node)}")
            self.refuse(node, f"{self.sizes(node)} do not fit together")

    def check_weights(self, node: ir.Node) -> None:
        """Check what ONNX's inference lets pass: extents that stored weights fix."""
        kind = node.op_type
        if kind in ("Conv", "ConvTranspose"):
            group = _int(node, "group", 1)
            weight = self.new(node.inputs[1])
            wanted = (weight[1] or 0) * group if kind == "Conv" else weight[0]
            if self.new(node.inputs[0])[1] != wanted:
                self.refuse(node, f"its weights are for {wanted} positions")
        elif kind == "Gemm":
            one, other = self.new(node.inputs[0]), self.new(node.inputs[1])
            inner = one[0 if _int(node, "transA", 0) else 1], other[1 if _int(node, "transB", 0) else 0]
            if inner[0] != inner[1]:
                self.refuse(node, f"its weights are for {inner[1]} inputs, not {inner[0]}")
        elif kind in ("BatchNormalization", "InstanceNormalization", "GroupNormalization"):
            if self.new(node.inputs[0])[1] != self.old(node.inputs[0])[1]:
                self.refuse(node, "it normalises positions one by one")
        elif kind in ("LayerNormalization", "RMSNormalization"):
            axis = _int(node, "axis", -1)
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


def _reshape(walk: _Walk, node: ir.Node) -> list[Shape]:
    source, target = node.inputs[0], walk.numbers(node, 1)
    assert target is not None
    old = walk.old(node.outputs[0])
    new = regroup(walk.old(source), old, walk.new(source), walk.plan.regrouped, walk.learn)
    if new is None:
        sizes = f"{_by(walk.old(source))} -> {_by(old)}"
        walk.refuse(node, f"there is no one way for the reshape {sizes} to follow to {_by(walk.new(source))}")
    taken = walk.new(source)
    wanted = []
    for axis, number in enumerate(target):
        extent = new[axis]
        copies = number == 0 and axis < len(taken) and taken[axis] == extent
        wanted.append(number if number == -1 or copies or extent is None else extent)
    if wanted != target:
        walk.set_numbers(node, 1, wanted)
    return [new]


def _resize(walk: _Walk, node: ir.Node) -> list[Shape] | None:
    source = node.inputs[0]
    sizes = walk.numbers(node, 3) if len(node.inputs) > 3 else None
    if not sizes:
        return None
    old_in, new_in, old_out = walk.old(source), walk.new(source), walk.old(node.outputs[0])
    attribute = node.attributes.get("axes")
    axes = (
        [axis % len(old_in) for axis in attribute.as_ints()]
        if attribute is not None
        else list(range(len(sizes)))
    )
    wanted = list(sizes)
    result = list(new_in)
    for place, axis in enumerate(axes):
        before, after, out = old_in[axis], new_in[axis], old_out[axis]
        if before is None or after is None or out is None:
            continue
        if before != after:
            if out * after % before:
                walk.refuse(node, f"a resize from {before} to {out} leaves a fraction at {after}")
            out = out * after // before
        wanted[place] = result[axis] = out
    walk.set_numbers(node, 3, wanted)
    return [tuple(result)]


def _expand(walk: _Walk, node: ir.Node) -> list[Shape]:
    source, target = node.inputs[0], walk.numbers(node, 1)
    assert target is not None
    old, new = walk.old(source), walk.new(source)
    lead = len(target) - len(old)
    wanted = list(target)
    for axis in walk.changed_axes(source):
        place = axis + lead
        if place >= 0 and target[place] == old[axis]:
            extent = new[axis]
            assert extent is not None
            wanted[place] = extent
        elif place >= 0 and target[place] != 1:
            walk.refuse(node, "it expands to a fixed size")
    if wanted != target:
        walk.set_numbers(node, 1, wanted)
    return walk.infer(node, {1: np.array(wanted, np.int64)})


def _slice(walk: _Walk, node: ir.Node) -> None:
    source = node.inputs[0]
    rank = len(walk.old(source))
    starts, ends = walk.numbers(node, 1) or [], walk.numbers(node, 2) or []
    axes = walk.numbers(node, 3) or list(range(len(starts)))
    steps = walk.numbers(node, 4) or [1] * len(starts)
    changed = walk.changed_axes(source)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis % rank not in changed:
            continue
        open_end = end >= _LARGE or -_FEW <= end < 0
        at_start = 0 <= start <= _FEW and (open_end or end <= _FEW)
        if step < 0 or not (at_start or (-_FEW <= start < 0 and open_end)):
            walk.refuse(node, f"it takes the positions from {start} to {end}")


def _gather(walk: _Walk, node: ir.Node) -> None:
    source = node.inputs[0]
    axis = _int(node, "axis", 0) % len(walk.old(source))
    if axis not in walk.changed_axes(source):
        return
    indices = walk.numbers(node, 1) or []
    if len(indices) != 1 or not -_FEW <= indices[0] < _FEW:
        walk.refuse(node, "it picks positions")


def _split(walk: _Walk, node: ir.Node) -> list[Shape] | None:
    source = node.inputs[0]
    old, new = walk.old(source), walk.new(source)
    axis = _int(node, "axis", 0) % len(old)
    if axis not in walk.changed_axes(source):
        return None
    sizes = walk.numbers(node, 1)
    if sizes is None or len(sizes) != 2 or sizes[0] > _FEW:
        walk.refuse(node, f"it splits {old[axis]} positions at fixed places")
    rest = (new[axis] or 0) - sizes[0]
    walk.set_numbers(node, 1, [sizes[0], rest])
    return [(*new[:axis], part, *new[axis + 1 :]) for part in (sizes[0], rest)]


def _tile(walk: _Walk, node: ir.Node) -> None:
    repeats = walk.numbers(node, 1) or []
    if any(repeats[axis] != 1 for axis in walk.changed_axes(node.inputs[0])):
        walk.refuse(node, "it repeats positions")


def _shape(walk: _Walk, node: ir.Node) -> list[Shape]:
    rank = len(walk.old(node.inputs[0]))
    start, end = _int(node, "start", 0) % (rank + 1), _int(node, "end", rank)
    end = end + rank if end < 0 else min(end, rank)
    if walk.changed_axes(node.inputs[0]) & set(range(start, end)):
        walk.refuse(node, "what follows computes with sizes")
    return [walk.old(node.outputs[0])]


def _window(walk: _Walk, node: ir.Node) -> list[Shape] | None:
    source = node.inputs[0]
    attribute = node.attributes.get("kernel_shape")
    sides = list(attribute.as_ints()) if attribute is not None else list(walk.old(node.inputs[1])[2:])
    old, new = walk.old(source)[2:], walk.new(source)[2:]
    if None in new:
        walk.refuse(node, "the shape of its input is not known")
    pads = _ints(node, "pads", (0,) * (2 * len(sides)))
    dilations = _ints(node, "dilations", (1,) * len(sides))
    if node.op_type == "ConvTranspose":
        return None
    whole = [side == extent and side != 1 for side, extent in zip(sides, old, strict=True)]
    if all(whole) and node.op_type.endswith("Pool") and not any(pads):
        kernel = tuple(int(extent or 0) for extent in new)
        walk.plan.kernels.append(Kernel(node.name or "", kernel))
        return [walk.old(node.outputs[0])]
    automatic = node.attributes.get("auto_pad")
    if automatic is not None and automatic.as_string().startswith("SAME"):
        return None
    for axis, (side, extent) in enumerate(zip(sides, new, strict=True)):
        reach = dilations[axis] * (int(side or 0) - 1) + 1
        if reach > int(extent or 0) + sum(pads[axis :: len(sides)]):
            walk.refuse(node, f"its kernel of {_by(tuple(sides))} does not fit a map of {_by(new)}")
    return None


_RULES: dict[str, Callable[[_Walk, ir.Node], list[Shape] | None]] = {
    "Reshape": _reshape,
    "Resize": _resize,
    "Expand": _expand,
    "Slice": _slice,
    "Gather": _gather,
    "Split": _split,
    "Tile": _tile,
    "Shape": _shape,
    **dict.fromkeys(_WINDOWS, _window),
}


def _int(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return attribute.as_int() if attribute is not None else default


def _ints(node: ir.Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    attribute = node.attributes.get(name)
    return tuple(attribute.as_ints()) if attribute is not None else default


def _by(shape: Sequence[object]) -> str:
    return "x".join("?" if extent is None else str(extent) for extent in shape) or "a number"
