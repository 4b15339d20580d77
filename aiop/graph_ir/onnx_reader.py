"""ONNX -> `ComputeGraph`.

The nodes of a file are walked once, in topological order, with fully known shapes: constants that shapes are computed
from are folded away, weights are seen as shapes only, and what remains becomes one `Operation` per node. Identity,
Dropout and the like leave no operation behind.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from aiop.errors import AiopError, suggest
from aiop.graph_ir import cost
from aiop.graph_ir.graph import ComputeGraph, Operation, TensorSpec
from aiop.graph_ir.operators import canonical
from aiop.graph_ir.shapes import BOOLEAN_OUTPUT, SHAPE_FUNCTIONS, ShapeError, convolution_padding
from aiop.graph_ir.values import DTYPES, LARGEST_FOLDED, Node, Shape, Tensor, UnknownValue, fold
from aiop.graph_ir.wire import load_without_weights, parse_without_weights

__all__ = ["read_onnx"]

_TRANSPARENT = frozenset({"Identity", "Dropout"})
_KEPT_ATTRIBUTES = frozenset(
    "alpha axis beta blocksize direction equation hidden_size keepdims mode num_heads perm q_num_heads to".split()
)
_FLOATS = frozenset({"float32", "float16", "bfloat16", "float64"})
_LARGEST_EXTENT = 1 << 40


def read_onnx(
    source: str | Path | bytes | onnx.ModelProto,
    *,
    name: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> ComputeGraph:
    """Read a network from an ONNX file, its bytes or its message, without reading weights.

    Parameters
    ----------
    source:
        Path of a file, or a serialised or parsed ``ModelProto``.
    name:
        How the network is called in errors and results; the path where left out.
    shapes:
        Input name -> shape, for inputs whose size the file leaves open (a symbolic first axis is read as 1).

    Raises
    ------
    AiopError
        The file is not an ONNX network, or its shapes are inconsistent or not known.
    """
    if isinstance(source, str | Path):
        name = name or str(source)
        model = load_without_weights(Path(source))
    elif isinstance(source, bytes):
        name = name or "network"
        model = parse_without_weights(source, name)
    else:
        name, model = name or source.graph.name or "network", source
    if len(model.functions):
        try:
            model = onnx.inliner.inline_local_functions(model)
        except (RuntimeError, ValueError) as error:
            raise AiopError(f"{name}: its local functions cannot be inlined ({error}); export it without") from error
    return _Reader(model, name, shapes or {}).read()


class _Reader:
    """State of reading one file."""

    def __init__(self, model: onnx.ModelProto, name: str, shapes: Mapping[str, Sequence[int]]) -> None:
        self.model = model
        self.name = name
        self.given_shapes = shapes
        self.tensors: dict[str, Tensor] = {}
        self.aliases: dict[str, str] = {}
        self.operations: list[Operation] = []
        self.counted: set[str] = set()
        self.notes: list[str] = []
        self.opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
        self.declared: dict[str, Shape] = {}

    def read(self) -> ComputeGraph:
        graph = self.model.graph
        for initializer in graph.initializer:
            self._constant(initializer.name, initializer)
        for sparse in graph.sparse_initializer:
            spec = Tensor(tuple(sparse.dims), DTYPES.get(sparse.values.data_type, "float32"), constant=True)
            spec.leaves = ((sparse.values.name, spec.elements),)
            self.tensors[sparse.values.name] = spec
        inputs = tuple(value.name for value in graph.input if value.name not in self.tensors)
        unknown = sorted(set(self.given_shapes) - set(inputs))
        if unknown:
            raise AiopError(
                f"{self.name}: has no input {unknown[0]!r} to give a shape to{suggest(unknown[0], inputs)}; "
                f"its inputs are {', '.join(inputs) or 'none'}"
            )
        if not inputs:
            raise AiopError(f"{self.name}: the graph has no inputs, so nothing flows through it; export it again")
        for value in graph.input:
            if value.name not in self.tensors:
                self._input(value)
        self._nodes(graph.node)
        outputs = []
        for value in graph.output:
            resolved = self.aliases.get(value.name, value.name)
            if resolved not in self.tensors:
                raise AiopError(f"{self.name}: output {value.name!r} is computed by no node; export the network again")
            outputs.append(resolved)
        activations = {out: self.tensors[out] for operation in self.operations for out in operation.outputs}
        return ComputeGraph(
            name=self.name,
            operations=self.operations,
            tensors={key: TensorSpec(tensor.shape, tensor.dtype) for key, tensor in activations.items()},
            inputs=inputs,
            outputs=tuple(outputs),
            notes=tuple(dict.fromkeys(self.notes)),
            opset=self.opset,
            producer=f"{self.model.producer_name} {self.model.producer_version}".strip(),
        )

    # -- what flows in

    def _constant(self, key: str, proto: onnx.TensorProto, *, trained: bool = True) -> Tensor:
        if key in self.tensors:
            raise AiopError(f"{self.name}: the name {key!r} is given twice; export the network again")
        shape = tuple(proto.dims)
        if min(shape, default=0) < 0:
            raise AiopError(f"{self.name}: constant {key!r} has a negative size {list(shape)}; export it again")
        tensor = Tensor(shape, DTYPES.get(proto.data_type, "float32"), constant=True)
        elements = tensor.elements
        if elements <= LARGEST_FOLDED and proto.data_location != onnx.TensorProto.EXTERNAL:
            tensor.value = _values(proto, elements)
        if trained:
            tensor.leaves = ((key, elements),)
        self.tensors[key] = tensor
        return tensor

    def _input(self, value: onnx.ValueInfoProto) -> None:
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            raise AiopError(
                f"{self.name}: input {value.name!r} is a {kind or 'value without a type'}, not a tensor; "
                "export the network with tensors as inputs"
            )
        given = self.given_shapes.get(value.name)
        tensor_type = value.type.tensor_type
        if given is not None:
            if not given or min(given) < 1:
                raise AiopError(f"{self.name}: shape {list(given)} of input {value.name!r} needs sizes of 1 or more")
            shape = tuple(int(extent) for extent in given)
        elif not tensor_type.HasField("shape"):
            raise AiopError(
                f"{self.name}: input {value.name!r} has no shape; give it: --shape {value.name}=1,3,224,224"
            )
        else:
            shape = tuple(self._extent(value, axis) for axis in range(len(tensor_type.shape.dim)))
        dtype = DTYPES.get(tensor_type.elem_type, "float32")
        self.tensors[value.name] = tensor = Tensor(shape, dtype)
        self.operations.append(
            Operation(value.name, "Input", "Input", (), (value.name,), output_elements=tensor.elements)
        )

    def _extent(self, value: onnx.ValueInfoProto, axis: int) -> int:
        dims = value.type.tensor_type.shape.dim
        dim = dims[axis]
        if dim.dim_value > 0:
            return int(dim.dim_value)
        if axis == 0:
            return 1
        example = [str(d.dim_value) if d.dim_value > 0 else ("1" if i == 0 else "224") for i, d in enumerate(dims)]
        label = f" ({dim.dim_param!r})" if dim.dim_param else ""
        raise AiopError(
            f"{self.name}: input {value.name!r} has no fixed size on axis {axis}{label}; "
            f"give it: --shape {value.name}={','.join(example)}"
        )

    # -- nodes

    def _nodes(self, nodes: Iterable[onnx.NodeProto]) -> None:
        waiting: list[onnx.NodeProto] = []
        for node in nodes:
            if waiting or not self._ready(node):
                waiting.append(node)
            else:
                self._node(node)
        if waiting:
            for node in self._sorted(waiting):
                self._node(node)

    def _ready(self, node: onnx.NodeProto) -> bool:
        tensors, aliases = self.tensors, self.aliases
        return all(not key or key in tensors or key in aliases for key in node.input)

    def _sorted(self, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
        """Return nodes in topological order (files should have it, some do not)."""
        makers = {out: index for index, node in enumerate(nodes) for out in node.output if out}
        users: dict[int, list[int]] = {}
        missing = [0] * len(nodes)
        for index, node in enumerate(nodes):
            for key in set(node.input):
                if not key or key in self.tensors or key in self.aliases:
                    continue
                maker = makers.get(key)
                if maker is None:
                    raise AiopError(
                        f"{self.name}: node {node.name or node.op_type!r} reads {key!r}, which nothing computes; "
                        "export the network again"
                    )
                users.setdefault(maker, []).append(index)
                missing[index] += 1
        ready = [index for index, count in enumerate(missing) if count == 0][::-1]
        order: list[onnx.NodeProto] = []
        while ready:
            index = ready.pop()
            order.append(nodes[index])
            for user in users.get(index, ()):
                missing[user] -= 1
                if missing[user] == 0:
                    ready.append(user)
        if len(order) < len(nodes):
            raise AiopError(f"{self.name}: the graph has a cycle, so it cannot be run; export the network again")
        return order

    def _node(self, proto: onnx.NodeProto) -> None:
        tensors = self.tensors
        keys = [self.aliases.get(key, key) for key in proto.input]
        inputs = [tensors[key] if key else None for key in keys]
        outputs = list(proto.output)
        for key in outputs:
            if key and (key in tensors or key in self.aliases):
                raise AiopError(f"{self.name}: the name {key!r} is given twice; export the network again")
        kind = proto.op_type
        if kind == "Constant":
            self._constant_node(proto)
            return
        attributes = {attribute.name: _attribute(attribute) for attribute in proto.attribute}
        node = Node(proto.name, kind, proto.domain, attributes, inputs, len(outputs), self.opset)
        if kind in _TRANSPARENT and proto.domain in ("", "ai.onnx") and inputs and inputs[0] is not None:
            self._alias(outputs, keys[0], inputs[0])
            return
        if kind == "If" and self._branch(node, outputs):
            return
        if kind in ("Shape", "Size") and inputs and inputs[0] is not None:
            self._shape_value(node, outputs[0], inputs[0].shape)
            return
        if inputs and all(tensor is None or tensor.constant for tensor in inputs):
            self._folded(node, proto, outputs)
            return
        shapes, dtypes = self._infer(node, proto)
        for key, shape, dtype in zip(outputs, shapes, dtypes, strict=False):
            if key:
                tensors[key] = Tensor(shape, dtype)
        self.operations.append(self._operation(node, proto, keys, outputs, shapes))

    def _constant_node(self, proto: onnx.NodeProto) -> None:
        if not proto.attribute or not proto.output:
            raise AiopError(f"{self.name}: constant {proto.name!r} has no value; export the network again")
        attribute = proto.attribute[0]
        key = proto.output[0]
        if attribute.name == "value":
            self._constant(key, attribute.t, trained=False)
            return
        if attribute.name == "sparse_value":
            sparse = attribute.sparse_tensor
            self.tensors[key] = Tensor(tuple(sparse.dims), DTYPES.get(sparse.values.data_type, "float32"), constant=True)
            return
        values = np.asarray(_attribute(attribute))
        values = values.astype(np.float32) if values.dtype.kind == "f" else values
        dtype = "string" if values.dtype.kind in "USO" else str(values.dtype)
        self.tensors[key] = Tensor(values.shape, dtype, constant=True, value=None if dtype == "string" else values)

    def _alias(self, outputs: list[str], key: str, tensor: Tensor) -> None:
        if tensor.constant:
            # Exporters store equal parameters once and hand out copies through Identity: each copy is a parameter.
            copy = Tensor(tensor.shape, tensor.dtype, constant=True, value=tensor.value)
            copy.leaves = ((outputs[0], tensor.elements),) if tensor.leaves else ()
            self.tensors[outputs[0]] = copy
        else:
            self.aliases[outputs[0]] = key
        for mask in outputs[1:]:
            if mask:
                self.tensors[mask] = Tensor(tensor.shape, "bool", constant=True)

    def _branch(self, node: Node, outputs: list[str]) -> bool:
        """Inline the branch that a constant condition takes; False where the condition is not known."""
        condition = node.input(0)
        if condition is None or condition.value is None:
            return False
        branch = node.attributes["then_branch" if bool(condition.value.reshape(-1)[0]) else "else_branch"]
        for initializer in branch.initializer:
            self._constant(initializer.name, initializer)
        self._nodes(branch.node)
        for key, value in zip(outputs, branch.output, strict=True):
            source = self.aliases.get(value.name, value.name)
            self._alias([key], source, self.tensors[source])
        return True

    def _shape_value(self, node: Node, output: str, shape: Shape) -> None:
        if node.type == "Size":
            value = np.asarray(math.prod(shape), np.int64)
        else:
            value = np.asarray(shape[slice(node.get("start", 0), node.get("end"))], np.int64)
        self.tensors[output] = Tensor(value.shape, "int64", constant=True, value=value)

    def _folded(self, node: Node, proto: onnx.NodeProto, outputs: list[str]) -> None:
        """Evaluate a node of constants: to values where they are small, to a shape where they are a weight's."""
        values = fold(node)
        if all(value is not None for value in values):
            shapes = [value.shape for value in values if value is not None]
            dtypes = [str(value.dtype) for value in values if value is not None]
        else:
            shapes, dtypes = self._infer(node, proto)
        leaves = tuple(dict.fromkeys(leaf for tensor in node.inputs if tensor is not None for leaf in tensor.leaves))
        for key, value, shape, dtype in zip(outputs, values, shapes, dtypes, strict=False):
            if not key:
                continue
            elements = math.prod(shape)
            if node.type == "ConstantOfShape" and leaves:
                own: tuple[tuple[str, int], ...] = ((key, elements),)  # a weight whose values the file leaves out
            else:
                own = _distinct(leaves, elements)
            self.tensors[key] = Tensor(shape, dtype, constant=True, value=value, leaves=own)

    # -- shapes and types

    def _infer(self, node: Node, proto: onnx.NodeProto) -> tuple[list[Shape], list[str]]:
        try:
            shapes = self._shapes(node, proto)
        except (ShapeError, ValueError, IndexError, TypeError, ZeroDivisionError, AttributeError) as error:
            reason = str(error) if isinstance(error, ShapeError) else "its inputs and attributes do not fit"
            raise AiopError(
                f"{self.name}: node {node.name or proto.output[0]!r} ({node.type}) {reason}; "
                "check the file with onnx.checker, or the sizes given with --shape"
            ) from error
        for shape in shapes:
            if min(shape, default=0) < 0 or math.prod(shape) > _LARGEST_EXTENT:
                raise AiopError(
                    f"{self.name}: node {node.name or proto.output[0]!r} ({node.type}) would give a tensor of shape "
                    f"{list(shape)}; check the sizes of the file's inputs"
                )
        return shapes, _dtypes(node, len(shapes))

    def _shapes(self, node: Node, proto: onnx.NodeProto) -> list[Shape]:
        if node.domain in ("", "ai.onnx", "com.microsoft"):
            function = SHAPE_FUNCTIONS.get(node.type)
            if function is not None:
                try:
                    return function(node)
                except UnknownValue as unknown:
                    return self._declared(node, proto, str(unknown))
        return self._declared(node, proto, "the operator has no shape rule")

    def _declared(self, node: Node, proto: onnx.NodeProto, why: str) -> list[Shape]:
        """Return shapes by the onnx package's inference of one node, or by what the file itself declares."""
        shapes = _infer_one(node, proto, self.model)
        if shapes is None:
            if not self.declared:
                for value in (*self.model.graph.value_info, *self.model.graph.output):
                    dims = value.type.tensor_type.shape.dim
                    if value.type.tensor_type.HasField("shape"):
                        self.declared[value.name] = tuple(max(1, dim.dim_value) for dim in dims)
            shapes = [self.declared.get(key) for key in proto.output]
        first = node.inputs[0].shape if node.inputs and node.inputs[0] is not None else None
        out = []
        for key, shape in zip(proto.output, shapes, strict=False):
            if shape is None and key:
                if first is None or node.domain in ("", "ai.onnx"):
                    raise AiopError(
                        f"{self.name}: the output shape of node {node.name or key!r} ({node.type}) cannot be known: "
                        f"{why}; fold the network's constants first (for example with onnxsim)"
                    )
                self.notes.append(f"operator {node.domain}::{node.type} is unknown: output shape taken from its input")
                shape = first
            out.append(shape or ())
        return out

    # -- operations

    def _operation(
        self, node: Node, proto: onnx.NodeProto, keys: list[str], outputs: list[str], shapes: list[Shape]
    ) -> Operation:
        kind = node.type
        weights, params, scalars = self._parameters(node, keys)
        op = canonical(kind) if node.domain in ("", "ai.onnx", "com.microsoft", "ai.onnx.ml") else "Unknown"
        if op == "Unknown":
            self.notes.append(f"operator {node.domain or 'ai.onnx'}::{kind} is unknown: it counts 0 MACs")
        operation = Operation(
            name=proto.name or outputs[0],
            op=op,
            onnx_type=kind,
            inputs=tuple(key for key, tensor in zip(keys, node.inputs, strict=True) if tensor and not tensor.constant),
            outputs=tuple(key for key in outputs if key),
            groups=int(node.get("group", 1)) if op in ("Conv", "ConvTranspose") else 1,
            weights=weights,
            scalars=scalars,
            params=params,
            macs=cost.macs(node, shapes),
            output_elements=sum(math.prod(shape) for shape, key in zip(shapes, outputs, strict=False) if key),
        )
        _describe(operation, node)
        return operation

    def _parameters(self, node: Node, keys: list[str]) -> tuple[tuple[TensorSpec, ...], int, tuple[float, ...]]:
        """Return (trained tensors, trained numbers not counted before, scalar constants) among a node's inputs."""
        weights: list[TensorSpec] = []
        scalars: list[float] = []
        count = 0
        owner = ""
        skipped = cost.buffer_slots(node.type)
        strict = node.type in cost.WEIGHT_SLOTS
        for slot, (key, tensor) in enumerate(zip(keys, node.inputs, strict=True)):
            if tensor is None or not tensor.constant or slot in skipped:
                continue
            if tensor.value is not None and tensor.elements == 1 and not strict:
                number = tensor.value.reshape(-1)[0]
                if isinstance(number, np.number | np.bool_):
                    scalars.append(float(number.real))
                continue
            quantised = strict and tensor.dtype in ("int8", "uint8", "int32", "int4", "uint4")
            if tensor.dtype not in _FLOATS and not quantised and not tensor.dtype.startswith("float8"):
                continue
            leaves = tensor.leaves or (((key, tensor.elements),) if strict else ())
            if not leaves:
                continue
            weights.append(TensorSpec(tensor.shape, tensor.dtype))
            if len(tensor.shape) > 1:
                owner = owner or leaves[0][0]
            elif _is_uniform(tensor):
                # Exporters store equal vectors once. One that still has its initial values is shared for that reason,
                # not because the network ties it: it counts once for every layer, told apart by its matrix.
                leaves = ((f"{leaves[0][0]} of {owner or f'node {len(self.operations)}'}", tensor.elements),)
            for leaf, elements in leaves:
                if leaf not in self.counted:
                    self.counted.add(leaf)
                    count += elements
        return tuple(weights), count, tuple(scalars)


