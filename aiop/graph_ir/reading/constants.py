"""Constants of a file: nodes that give them, and nodes of constants, which are evaluated while the file is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from aiop.errors import AiopError
from aiop.graph_ir.reading.element_types import dtype_name
from aiop.graph_ir.reading.folding import filled, fold
from aiop.graph_ir.reading.inference import label
from aiop.graph_ir.reading.messages import sparse_constant
from aiop.graph_ir.values import LARGEST_FOLDED, Node, Tensor

if TYPE_CHECKING:
    from aiop.graph_ir.reading.reader import Reader

__all__ = ["HANDLERS", "folded"]


def folded(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> None:
    """Evaluate a node of constants: to values where they are small, to a shape where they are a weight's."""
    for name, tensor in zip(names, _evaluated(reader, node, proto, names), strict=False):
        tensor.constant = True
        tensor.name = reader.place.leaves + name
        tensor.leaves = reader.leaves_behind(node.type, tensor, node.inputs)
        reader.define(tensor, name)


def _evaluated(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> list[Tensor]:
    if node.type == "ConstantOfShape":
        outputs = reader.infer(node, proto, names)
        for tensor in outputs:
            if tensor.elements <= LARGEST_FOLDED:
                tensor.set_value(filled(node, tensor.shape))
        return outputs
    if node.type == "Expand" and (unexpanded := _unexpanded(reader, node, proto, names[0])):
        return [unexpanded]
    values = fold(node)
    if any(value is None for value in values):
        outputs = reader.infer(node, proto, names)
    else:
        outputs = [
            Tensor(name, value.shape, dtype_name(value))
            for name, value in zip(names, values, strict=True)
            if value is not None
        ]
    for tensor, value in zip(outputs, values, strict=True):
        tensor.set_value(value)
    return outputs


def _unexpanded(reader: Reader, node: Node, proto: onnx.NodeProto, name: str) -> Tensor | None:
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
        reader.notes.append(
            f"{label(node, proto)} cannot expand {list(data.shape)} to {target} and is left out"
        )
        copy = Tensor(name, data.shape, data.dtype)
        copy.set_value(lambda: data.value)
        return copy
    return None


# -- nodes that leave no operation behind; each returns whether it could be left out


def _constant(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    if len(node.attributes) != 1:
        raise AiopError(f"{label(node, proto)} has no value; export the network again")
    ((kind, value),) = node.attributes.items()
    if kind == "value":
        tensor = reader.stored(reader.place.leaves + names[0], proto.attribute[0].t)
        tensor.leaves = reader.leaf_of_node(tensor)
    elif kind == "sparse_value":
        tensor = sparse_constant(names[0], proto.attribute[0].sparse_tensor)
    else:
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        known = array.dtype.kind not in "USO"
        tensor = Tensor(names[0], array.shape, str(array.dtype) if known else "string", constant=True)
        tensor.set_value(array if known else None)
    reader.define(tensor, names[0])
    # what another file holds is not in the node
    node.repeatable = kind == "value" and proto.attribute[0].t.data_location != onnx.TensorProto.EXTERNAL
    return True


def _identity(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    tensor = node.input(0)
    if tensor is None:
        return False
    reader.alias(names[0], tensor)
    for mask in names[1:]:
        reader.define(Tensor(mask, tensor.shape, "bool", constant=True))
    return True


def _cast_like(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    """Keep a constant one: what it is cast like gives the element type only."""
    tensor, like = node.input(0), node.input(1)
    if tensor is None or like is None or not tensor.constant:
        return False
    copy = Tensor(
        reader.place.leaves + names[0], tensor.shape, like.dtype, constant=True, leaves=tensor.leaves
    )
    copy.set_value(lambda: tensor.value)
    reader.define(copy, names[0])
    return True


def _shape(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    tensor = node.input(0)
    if tensor is None:
        return False
    if node.type == "Size":
        value = np.asarray(tensor.elements, np.int64)
    else:
        value = np.asarray(tensor.shape[slice(node.get("start", 0), node.get("end"))], np.int64)
    result = Tensor(names[0], value.shape, "int64", constant=True)
    result.set_value(value)
    reader.define(result)
    node.repeatable = True
    return True


HANDLERS = {
    "Constant": _constant,
    "Identity": _identity,
    "Dropout": _identity,
    "CastLike": _cast_like,
    "Shape": _shape,
    "Size": _shape,
}
"""ONNX operator -> what reads it: reader, node, message and output names -> whether it leaves no operation behind."""
