"""ONNX -> `ComputeGraph`.

The nodes of a file are walked once, in topological order, with fully known shapes: constants that shapes are computed
from are folded away, weights are seen as shapes only, and what remains becomes one `Operation` per node. Identity,
Dropout and the like leave no operation behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Error as ProtobufError

from aiop.errors import AiopError
from aiop.graph_ir.cost import WEIGHT_SLOTS
from aiop.graph_ir.graph import ComputeGraph, Operation, TensorSpec
from aiop.graph_ir.reading.constants import folded
from aiop.graph_ir.reading.description import describe
from aiop.graph_ir.reading.element_types import output_dtypes
from aiop.graph_ir.reading.external import external_value, is_wanted
from aiop.graph_ir.reading.forms import FORMS
from aiop.graph_ir.reading.functions import inline_functions
from aiop.graph_ir.reading.handlers import handler
from aiop.graph_ir.reading.inference import Inference, label
from aiop.graph_ir.reading.inputs import as_declared, read_inputs, read_outputs, zero_sized
from aiop.graph_ir.reading.messages import (
    attribute_value,
    constant,
    sparse_constant,
    weights_in_nodes,
)
from aiop.graph_ir.reading.order import in_order
from aiop.graph_ir.reading.parameters import (
    TRAINABLE,
    Leaf,
    ParameterCounter,
    Parameters,
    leaves_of,
    own_leaf,
)
from aiop.graph_ir.reading.repeats import read_nodes
from aiop.graph_ir.reading.scopes import Mark, Place, Taken, Visible, repeated
from aiop.graph_ir.reading.sequence_values import is_constant
from aiop.graph_ir.reading.wire import load_without_weights, parse_without_weights
from aiop.graph_ir.unknown import unknown_notes
from aiop.graph_ir.values import (
    LARGEST_COST,
    LARGEST_TENSOR,
    Elsewhere,
    Node,
    Shape,
    Tensor,
    UnknownValue,
)

__all__ = ["read_onnx"]

_EMITTED_OPSET = 18  # sizes and axes of the nodes that the reader makes itself are inputs
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

    A file may hold ONNX's textual form instead of a message. Values are read from files beside it only where sizes are
    kept there, and only from its own folder.

    Args:
        source: Path of a file, or a serialised or parsed ``ModelProto``.
        name: How the network is called in errors and results; the path where left out.
        shapes: Input name -> shape, for inputs whose size the file leaves open (an open first axis is read as 1).

    Raises:
        AiopError: The file is not an ONNX network, or its shapes are inconsistent or not known.
    """
    folder = None
    if isinstance(source, str | Path):
        name, folder = name or str(source), Path(source).parent
        model = load_without_weights(Path(source))
    elif isinstance(source, bytes):
        name = name or "network"
        model = parse_without_weights(source, name)
    else:
        name, model = name or str(source.graph.name) or "network", source
    try:
        return _read(model, name, shapes or {}, folder)
    except AiopError as error:
        raise AiopError(f"{name}: {error}") from error
    except _MALFORMED as error:
        raise AiopError(
            f"{name}: not a valid ONNX network ({type(error).__name__}: {error}); check it with onnx.checker"
        ) from error


def _opset(model: onnx.ModelProto) -> int:
    return next((o.version for o in model.opset_import if o.domain in _STANDARD), 1)


def _read(
    model: onnx.ModelProto, name: str, shapes: Mapping[str, Sequence[int]], folder: Path | None
) -> ComputeGraph:
    model = inline_functions(model)
    if zero_sized(model.graph, _opset(model)):
        # Sizes of 0 are believed where the shapes that the file states of its outputs follow from them.
        with suppress(AiopError, *_MALFORMED):
            reader = Reader(model, name, folder, zeros=True)
            graph = reader.read(shapes)
            if as_declared(reader):
                return graph
    reader = Reader(model, name, folder)
    try:
        return reader.read(shapes)
    except AiopError as error:
        if reader.missing:
            raise AiopError(
                f"{error}; put its file {reader.missing[0]!r} beside it, sizes are in there"
            ) from error
        raise