def _describe(operation: Operation, node: Node) -> None:
    """Fill in kernel, stride, dilation, padding, bias and the operator's refinements."""
    data, kind = node.inputs[0], node.type
    rank = len(data.shape) - 2 if data is not None else 0
    if operation.op in ("Conv", "ConvTranspose", "MaxPool", "AvgPool") and data is not None and rank > 0:
        weights_at = 3 if kind == "QLinearConv" else 1
        weights = node.input(weights_at) if operation.op.startswith("Conv") else None
        kernel = tuple(node.get("kernel_shape", ())) or (weights.shape[2:] if weights else ())
        operation.kernel = kernel
        operation.stride = tuple(node.get("strides", ())) or (1,) * len(kernel)
        operation.dilation = tuple(node.get("dilations", ())) or (1,) * len(kernel)
        operation.padding = convolution_padding(node, data.shape[2:], kernel, operation.stride, operation.dilation)
        operation.bias = operation.op.startswith("Conv") and node.input(weights_at + 1 + 5 * (weights_at == 3)) is not None
        if operation.op == "Conv" and operation.groups > 1 and operation.groups == data.shape[1]:
            operation.op = "DepthwiseConv"
    elif operation.op == "Linear":
        operation.bias = node.input(2) is not None
        if len(operation.inputs) > 1 and not operation.weights:
            operation.op = "MatMul"
    elif kind in ("MatMul", "QLinearMatMul", "MatMulInteger", "Einsum") and operation.weights:
        operation.op = "Linear"
    elif kind == "Gather" and data is not None and data.constant:
        operation.op = "Embedding"
    elif kind == "ReduceMean" and data is not None and len(data.shape) > 2:
        axes = node.integers("axes", 1) or []
        if {axis % len(data.shape) for axis in axes} == set(range(2, len(data.shape))):
            operation.op = "GlobalAvgPool"
    elif kind == "Div" and data is not None and data.constant:
        operation.op = "Reciprocal"
    if operation.op == "AvgPool" and data is not None and operation.kernel == data.shape[2:]:
        if not any(operation.padding):
            operation.op = "GlobalAvgPool"
    if operation.op == "GlobalAvgPool":
        operation.kernel = operation.stride = operation.dilation = operation.padding = ()
        return
    kept = [
        (key, tuple(value) if isinstance(value, list) else value)
        for key, value in node.attributes.items()
        if key in _KEPT_ATTRIBUTES and not (key in ("alpha", "beta") and value == 1.0)
    ]
    operation.attributes = tuple(sorted(kept))


