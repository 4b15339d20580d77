"""ONNX files as graphs that can be changed: functions inlined, constants folded, weights where they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx
from aiop.graph_ir.values import DTYPES
from aiop.search.editing.weights import extents, lazy, located, random_weights
from aiop.tasks.networks import build, is_code

__all__ = ["read_editable"]

Array = npt.NDArray[Any]

_ELEMENT_TYPES = {name: number for number, name in DTYPES.items()}
_LEAST_OPSET = 13  # axes of Squeeze, Unsqueeze, ReduceSum and Split are inputs from here on
_MOST_FOLDED = 65_536  # elements of constants that shapes are computed from
_MOST_ROUNDS = 64  # a size that is computed from another takes one each
# Operators that shapes and masks are computed with; products of weights are none of them.
_FOLDED = frozenset(
    "Abs Add And Cast Ceil Clip Concat ConstantOfShape Div Equal Expand Floor Gather Greater Identity Less Max Min Mod "
    "Mul Neg Not Or Pow Range ReduceProd Reshape Shape Size Slice Split Sqrt Squeeze Sub Tile Transpose "
    "Unsqueeze Where".split()
)


def read_editable(
    source: str | Path | bytes | onnx.ModelProto,
    name: str | None,
    shapes: Mapping[str, Sequence[int]],
    fill: int | None,
) -> tuple[ir.Model, str]:
    """Return a network that is ready to be changed, and its name; see `EditableNetwork.read`."""
    message, folder, name = _load(source, name, fill)
    _set_shapes(message, shapes, name)
    try:
        message = _with_known_shapes(_current(message))
        model = ir.serde.deserialize_model(message)
        passes.InlinePass()(model)
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        passes.RemoveInitializersFromInputsPass()(model)
        passes.IdentityEliminationPass()(model)
        _own_vectors(model.graph, folder, fill is not None)
        _name_nodes(model.graph)
        for _ in range(_MOST_ROUNDS):
            if not _fold(model):
                break
            _reinfer(model)
        _settle_shapes(model.graph)
        passes.RemoveUnusedNodesPass()(model)
    except AiopError:
        raise
    except (ValueError, TypeError, KeyError, RuntimeError, NotImplementedError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise AiopError(f"{name}: cannot be changed ({reason}); check it with onnx.checker") from error
    _find_weights(model.graph, folder, name, fill)
    return model, name


def _load(
    source: str | Path | bytes | onnx.ModelProto, name: str | None, fill: int | None
) -> tuple[onnx.ModelProto, Path | None, str]:
    if isinstance(source, onnx.ModelProto):
        return source, None, name or source.graph.name or "network"
    if isinstance(source, bytes):
        return _parsed(source, name or "network"), None, name or "network"
    text = str(source)
    if is_code(text):
        return build(text, weights="random", seed=fill or 0), None, name or text
    path = Path(source)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AiopError(f'cannot read "{path}": {error.strerror or error}; give an ONNX file') from error
    return _parsed(data, name or text), path.parent, name or text


def _parsed(data: bytes, name: str) -> onnx.ModelProto:
    from google.protobuf.message import DecodeError

    message = onnx.ModelProto()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise AiopError(
            f"{name}: not an ONNX network (the bytes are not an ONNX message); export it again"
        ) from error
    if not message.graph.node:
        raise AiopError(f"{name}: not an ONNX network (the message holds no graph); export the network again")
    return message


def _set_shapes(message: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], name: str) -> None:
    constants = {tensor.name for tensor in message.graph.initializer}
    inputs = {value.name: value for value in message.graph.input if value.name not in constants}
    for key, shape in shapes.items():
        if key not in inputs:
            raise AiopError(f'{name}: there is no input "{key}": the inputs are {", ".join(inputs)}')
        tensor = inputs[key].type.tensor_type
        tensor.ClearField("shape")
        for extent in shape:
            tensor.shape.dim.add().dim_value = int(extent)
    for key, value in inputs.items():
        for place, extent in enumerate(value.type.tensor_type.shape.dim):
            if extent.dim_value > 0:
                continue
            if place:
                raise AiopError(
                    f'{name}: axis {place} of input "{key}" has no size: give it, as in --shape {key}=1x3x224x224'
                )


def _current(message: onnx.ModelProto) -> onnx.ModelProto:
    version = next((entry.version for entry in message.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if 0 < version < _LEAST_OPSET:
        return onnx.version_converter.convert_version(message, 17)
    return message


def _with_known_shapes(message: onnx.ModelProto) -> onnx.ModelProto:
    message = onnx.shape_inference.infer_shapes(message, data_prop=True)
    constants = {tensor.name for tensor in message.graph.initializer}
    inputs = [value for value in message.graph.input if value.name not in constants]
    known = {value.name for value in message.graph.value_info if _is_static(value)}
    produced = {name for node in message.graph.node for name in node.output if name}
    produced -= {value.name for value in message.graph.output}
    if produced <= known or not all(_is_static(value) for value in inputs):
        return message
    # Where sizes are computed from sizes, the reader of the predictor follows them and onnx does not.
    try:
        found = read_onnx(message).tensors
    except AiopError:
        return message
    declared = {value.name: value for value in message.graph.value_info}
    for name in produced - known:
        if name in found:
            value = declared.get(name) or message.graph.value_info.add(name=name)
            value.type.tensor_type.elem_type = _ELEMENT_TYPES[found[name].dtype]
            value.type.tensor_type.ClearField("shape")
            for extent in found[name].shape:
                value.type.tensor_type.shape.dim.add().dim_value = extent
    return message


def _is_static(value: onnx.ValueInfoProto) -> bool:
    shape = value.type.tensor_type.shape
    return value.type.tensor_type.HasField("shape") and all(extent.dim_value > 0 for extent in shape.dim)


def _reinfer(model: ir.Model) -> None:
    passes.ShapeInferencePass(data_prop=True)(model)


def _own_vectors(graph: ir.Graph, folder: Path | None, fill: bool) -> None:
    """Give every reader of a vector or number its own: exporters join equal ones of unrelated layers.

    So they do with kernels that are all zero before training; where weights are filled, each reader gets its own too.
    """
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or len(value.uses()) < 2:
            continue
        missing = fill and isinstance(tensor, ir.ExternalTensor) and located(tensor, folder) is None
        if not missing and sum(extent != 1 for extent in extents(tensor)) > 1:
            continue
        for count, use in enumerate(list(value.uses())[1:], 2):
            copy = ir.Value(
                name=f"{value.name}/{count}", shape=value.shape, type=value.type, const_value=tensor
            )
            graph.register_initializer(copy)
            use.node.replace_input_with(use.idx, copy)


def _name_nodes(graph: ir.Graph) -> None:
    """Give every node a name of its own: that of the exporter, else one of its weight or operator."""
    taken: set[str] = set()
    for node in graph:
        name = (node.name or "").strip("/").replace("/", ".") or _by_weight(node) or node.op_type.lower()
        free, count = name, 1
        while free in taken:
            count += 1
            free = f"{name}.{count}"
        taken.add(free)
        node.name = free


def _by_weight(node: ir.Node) -> str:
    for value in node.inputs:
        if value is not None and value.is_initializer() and (value.name or "").endswith(".weight"):
            return (value.name or "").removesuffix(".weight")
    return ""


def _fold(model: ir.Model) -> bool:
    """Replace nodes that compute shapes and masks from constants by what they compute; say whether there were any."""
    graph, changed = model.graph, False
    for node in list(graph):
        if node.domain not in ("", "ai.onnx") or node.op_type not in _FOLDED or len(node.outputs) != 1:
            continue
        values = _folded(node, model)
        if values is None:
            continue
        output = node.outputs[0]
        name = output.name or ""
        if output.is_graph_output():
            continue
        constant = ir.Value(
            name=f"{name}/constant",
            shape=ir.Shape(extents(values)),
            type=ir.TensorType(values.dtype),
            const_value=values,
        )
        graph.register_initializer(constant)
        output.replace_all_uses_with(constant)
        graph.remove(node, safe=True)
        changed = True
    return changed


def _folded(node: ir.Node, model: ir.Model) -> ir.TensorProtocol | None:
    output = node.outputs[0]
    if node.op_type == "Shape":
        return _extents_of(node)
    given = [value for value in node.inputs if value is not None]
    if any(value.const_value is None or value.producer() is not None for value in given):
        return _known_extent(node) if node.op_type == "Gather" else None
    shape = _static(output)
    if shape is not None:
        size = math.prod(shape)
        if node.op_type == "ConstantOfShape" and size > _MOST_FOLDED:
            return _filled(node, shape)
        if size > _MOST_FOLDED:
            return None
    elif node.op_type in ("ConstantOfShape", "Expand", "Tile", "Range"):
        return None
    tensors = [value.const_value for value in given if value.const_value is not None]
    if any(tensor.size > _MOST_FOLDED or isinstance(tensor, ir.ExternalTensor) for tensor in tensors):
        return None
    return _evaluated(node, [tensor.numpy() for tensor in tensors], model)


def _known_extent(node: ir.Node) -> ir.TensorProtocol | None:
    """Return the extents that a Gather takes from the Shape of a value, where those are known, others open or not."""
    asked, index = node.inputs[0], node.inputs[1]
    shape = asked.producer() if asked is not None else None
    if shape is None or shape.op_type != "Shape" or shape.attributes or index is None or index.producer():
        return None
    source, places = shape.inputs[0], index.const_value
    if source is None or source.shape is None or places is None:
        return None
    rank = len(source.shape)
    wanted = places.numpy()
    if not all(-rank <= place < rank for place in wanted.reshape(-1)):
        return None
    found = [source.shape[int(place)] for place in wanted.reshape(-1)]
    if not all(isinstance(extent, int) for extent in found):
        return None
    return ir.Tensor(np.array(found, np.int64).reshape(wanted.shape))


def _extents_of(node: ir.Node) -> ir.TensorProtocol | None:
    shape = _static(node.inputs[0])
    if shape is None:
        return None
    start, end = (node.attributes.get(key) for key in ("start", "end"))
    first = start.as_int() if start is not None else 0
    last = end.as_int() if end is not None else len(shape)
    return ir.Tensor(np.array(shape[first:last], np.int64))


def _static(value: ir.Value | None) -> tuple[int, ...] | None:
    if value is None or value.shape is None:
        return None
    shape = tuple(extent for extent in value.shape if isinstance(extent, int))
    return shape if len(shape) == len(value.shape) else None


def _filled(node: ir.Node, shape: tuple[int, ...]) -> ir.TensorProtocol:
    attribute = node.attributes.get("value")
    fill = attribute.as_tensor().numpy().reshape(-1)[0] if attribute is not None else np.float32(0)
    dtype = ir.DataType.from_numpy(np.asarray(fill).dtype)
    return lazy(lambda: np.full(shape, fill), dtype, shape, node.name or "")


def _evaluated(node: ir.Node, arrays: list[Array], model: ir.Model) -> ir.TensorProtocol | None:
    from onnx.reference import ReferenceEvaluator

    message = ir.serde.serialize_node(node)
    names = [f"x{place}" for place, name in enumerate(message.input) if name]
    places = [f"x{place}" if name else "" for place, name in enumerate(message.input)]
    del message.input[:], message.output[:]
    message.input.extend(places)
    message.output.append("y")
    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in zip(names, arrays, strict=True)
    ]
    output = onnx.helper.make_empty_tensor_value_info("y")
    graph = onnx.helper.make_graph([message], "node", inputs, [output])
    opset = onnx.helper.make_opsetid("", model.opset_imports.get("", 17))
    try:
        (result,) = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=[opset])).run(
            None, dict(zip(names, arrays, strict=True))
        )
    except Exception:  # whatever the evaluator cannot do stays in the graph
        return None
    return ir.Tensor(np.asarray(result, order="C"))


def _settle_shapes(graph: ir.Graph) -> None:
    """Make the target of a Reshape a constant where at most one of its extents is open."""
    for node in graph:
        if node.op_type != "Reshape" or len(node.inputs) < 2:
            continue
        source, target, output = node.inputs[0], node.inputs[1], node.outputs[0]
        if target is None or source is None or (target.const_value is not None and target.producer() is None):
            continue
        allow_zero = node.attributes.get("allowzero")  # torch writes it also where it is 0
        if output.shape is None or source.shape is None or (allow_zero is not None and allow_zero.as_int()):
            continue
        wanted: list[int] = []
        for place, extent in enumerate(output.shape):
            if isinstance(extent, int):
                wanted.append(extent)
            elif place < len(source.shape) and source.shape[place] == extent and extent.value is not None:
                wanted.append(0)
            else:
                wanted.append(-1)
        if wanted.count(-1) > 1:
            continue
        constant = ir.Value(
            name=f"{output.name}/target",
            shape=ir.Shape([len(wanted)]),
            type=ir.TensorType(ir.DataType.INT64),
            const_value=ir.Tensor(np.array(wanted, np.int64)),
        )
        graph.register_initializer(constant)
        node.replace_input_with(1, constant)


def _find_weights(graph: ir.Graph, folder: Path | None, name: str, fill: int | None) -> None:
    for value in graph.initializers.values():
        tensor = value.const_value
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        found = located(tensor, folder)
        if found is not None:
            value.const_value = found
        elif fill is not None:
            value.const_value = random_weights(value, fill)
        else:
            raise AiopError(
                f'{name}: the weights "{tensor.location}" are missing: put the file into the folder of the network'
            )