class Reader:
    """State of reading one file; its errors do not name the file, `read_onnx` does."""

    def __init__(
        self, model: onnx.ModelProto, name: str, folder: Path | None = None, *, zeros: bool = False
    ) -> None:
        self.model = model
        self.folder = folder  # where the file is, to look up small constants that it keeps beside it
        self.missing: list[str] = []
        self.zeros = zeros  # whether inputs may have a size of 0
        self.name = name
        self.tensors: dict[str, Tensor] = {}
        self.operations: list[Operation] = []
        self.notes: list[str] = []
        self.opset = _opset(model)
        self.inference = Inference(model, self.notes, zeros=zeros)
        self.parameters = ParameterCounter()
        self.place = Place()
        # what the operations of subgraphs compute, under names that are unique in the file
        self.inner: dict[str, Tensor] = {}
        self.sites: dict[tuple[str, str], int] = {}
        # nodes read in subgraphs, in loops that are unrolled, and to find out when loops end
        self.nested = self.unrolled = self.decided = 0

    def read(self, shapes: Mapping[str, Sequence[int]]) -> ComputeGraph:
        graph = self.model.graph
        if self.opset < 1:
            raise AiopError(f"opset {self.opset} does not exist; export the network again")
        self.initializers(graph)
        inputs = read_inputs(self, graph, shapes)
        read_nodes(self, graph)
        outputs = read_outputs(self, graph)
        specs: dict[tuple[Shape, str], TensorSpec] = {}  # few differ, so they are shared
        tensors: dict[str, TensorSpec] = {}
        for operation in self.operations:
            for key in operation.outputs:
                tensor = self.inner.get(key) or self.tensors[key]
                kind = (tensor.shape, tensor.dtype)
                if key in tensors:
                    raise AiopError(f"the name {key!r} is given twice; export the network again")
                tensors[key] = specs.get(kind) or specs.setdefault(kind, TensorSpec(*kind))
        return ComputeGraph(
            name=self.name,
            operations=self.operations,
            tensors=tensors,
            inputs=inputs,
            outputs=outputs,
            notes=tuple(dict.fromkeys([*self.notes, *unknown_notes(self.operations)])),
            opset=self.opset,
            producer=f"{self.model.producer_name} {self.model.producer_version}".strip(),
        )

    # -- what flows in and out

    def define(self, tensor: Tensor, alias: str = "") -> None:
        name = alias or tensor.name
        if name in self.tensors:
            raise AiopError(f"the name {name!r} is given twice; export the network again")
        if not isinstance(name, str):  # protobuf hands out what is not UTF-8 as bytes
            raise AiopError(f"the name {name!r} is not text; export the network again")
        if name:  # an output that is left out has none
            self.tensors[name] = tensor
            if not tensor.kind and tensor.__class__ is Tensor:
                tensor.kind = FORMS.kind(tensor)

    def initializers(self, graph: onnx.GraphProto) -> None:
        for proto in graph.initializer:
            tensor = self.stored(self.place.leaves + proto.name, proto)
            tensor.leaves = own_leaf(tensor)
            self.define(tensor, proto.name)
        for sparse in graph.sparse_initializer:
            tensor = sparse_constant(self.place.leaves + sparse.values.name, sparse)
            tensor.leaves = own_leaf(tensor)
            self.define(tensor, sparse.values.name)

    def stored(self, name: str, proto: onnx.TensorProto) -> Tensor:
        tensor = constant(name, proto)
        if (
            self.folder is not None
            and proto.data_location == onnx.TensorProto.EXTERNAL
            and is_wanted(tensor.dtype, tensor.elements)
        ):
            tensor.set_value(Elsewhere(external_value, proto, tensor.shape, self.folder, self.missing))
        return tensor

    # -- nodes

    def nodes(self, protos: Iterable[onnx.NodeProto]) -> None:
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
                self.read_node(proto, inputs)
        if waiting:
            for proto in in_order(waiting, Visible(tensors)):
                self.read_node(proto, [tensors[key] if key else None for key in proto.input])

    def read_node(
        self, proto: onnx.NodeProto, inputs: list[Tensor | None], attributes: dict[str, Any] | None = None
    ) -> Node:
        """Read one node of the file; ``attributes`` are given where they are known."""
        node = Node(proto.name, proto.op_type, proto.domain, {}, inputs, len(proto.output), self.opset)
        if not (isinstance(node.name, str) and isinstance(node.type, str) and isinstance(node.domain, str)):
            raise AiopError(f"{label(node, proto)} has a name that is not text; export the network again")
        try:
            if attributes is None:
                attributes = {attribute.name: attribute_value(attribute) for attribute in proto.attribute}
            node.attributes = attributes
            self._visit(node, proto)
        except _MALFORMED as error:
            raise AiopError(
                f"{label(node, proto)} is not valid ({type(error).__name__}: {error}); check the file with onnx.checker"
            ) from error
        return node

    def _visit(self, node: Node, proto: onnx.NodeProto) -> None:
        names = proto.output[:]
        if not any(names):
            return
        special = handler(node.domain, node.type)
        if special is not None and special(self, node, proto, names):
            return
        constants = varies = False
        for tensor in node.inputs:
            if tensor is not None:
                constants |= tensor.constant
                varies |= not tensor.constant
        node.repeatable = True
        if node.inputs and not varies:
            folded(self, node, proto, names)
            return
        self.record(node, proto, names, self.infer(node, proto, names), constants)

    def record(
        self,
        node: Node,
        proto: onnx.NodeProto,
        names: list[str],
        outputs: list[Tensor],
        constants: bool = True,
    ) -> None:
        """Define the outputs of a node under their names, and append its operation.

        ``constants`` says whether the node reads constants.
        """
        if self.place.prefix:
            for tensor in filter(lambda tensor: tensor.name, outputs):
                tensor.name = self.place.prefix + tensor.name
                self.inner[tensor.name] = tensor
        for name, tensor in zip(names, outputs, strict=False):
            self.define(tensor, name)
        parameters = self.parameters.count(node, len(self.operations)) if constants else Parameters()
        operation = describe(node, node.name or next(filter(None, names)), outputs, parameters)
        if self.place.repeat != 1:
            repeated(operation, self.place.repeat)
        if operation.macs > LARGEST_COST or operation.elementwise > LARGEST_COST:
            raise AiopError(
                f"{label(node, proto)} would take {operation.macs} MACs and {operation.elementwise} element "
                "operations; check its attributes and the sizes of its inputs"
            )
        self.operations.append(operation)

    def infer(self, node: Node, proto: onnx.NodeProto, names: list[str]) -> list[Tensor]:
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

    def leaves_behind(self, kind: str, tensor: Tensor, inputs: list[Tensor | None]) -> tuple[Leaf, ...]:
        """Return the trained tensors behind a constant that an operator gives for constants."""
        if kind in ("Shape", "Size"):
            return ()  # what a weight measures is not the weight
        if any(source.leaves for source in inputs if source is not None):
            return leaves_of(inputs, tensor.elements)
        if kind == "ConstantOfShape" or kind == "Constant":
            return self.leaf_of_node(tensor)  # a weight whose values the file leaves out
        return ()

    def leaf_of_node(self, tensor: Tensor) -> tuple[Leaf, ...]:
        """Return the leaf of a constant that a node holds: nothing where the file keeps its weights elsewhere."""
        if tensor.elements < 2 or tensor.dtype not in TRAINABLE or not self._weights_in_nodes:
            return ()
        return own_leaf(tensor)

    @cached_property
    def _weights_in_nodes(self) -> bool:
        return weights_in_nodes(self.model.graph, WEIGHT_SLOTS)

    # -- for readers of control flow and sequences

    def node(self, kind: str, inputs: list[Tensor | None], name: str = "", **attributes: Any) -> Node:
        """Return a node that the file does not have itself."""
        return Node(name, kind, "", attributes, inputs, 1, self.opset)

    def emit(
        self,
        kind: str,
        inputs: list[Tensor | None],
        names: list[str],
        *,
        domain: str = "",
        **attributes: Any,
    ) -> list[Tensor]:
        """Read a node that the file does not have itself, and return its outputs, defined as ``names``."""
        node = Node(names[0], kind, domain, attributes, inputs, len(names), max(self.opset, _EMITTED_OPSET))
        self._visit(node, onnx.NodeProto(op_type=kind, name=names[0], output=names, domain=domain))
        return [self.tensors[name] for name in names]

    def integers(self, values: int | Sequence[int]) -> Tensor:
        """Return a constant of integers."""
        array = np.asarray(values, np.int64)
        tensor = Tensor("", array.shape, "int64", constant=True)
        tensor.set_value(array)
        return tensor

    def mark(self) -> Mark:
        """Return where the reader stands, to `take_back` what is read from here on."""
        return Mark(len(self.operations), len(self.notes), self.parameters.mark())

    def take_back(self, mark: Mark) -> Taken:
        """Undo what was read since ``mark``, and return it."""
        taken = Taken(
            self.operations[mark.operations :],
            self.notes[mark.notes :],
            self.parameters.take_back(mark.parameters),
        )
        del self.operations[mark.operations :], self.notes[mark.notes :]
        return taken

    def put_back(self, taken: Taken) -> None:
        """Redo what was taken back."""
        self.operations += taken.operations
        self.notes += taken.notes
        self.parameters.put_back(taken.parameters)

    def alias(self, name: str, tensor: Tensor) -> None:
        if not is_constant(tensor):
            self.define(tensor, name)
            return
        # Exporters store equal parameters once and hand out copies through Identity: each copy is a parameter.
        own = self.place.leaves + name
        leaves = ((own, tensor.elements, tensor.leaves[0][2]),) if tensor.leaves else ()
        copy = Tensor(own, tensor.shape, tensor.dtype, constant=True, leaves=leaves)
        if tensor.has_value:
            copy.set_value(tensor.look)
        self.define(copy, name)