def _is_uniform(tensor: Tensor) -> bool:
    return tensor.value is not None and tensor.value.size > 0 and bool((tensor.value == tensor.value.flat[0]).all())


def _distinct(leaves: tuple[tuple[str, int], ...], elements: int) -> tuple[tuple[str, int], ...]:
    """Return the trained tensors behind a computed weight of ``elements`` numbers.

    Exporters that fold part of a computed weight (weight standardisation) leave several copies of it in the file: of
    those of the weight's own size only the first is counted, and single numbers are constants of the computation.
    """
    kept: list[tuple[str, int]] = []
    for leaf in leaves:
        copy = leaf[1] == elements and any(other[1] == elements for other in kept)
        if leaf[1] > 1 and not copy:
            kept.append(leaf)
    return tuple(kept)


def _values(proto: onnx.TensorProto, elements: int) -> np.ndarray[Any, Any] | None:
    """Return the values of a small tensor, ``None`` where the file keeps them elsewhere or they are not numbers."""
    if proto.data_type == onnx.TensorProto.STRING:
        return None
    if not elements:
        return np.zeros(tuple(proto.dims), np.dtype(np.int64 if proto.data_type == 7 else np.float32))
    try:
        return numpy_helper.to_array(proto)
    except (ValueError, TypeError, KeyError, RuntimeError):
        return None


