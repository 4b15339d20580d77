"""What flows into a network and out of it: tensors, sequences and optionals, of fixed or open sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import onnx

from aiop.errors import AiopError, suggest
from aiop.graph_ir.graph import Operation
from aiop.graph_ir.reading.sequence_values import Absent
from aiop.graph_ir.reading.sequence_values import Sequence as TensorSequence
from aiop.graph_ir.values import DTYPES, LARGEST_TENSOR, Shape, Tensor

if TYPE_CHECKING:
    from aiop.graph_ir.reading.reader import Reader

__all__ = ["as_declared", "read_inputs", "read_outputs", "zero_sized"]

_EXAMPLE = (1, 3, 224, 224)
_FIRST_OPSET_WITH_ZEROS = 9  # exporters of older files wrote 0 for a size that is open


class _Source(NamedTuple):
    """An input: the tensor that flows in, what the graph reads under its name, and what is assumed of it."""

    tensor: Tensor
    value: Tensor
    note: str = ""


def _read_input(value: onnx.ValueInfoProto, given: Sequence[int] | None, zeros: bool) -> _Source:
    """Return a network's input, at the shape that the user gave or the file declares.

    A sequence of unknown length is read as one tensor, an optional as what it may hold. ``zeros`` says whether a
    size of 0 in the file is meant; it is an open size otherwise.
    """
    name, kind, notes = value.name, value.type, []
    while True:
        which = kind.WhichOneof("value")
        if which == "optional_type":
            notes.append("optional and is read as given")
            kind = kind.optional_type.elem_type
        elif which == "sequence_type" and "a sequence" not in " ".join(notes):
            notes.append("a sequence of unknown length and is read as one tensor")
            kind = kind.sequence_type.elem_type
        else:
            break
    if which == "tensor_type" or which == "sparse_tensor_type":
        declared = getattr(kind, which)
    elif which == "map_type":
        declared = kind.map_type.value_type.tensor_type
    else:
        raise AiopError(
            f"input {name!r} is a {which or 'value without a type'}, not a tensor; "
            "export the network with tensors as inputs"
        )
    tensor = Tensor(
        name, _input_shape(name, declared, given, zeros), DTYPES.get(declared.elem_type, "float32")
    )
    note = f"input {name!r} is {' of '.join(notes)}" if notes else ""
    if any(text.startswith("a sequence") for text in notes):
        return _Source(tensor, TensorSequence(name, [(tensor, 1)], exact=False), note)
    return _Source(tensor, tensor, note)


def zero_sized(graph: onnx.GraphProto, opset: int) -> bool:
    """Return whether a file may mean the sizes of 0 that its inputs have."""
    return opset >= _FIRST_OPSET_WITH_ZEROS and any(
        dim.HasField("dim_value") and dim.dim_value == 0
        for value in graph.input
        for dim in value.type.tensor_type.shape.dim
    )


def _input_shape(name: str, declared: Any, given: Sequence[int] | None, zeros: bool) -> Shape:
    """Return the shape of a network's input: the one given by the user, or the file's with an open batch read as 1.

    What is open, or does not fit what the file declares is an `AiopError` that says how to give a shape.
    """
    dims = declared.shape.dim
    least = 0 if zeros else 1
    if given is not None:
        shape = tuple(int(extent) for extent in given)
        if not shape or min(shape) < 1:
            raise AiopError(f"shape {list(shape)} given for input {name!r} needs sizes of 1 or more")
        if declared.HasField("shape") and len(dims) != len(shape):
            raise AiopError(
                f"shape {list(shape)} given for input {name!r} has {len(shape)} axes where the file has {len(dims)}; "
                f"give it as {_hint(name, _sizes(dims))}"
            )
        return _checked(name, shape)
    if not declared.HasField("shape"):
        raise AiopError(f"input {name!r} has no shape; give it: {_hint(name, _EXAMPLE)}")
    for axis, dim in enumerate(dims):
        if axis and (dim.dim_value < least or not dim.HasField("dim_value")):
            label = f" ({dim.dim_param!r})" if dim.dim_param else ""
            raise AiopError(
                f"input {name!r} has no fixed size on axis {axis}{label}; give it: {_hint(name, _sizes(dims))}"
            )
    return _checked(
        name, tuple(max(least if dim.HasField("dim_value") else 1, int(dim.dim_value)) for dim in dims)
    )


def _checked(name: str, shape: Shape) -> Shape:
    if math.prod(shape) > LARGEST_TENSOR:
        raise AiopError(
            f"input {name!r} of shape {list(shape)} is too large; give it: {_hint(name, _EXAMPLE)}"
        )
    return shape


def _sizes(dims: Sequence[Any]) -> list[int]:
    """Return the declared sizes, those of a usual image where they are open."""
    usual = (1, *(3,) * (len(dims) > 3), *(224,) * len(dims))
    return [int(dim.dim_value) if dim.dim_value > 0 else size for dim, size in zip(dims, usual, strict=False)]


def _hint(name: str, shape: Sequence[int]) -> str:
    return f"--shape {name}={','.join(map(str, shape))}"


def read_inputs(
    reader: Reader, graph: onnx.GraphProto, shapes: Mapping[str, Sequence[int]]
) -> tuple[str, ...]:
    """Define the inputs of a network, at the sizes given in ``shapes`` where there are any, and return their names."""
    # old files list their weights as inputs too
    values = [value for value in graph.input if value.name not in reader.tensors]
    names = tuple(value.name for value in values)
    unknown = sorted(set(shapes) - set(names))
    if unknown:
        raise AiopError(
            f"has no input {unknown[0]!r} to give a shape to{suggest(unknown[0], names)}; "
            f"its inputs are {', '.join(names) or 'none'}"
        )
    for name, value in zip(names, values, strict=True):
        tensor, known, note = _read_input(value, shapes.get(name), reader.zeros)
        reader.define(known)
        reader.inner[name] = tensor
        reader.notes += [note] * bool(note)
        reader.operations.append(
            Operation(name, "Input", "Input", (), (name,), output_elements=tensor.elements)
        )
    return names


def read_outputs(reader: Reader, graph: onnx.GraphProto) -> tuple[str, ...]:
    """Return the tensors that a network puts out; constants among them only where there is nothing else."""
    outputs: list[str] = []
    constants: dict[str, Tensor] = {}
    for value in graph.output:
        tensor = reader.tensors.get(value.name)
        if tensor is None:
            raise AiopError(f"output {value.name!r} is computed by no node; export the network again")
        if isinstance(tensor, TensorSequence):
            items = {f"{value.name}#{index}": item for index, item in enumerate(tensor.items)}
        else:
            items = {} if isinstance(tensor, Absent) else {value.name: tensor}
        for name, item in items.items():
            if item.constant:
                constants[name] = item
            else:
                outputs.append(item.name)
    if not outputs:
        return _constant_outputs(reader, constants)
    reader.notes += [f"output {name!r} does not depend on the inputs and is left out" for name in constants]
    return tuple(outputs)


def _constant_outputs(reader: Reader, constants: dict[str, Tensor]) -> tuple[str, ...]:
    """Turn the outputs of a network that computes nothing else into operations that give a constant."""
    if not constants:
        raise AiopError(
            "no output depends on the inputs, so nothing flows through it; export the network again"
        )
    for name, tensor in constants.items():
        reader.notes.append(f"output {name!r} does not depend on the inputs")
        reader.tensors.pop(name, None)
        node = reader.node("Constant", [tensor], name)
        result = Tensor(name, tensor.shape, tensor.dtype)
        reader.record(node, onnx.NodeProto(output=[name]), [name], [result])
    return tuple(constants)


def as_declared(reader: Reader) -> bool:
    """Return whether all outputs have the shapes that the file declares."""
    graph = reader.model.graph
    return all(
        reader.inference.declared(value.name) == reader.tensors[value.name].shape for value in graph.output
    )
