"""A network as an ONNX graph that can be changed, its weights made when it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx
from aiop.search.editing.weights import SMALL, derived, extents, lazy, stub
from aiop.tasks.networks import write_atomically

if TYPE_CHECKING:
    from aiop.graph_ir import ComputeGraph

__all__ = ["EditableNetwork"]

Array = npt.NDArray[Any]
Shape = tuple[int | None, ...]

_LARGEST_MESSAGE = 1_900_000_000  # bytes; a protobuf message ends at 2 GiB
_MOST_SCALES = 16  # numbers with a fraction that a Resize or Range may read


class EditableNetwork:
    """One ONNX graph without functions, its constants as initialisers and every node with a name of its own.

    Mutations change ``model.graph`` through `onnx_ir` and the methods here, and then call `infer` once. Weights are
    never computed before `proto`, `save` or `check` ask for them: changing a network of 100 MB costs what its graph
    costs.
    """

    def __init__(self, model: ir.Model, name: str) -> None:
        self.model, self.name = model, name
        self._cost: ComputeGraph | None = None
        self.memo: dict[str, Any] = {}
        # What was found out about the graph as it is, by names: shared with clones until they change.
        self.shared: dict[str, Any] = {}

    @classmethod
    def read(
        cls,
        source: str | Path | bytes | onnx.ModelProto,
        *,
        name: str | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
        fill: int | None = None,
    ) -> EditableNetwork:
        """Read a network: an ONNX file or ``space:code``, its bytes or its message.

        Args:
            source: What to read. Weights beside a file are read from its own folder only.
            name: What it is called in messages; the path where left out.
            shapes: Input name -> shape, for inputs whose sizes the file leaves open.
            fill: Seed of random values for weights that the file lacks.

        Raises:
            AiopError: Not a valid network, sizes left open, or weights missing and ``fill`` not given.
        """
        from aiop.search.editing.reading import read_editable

        model, name = read_editable(source, name, shapes or {}, fill)
        network = cls(model, name)
        network.infer()
        return network

    @property
    def graph(self) -> ir.Graph:
        """The graph that is changed."""
        return self.model.graph

    def clone(self) -> EditableNetwork:
        """Return a network that can be changed without changing this one; weights are shared until they differ."""
        other = EditableNetwork(self.model.clone(), self.name)
        other._cost, other.shared = self._cost, self.shared
        return other

    # What is in the graph

    def node(self, name: str) -> ir.Node | None:
        """Return the node of a name, None where there is none."""
        nodes: dict[str, ir.Node] | None = self.memo.get("nodes")
        if nodes is None:
            nodes = self.memo["nodes"] = {node.name or "": node for node in self.graph}
        return nodes.get(name)

    def value(self, name: str) -> ir.Value | None:
        """Return the input, initialiser or result of a name, None where there is none."""
        values: dict[str, ir.Value] | None = self.memo.get("values")
        if values is None:
            values = self.memo["values"] = {value.name or "": value for value in self.values()}
        return values.get(name)

    def values(self) -> Iterator[ir.Value]:
        """Inputs, initialisers and results of all nodes, each once."""
        seen: set[int] = set()
        for value in (*self.graph.inputs, *self.graph.initializers.values()):
            if id(value) not in seen:
                seen.add(id(value))
                yield value
        for node in self.graph:
            yield from (output for output in node.outputs if output.name)

    @staticmethod
    def shape(value: ir.Value | None) -> Shape | None:
        """Return the extents of a value, None for those left open; None where nothing is known."""
        if value is None or value.shape is None:
            return None
        return tuple(extent if isinstance(extent, int) else None for extent in value.shape)

    @staticmethod
    def constant(value: ir.Value | None) -> Array | None:
        """Return the values of a small initialiser (up to 1,024 elements), None of anything else."""
        if value is None or value.const_value is None or value.producer() is not None:
            return None
        tensor = value.const_value
        return tensor.numpy() if tensor.size <= SMALL else None

    @staticmethod
    def weight(value: ir.Value | None) -> ir.TensorProtocol | None:
        """Return the tensor of an initialiser, its values not computed yet; None of anything else."""
        return value.const_value if value is not None and value.producer() is None else None

    # Changes

    def add_initializer(self, name: str, values: Array) -> ir.Value:
        """Add a small constant whose values are given; the name is made unique."""
        name = self.free_name(name)
        return self._register(name, ir.Tensor(np.asarray(values, order="C"), name=name))

    def add_weight(
        self, name: str, shape: tuple[int, ...], dtype: ir.DataType, make: Callable[[], Array]
    ) -> ir.Value:
        """Add a weight of ``shape`` whose values ``make`` computes when the network is written."""
        name = self.free_name(name)
        return self._register(name, lazy(make, dtype, shape, name))

    def derive(self, value: ir.Value, shape: tuple[int, ...], function: Callable[[Array], Array]) -> None:
        """Change an initialiser to what ``function`` makes of its values, when the network is written.

        All nodes that read it see the change. ``function`` must not depend on what changes later.
        """
        old = self.weight(value)
        assert old is not None, f"{value.name} is no initialiser"
        value.const_value = derived(old, function, shape, value.name or "")
        value.shape = ir.Shape(shape)

    def own(self, node: ir.Node, index: int) -> ir.Value:
        """Return the initialiser at an input of a node after making sure that no other node reads it."""
        value = node.inputs[index]
        assert value is not None
        assert value.const_value is not None
        if len(value.uses()) == 1 and not value.is_graph_output():
            return value
        name = self.free_name(f"{value.name}/{node.name}")
        copy = self._register(
            name, derived(value.const_value, lambda array: array, extents(value.const_value), name)
        )
        node.replace_input_with(index, copy)
        return copy

    def insert(
        self, node: ir.Node, *, before: ir.Node | None = None, after: ir.Node | None = None
    ) -> ir.Node:
        """Put a node, whose name is made unique, before or after another; its outputs get names."""
        node.name = self.free_name(node.name or node.op_type)
        for place, output in enumerate(node.outputs):
            output.name = self.free_name(output.name or f"{node.name}_out{place or ''}")
            self._taken().add(output.name)
        self._taken().add(node.name)
        if before is not None:
            self.graph.insert_before(before, node)
        else:
            assert after is not None
            self.graph.insert_after(after, node)
        self._forget()
        return node

    def remove(self, *nodes: ir.Node) -> None:
        """Take nodes out whose results nothing reads any more; initialisers nobody reads go at the next `infer`."""
        self.graph.remove(list(nodes), safe=True)
        self._forget()

    def replace_uses(self, old: ir.Value, new: ir.Value) -> None:
        """Let everything that reads one value read another; an output of the network keeps its name.

        Where ``old`` is an output of the network, ``new`` takes its name and place. Both cannot be outputs.
        """
        if old.is_graph_output():
            if new.is_graph_output() or new.producer() is None:
                identity = ir.node("Identity", [new], name=self.free_name(f"{old.name}/identity"))
                producer = old.producer()
                assert producer is not None
                self.insert(identity, after=producer)
                new = identity.outputs[0]
            name = old.name
            old.name = self.free_name(f"{name}/before")
            new.name = name
            for place, output in enumerate(self.graph.outputs):
                if output is old:
                    self.graph.outputs[place] = new
        ir.convenience.replace_all_uses_with(old, new)
        self._forget()

    def free_name(self, name: str) -> str:
        """Return ``name``, with a number after it where a node or value is called so already."""
        taken = self._taken()
        count, free = 1, name
        while free in taken:
            count += 1
            free = f"{name}/{count}"
        return free

    def _register(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        dtype, shape = ir.DataType(tensor.dtype), extents(tensor)
        value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype), const_value=tensor)
        self.graph.register_initializer(value)
        self._taken().add(name)
        self.memo.pop("values", None)
        return value

    def _taken(self) -> set[str]:
        taken: set[str] | None = self.memo.get("taken")
        if taken is None:
            taken = {node.name or "" for node in self.graph} | {value.name or "" for value in self.values()}
            self.memo["taken"] = taken
        return taken

    def _forget(self) -> None:
        self._cost, self.shared = None, {}
        taken = self.memo.get("taken")
        self.memo = {} if taken is None else {"taken": taken}

    # What follows from changes

    def infer(self) -> None:
        """Take out what nothing reads, sort the nodes and infer all shapes anew; call it after a change.

        Raises:
            AiopError: The operators do not fit together: a mutation went wrong.
        """
        self._forget()
        self.memo.clear()
        _drop_unread(self.graph)
        self.graph.sort()
        for node in self.graph:
            for output in node.outputs:
                if not output.is_graph_output():
                    output.shape = None
        for output in self.graph.outputs:
            rank = len(output.shape) if output.shape is not None else None
            if rank is not None and output.producer() is not None:
                output.shape = ir.Shape([None] * rank)
        try:
            inferred = onnx.shape_inference.infer_shapes(
                self.proto(weights=False), strict_mode=True, data_prop=True
            )
        except (onnx.shape_inference.InferenceError, ValueError) as error:
            raise AiopError(f"{self.name}: shapes do not fit together ({_line(error)})") from error
        known = {value.name: value for value in (*inferred.graph.value_info, *inferred.graph.output)}
        for node in self.graph:
            for output in node.outputs:
                found = known.get(output.name or "")
                if found is not None and found.type.HasField("tensor_type"):
                    output.type = ir.TensorType(ir.DataType(found.type.tensor_type.elem_type))
                    if found.type.tensor_type.HasField("shape"):
                        output.shape = ir.serde.deserialize_type_proto_for_shape(found.type)

    def proto(self, *, weights: bool = True) -> onnx.ModelProto:
        """Return the network as a message; without ``weights``, large ones are in a file that is not there."""
        if weights:
            return ir.serde.serialize_model(self.model)
        kept = []
        for value in self.graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and _is_weight(tensor):
                kept.append((value, tensor))
                value.const_value = stub(tensor, value.name or "")
        try:
            return ir.serde.serialize_model(self.model)
        finally:
            for value, tensor in kept:
                value.const_value = tensor

    def compute_graph(self) -> ComputeGraph:
        """Return the network as the predictor reads it; kept until the next change."""
        if self._cost is None:
            self._cost = read_onnx(self.proto(weights=False), name=self.name)
        return self._cost

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and matrix products."""
        return self.compute_graph().macs

    def check(self, like: EditableNetwork | None = None) -> onnx.ModelProto:
        """Return the network as a message after `onnx.checker` with full shape inference has passed it.

        Args:
            like: A network whose inputs and outputs must have the same names, element types and ranks.

        Raises:
            AiopError: The network is invalid.
        """
        self.compute_graph()  # which compares channels with weights; the inference of ONNX does not
        message = self.proto()
        try:
            onnx.checker.check_model(message, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise AiopError(f"{self.name}: not valid after its edits ({_line(error)})") from error
        if like is not None and _signature(self.graph) != _signature(like.graph):
            raise AiopError(f"{self.name}: inputs or outputs are not those of the network it was made from")
        return message

    def save(self, path: str | Path) -> None:
        """Write the network with its weights; the file appears complete or not at all."""
        message = self.proto()
        if message.ByteSize() > _LARGEST_MESSAGE:
            raise AiopError(
                f'cannot write "{path}": more than 1.9 GB of weights do not fit into one ONNX file'
            )
        write_atomically(message.SerializeToString(), Path(path))


def _signature(graph: ir.Graph) -> list[list[tuple[str | None, object, int | None]]]:
    return [
        [(value.name, value.dtype, None if value.shape is None else len(value.shape)) for value in values]
        for values in (graph.inputs, graph.outputs)
    ]


def _drop_unread(graph: ir.Graph) -> None:
    for node in reversed(graph):
        if not any(output.is_graph_output() or output.uses() for output in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


def _is_weight(tensor: ir.TensorProtocol) -> bool:
    """Return whether no shape depends on the values; what is computed when asked for never does."""
    if isinstance(tensor, ir.LazyTensor):
        return True
    return tensor.size > (_MOST_SCALES if ir.DataType(tensor.dtype).is_floating_point() else SMALL)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