def _attribute(attribute: onnx.AttributeProto) -> Any:
    kind = attribute.type
    if kind == 2:
        return attribute.i
    if kind == 7:
        return list(attribute.ints)
    if kind == 1:
        return attribute.f
    if kind == 3:
        return attribute.s.decode("utf-8", "replace")
    if kind == 4:
        return _values(attribute.t, math.prod(attribute.t.dims))
    if kind == 6:
        return list(attribute.floats)
    if kind == 5:
        return attribute.g
    if kind == 8:
        return [text.decode("utf-8", "replace") for text in attribute.strings]
    return None


def _dtypes(node: Node, count: int) -> list[str]:
    first = next((tensor.dtype for tensor in node.inputs if tensor is not None), "float32")
    kind = node.type
    if kind in ("Cast", "CastLike"):
        like = node.input(1)
        return [like.dtype if like is not None and kind == "CastLike" else DTYPES.get(node.get("to", 1), "float32")]
    if kind in BOOLEAN_OUTPUT:
        return ["bool"] * count
    if kind in ("ArgMax", "ArgMin", "NonZero", "NonMaxSuppression"):
        return ["int64"] * count
    if kind == "Where" and node.input(1) is not None:
        return [node.inputs[1].dtype] * count  # type: ignore[union-attr]
    if kind == "ConstantOfShape":
        fill = node.get("value")
        return ["float32" if fill is None else str(fill.dtype)]
    if kind == "TopK":
        return [first, "int64"]
    return [first] * count


