"""ONNX -> `ComputeGraph`.

The nodes of a file are walked once, in topological order, with fully known shapes: constants that shapes are computed
from are folded away, weights are seen as shapes only, and what remains becomes one `Operation` per node. Identity,
Dropout and the like leave no operation behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import Error as ProtobufError

from aiop.errors import AiopError, suggest
from aiop.graph_ir.description import describe
from aiop.graph_ir.folding import filled, fold
from aiop.graph_ir.graph import ComputeGraph, Operation, TensorSpec
from aiop.graph_ir.inference import Inference, label, output_dtypes
from aiop.graph_ir.onnx_functions import inline_functions
from aiop.graph_ir.onnx_order import in_order
from aiop.graph_ir.onnx_values import attribute_value, constant, input_shape, sparse_constant
from aiop.graph_ir.parameters import ParameterCounter, Parameters, leaves_of
from aiop.graph_ir.values import (
    DTYPES,
    LARGEST_COST,
    LARGEST_FOLDED,
    LARGEST_TENSOR,
    Node,
    Shape,
    Tensor,
    UnknownValue,
)
from aiop.graph_ir.wire import load_without_weights, parse_without_weights

__all__ = ["read_onnx"]

_STANDARD = ("", "ai.onnx")
# What a node outside the specification can raise anywhere.
_MALFORMED = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError, RuntimeError, ProtobufError,
    UnknownValue,
)  # fmt: skip


def read_onnx(
    source: str | Path | bytes | onnx.ModelProto,
    *,
    name: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> ComputeGraph:
    """Read a network from an ONNX file, its bytes or its message, without reading weights.

    Args:
        source: Path of a file, or a serialised or parsed ``ModelProto``.
        name: How the network is called in errors and results; the path where left out.
        shapes: Input name -> shape, for inputs whose size the file leaves open (an open first axis is read as 1).

    Raises:
        AiopError: The file is not an ONNX network, or its shapes are inconsistent or not known.
    """
    if isinstance(source, str | Path):
        name = name or str(source)
        model = load_without_weights(Path(source))
    elif isinstance(source, bytes):
        name = name or "network"
        model = parse_without_weights(source, name)
    else:
        name, model = name or str(source.graph.name) or "network", source
    try:
        return _Reader(inline_functions(model), name).read(shapes or {})
    except AiopError as error:
        raise AiopError(f"{name}: {error}") from error
    except _MALFORMED as error:
        raise AiopError(
            f"{name}: not a valid ONNX network ({type(error).__name__}: {error}); check it with onnx.checker"
        ) from error


class _Reader:
    """State of reading one file; its errors do not name the file, `read_onnx` does."""

    def __init__(self, model: onnx.ModelProto, name: str) -> None:
        self.model = model
        self.name = name
        self.tensors: dict[str, Tensor] = {}
        self.operations: list[Operation] = []
        self.notes: list[str] = []
        self.opset = next((o.version for o in model.opset_import if o.domain in _STANDARD), 1)
        self.inference = Inference(model, self.notes)
        self.parameters = ParameterCounter()

    def read(self, shapes: Mapping[str, Sequence[int]]) -> ComputeGraph:
        graph = self.model.graph
        if self.opset < 1:
            raise AiopError(f"opset {self.opset} does not exist; export the network again")
        self._initializers(graph)
        inputs = self._inputs(graph, shapes)
        self._nodes(graph.node)
        specs: dict[tuple[Shape, str], TensorSpec] = {}  # few differ, so they are shared
        tensors: dict[str, TensorSpec] = {}
        for operation in self.operations:
            for key in operation.outputs:
                tensor = self.tensors[key]
                kind = (tensor.shape, tensor.dtype)
                tensors[key] = specs.get(kind) or specs.setdefault(kind, TensorSpec(*kind))
        return ComputeGraph(
            name=self.name,
            operations=self.operations,
            tensors=tensors,
            inputs=inputs,
            outputs=self._outputs(graph),
            notes=tuple(dict.fromkeys(self.notes)),
            opset=self.opset,
            producer=f"{self.model.producer_name} {self.model.producer_version}".strip(),
        )

    # -- what flows in and out

    def _define(self, tensor: Tensor, alias: str = "") -> None:
        name = alias or tensor.name
        if name in self.tensors:
            raise AiopError(f"the name {name!r} is given twice; export the network again")
        if not isinstance(name, str):  # protobuf hands out what is not UTF-8 as bytes
            raise AiopError(f"the name {name!r} is not text; export the network again")
        if name:  # an output that is left out has none
            self.tensors[name] = tensor

    def _initializers(self, graph: onnx.GraphProto) -> None:
        for proto in graph.initializer:
            tensor = constant(proto.name, proto)
            tensor.leaves = ((tensor.name, tensor.elements),)
            self._define(tensor)
        for sparse in graph.sparse_initializer:
            tensor = sparse_constant(sparse.values.name, sparse)
            tensor.leaves = ((tensor.name, tensor.elements),)
            self._define(tensor)

    def _inputs(self, graph: onnx.GraphProto, shapes: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
        # old files list their weights as inputs too
        values = [value for value in graph.input if value.name not in self.tensors]
        names = tuple(value.name for value in values)
        unknown = sorted(set(shapes) - set(names))
        if unknown:
            raise AiopError(
                f"has no input {unknown[0]!r} to give a shape to{suggest(unknown[0], names)}; "
                f"its inputs are {', '.join(names) or 'none'}"
            )
        if not values:
            raise AiopError("the graph has no inputs, so nothing flows through it; export the network again")
        for name, value in zip(names, values, strict=True):
            shape = input_shape(value, shapes.get(name))
            tensor = Tensor(name, shape, DTYPES.get(value.type.tensor_type.elem_type, "float32"))
            self._define(tensor)
            self.operations.append(
                Operation(name, "Input", "Input", (), (name,), output_elements=tensor.elements)
            )
        return names

    def _outputs(self, graph: onnx.GraphProto) -> tuple[str, ...]:
        outputs = []
        for value in graph.output:
            tensor = self.tensors.get(value.name)
            if tensor is None:
                raise AiopError(f"output {value.name!r} is computed by no node; export the network again")
            if tensor.constant:
                self.notes.append(f"output {value.name!r} does not depend on the inputs and is left out")
            else:
                outputs.append(tensor.name)
        if not outputs:
            raise AiopError(
                "no output depends on the inputs, so nothing flows through it; export the network again"
            )
        return tuple(outputs)

    # -- nodes

    def _nodes(self, protos: Iterable[onnx.NodeProto]) -> None:
        waiting: list[onnx.NodeProto] = []
        tensors = self.tensors
        for proto in protos:
            try:
                inputs = None if waiting else [tensors[key] if key else None for key in proto.input]
            except KeyError:
                inputs = None
            if inputs is None:
                waiting.append(proto)
            else:
                self._node(proto, inputs)
        if waiting:
            for proto in in_order(waiting, tensors):
                self._node(proto, [tensors[key] if key else None for key in proto.input])

    def _node(self, proto: onnx.NodeProto, inputs: list[Tensor | None]) -> None:
        node = Node(proto.name, proto.op_type, proto.domain, {}, inputs, len(proto.output), self.opset)
        if not (isinstance(node.name, str) and isinstance(node.type, str) and isinstance(node.domain, str)):
            raise AiopError(f"{label(node, proto)} has a name that is not text; export the network again")
        try:
            node.attributes = {attribute.name: attribute_value(attribute) for attribute in proto.attribute}
            self._visit(node, proto)
        except _MALFORMED as error:
            raise AiopError(
                f"{label(node, proto)} is not valid ({type(error).__name__}: {error}); check the file with onnx.checker"
            ) from error

    def _visit(self, node: Node, proto: onnx.NodeProto) -> None:
        names = list(proto.output)
        if not any(names):
            return
        special = _SPECIAL.get(node.type) if node.domain in _STANDARD else None
        if special is not None and special(self, node, proto, names):
            return
        constants = varies = False
        for tensor in node.inputs:
            if tensor is not None:
                constants |= tensor.constant
                varies |= not tensor.constant
        if node.inputs and not varies:
            self._folded(node, proto, names)
            return
        outputs = self._infer(node, proto, names)
        for tensor in outputs:
            self._define(tensor)
        parameters = self.parameters.count(node, len(self.operations)) if constants else Parameters()
        operation = describe(node, node.name or next(filter(None, names)), outputs, parameters)
        if operation.macs > LARGEST_COST:
            raise AiopError(
                f"{label(node, proto)} would take {operation.macs} MACs; check the sizes of its inputs"
            )
        if operation.op == "Unknown":
            self.notes.append(
                f"operator {node.domain or 'ai.onnx'}::{node.type} is unknown: it counts 0 MACs"
            )
        self.operations.append(operation)

    def _infer(self, node: Node, proto: onnx.NodeProto, names: list[str]) -> list[Tensor]:
        """Return a node's outputs, with ``""`` as the name of one left out."""
        shapes = self.inference.infer(node, proto)
        if len(shapes) < len(names):
            raise AiopError(
                f"{label(node, proto)} has {len(names)} outputs where the operator gives {len(shapes)}; "
                "check the file with onnx.checker"
            )
        outputs = list(map(Tensor, names, shapes, output_dtypes(node, len(names))))
        for tensor in outputs:
            low, high = (min(tensor.shape), max(tensor.shape)) if tensor.shape else (0, 0)
            if low < 0 or high > LARGEST_TENSOR or tensor.elements > LARGEST_TENSOR:
                raise AiopError(
                    f"{label(node, proto)} would give a tensor of shape {list(tensor.shape)}; "
                    "check the sizes of the file's inputs"
                )
        return outputs

    def _folded(self, node: Node, proto: onnx.NodeProto, names: list[str]) -> None:
        """Evaluate a node of constants: to values where they are small, to a shape where they are a weight's."""
        trained = any(tensor.leaves for tensor in node.inputs if tensor is not None)
        for tensor in self._evaluated(node, proto, names):
            tensor.constant = True
            if trained and node.type == "ConstantOfShape":  # a weight whose values the file leaves out
                tensor.leaves = ((tensor.name, tensor.elements),)
            elif trained:
                tensor.leaves = leaves_of(node.inputs, tensor.elements)
            self._define(tensor)

    def _evaluated(self, node: Node, proto: onnx.NodeProto, names: list[str]) -> list[Tensor]:
        if node.type == "ConstantOfShape":
            outputs = self._infer(node, proto, names)
            for tensor in outputs:
                if tensor.elements <= LARGEST_FOLDED:
                    tensor.set_value(partial(filled, node, tensor.shape))
            return outputs
        if node.type == "Expand" and (unexpanded := self._unexpanded(node, proto, names[0])):
            return [unexpanded]
        values = fold(node)
        if any(value is None for value in values):
            outputs = self._infer(node, proto, names)
        else:
            outputs = [
                Tensor(name, value.shape, str(value.dtype))
                for name, value in zip(names, values, strict=True)
                if value is not None
            ]
        for tensor, value in zip(outputs, values, strict=True):
            tensor.set_value(value)
        return outputs

    def _unexpanded(self, node: Node, proto: onnx.NodeProto, name: str) -> Tensor | None:
        """Return a constant as it is where its Expand cannot be: some exporters write a size in the place of -1.

        ``None`` for an Expand that can be. What follows proves the shape right, or fails on it.
        """
        data, sizes = node.input(0), node.input(1)
        if data is None or sizes is None or sizes.value is None:
            return None
        target = [int(size) for size in sizes.value.reshape(-1)]
        try:
            np.broadcast_shapes(data.shape, tuple(target))
        except ValueError:
            self.notes.append(
                f"{label(node, proto)} cannot expand {list(data.shape)} to {target} and is left out"
            )
            copy = Tensor(name, data.shape, data.dtype)
            copy.set_value(lambda: data.value)
            return copy
        return None

    # -- nodes that leave no operation behind; each returns whether it could be left out

    def _constant(self, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
        if len(node.attributes) != 1:
            raise AiopError(f"{label(node, proto)} has no value; export the network again")
        ((kind, value),) = node.attributes.items()
        if kind == "value":
            tensor = constant(names[0], proto.attribute[0].t)
        elif kind == "sparse_value":
            tensor = sparse_constant(names[0], proto.attribute[0].sparse_tensor)
        else:
            array = np.asarray(value)
            array = array.astype(np.float32) if array.dtype.kind == "f" else array
            known = array.dtype.kind not in "USO"
            tensor = Tensor(names[0], array.shape, str(array.dtype) if known else "string", constant=True)
            tensor.set_value(array if known else None)
        self._define(tensor)
        return True

    def _identity(self, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
        tensor = node.input(0)
        if tensor is None:
            return False
        self._alias(names[0], tensor)
        for mask in names[1:]:
            self._define(Tensor(mask, tensor.shape, "bool", constant=True))
        return True

    def _alias(self, name: str, tensor: Tensor) -> None:
        if not tensor.constant:
            self._define(tensor, name)
            return
        # Exporters store equal parameters once and hand out copies through Identity: each copy is a parameter.
        leaves = ((name, tensor.elements),) if tensor.leaves else ()
        copy = Tensor(name, tensor.shape, tensor.dtype, constant=True, leaves=leaves)
        copy.set_value(lambda: tensor.value)
        self._define(copy)

    def _branch(self, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
        """Inline the branch that a constant condition takes."""
        condition = node.input(0)
        if condition is None or condition.value is None:
            return False
        branch = node.attributes["then_branch" if bool(condition.value.reshape(-1)[0]) else "else_branch"]
        self._initializers(branch)
        self._nodes(branch.node)
        for name, value in zip(names, branch.output, strict=True):
            self._alias(name, self.tensors[value.name])
        return True

    def _shape(self, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
        tensor = node.input(0)
        if tensor is None:
            return False
        if node.type == "Size":
            value = np.asarray(tensor.elements, np.int64)
        else:
            value = np.asarray(tensor.shape[slice(node.get("start", 0), node.get("end"))], np.int64)
        result = Tensor(names[0], value.shape, "int64", constant=True)
        result.set_value(value)
        self._define(result)
        return True


_SPECIAL: dict[str, Callable[[_Reader, Node, onnx.NodeProto, list[str]], bool]] = {
    "Constant": _Reader._constant,
    "Identity": _Reader._identity,
    "Dropout": _Reader._identity,
    "If": _Reader._branch,
    "Shape": _Reader._shape,
    "Size": _Reader._shape,
}