def _infer_one(node: Node, proto: onnx.NodeProto, model: onnx.ModelProto) -> list[Shape | None] | None:
    """Return output shapes by `onnx.shape_inference.infer_node_outputs`, ``None`` where it does not know the node."""
    try:
        schema = onnx.defs.get_schema(node.type, node.opset, node.domain if node.domain != "ai.onnx" else "")
        types, data = {}, {}
        for key, tensor in zip(proto.input, node.inputs, strict=True):
            if tensor is None:
                continue
            element = onnx.TensorProto.DataType.Value(tensor.dtype.upper().replace("FLOAT32", "FLOAT").replace("FLOAT64", "DOUBLE"))
            types[key] = onnx.helper.make_tensor_type_proto(element, tensor.shape)
            if tensor.constant and tensor.value is not None:
                data[key] = numpy_helper.from_array(np.ascontiguousarray(tensor.value), key)
        out = onnx.shape_inference.infer_node_outputs(
            schema, proto, types, data, opset_imports=list(model.opset_import), ir_version=model.ir_version
        )
    except (onnx.defs.SchemaError, onnx.shape_inference.InferenceError, ValueError, RuntimeError, TypeError):
        return None
    shapes: list[Shape | None] = []
    for key in proto.output:
        found = out.get(key)
        if found is None or not found.tensor_type.HasField("shape"):
            shapes.append(None)
            continue
        dims = found.tensor_type.shape.dim
        shapes.append(tuple(int(dim.dim_value) if dim.HasField("dim_value") else 1 for dim in dims))
    return shapes
