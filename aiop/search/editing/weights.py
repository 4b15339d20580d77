"""Weights that are made when a file is written: until then an initialiser is a shape and a way to compute it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from aiop.errors import AiopError

__all__ = ["SMALL", "derived", "extents", "lazy", "located", "random_weights", "stub"]

Array = npt.NDArray[Any]

SMALL = 1024
"""Elements: initialisers up to this size go with a network without weights, since shapes may depend on them."""


def extents(tensor: ir.TensorProtocol) -> tuple[int, ...]:
    """Return the shape of a tensor as plain numbers."""
    return tuple(int(str(extent)) for extent in tensor.shape)


def lazy(make: Callable[[], Array], dtype: ir.DataType, shape: tuple[int, ...], name: str) -> ir.LazyTensor:
    """Return a tensor of ``shape`` whose values ``make`` computes each time they are asked for."""

    def evaluate() -> ir.TensorProtocol:
        values = np.asarray(make(), order="C").astype(dtype.numpy(), copy=False)
        if values.shape != shape:
            raise AssertionError(f"{name}: {values.shape} was made where {shape} was announced")
        return ir.Tensor(values, dtype=dtype, name=name)

    return ir.LazyTensor(evaluate, dtype, ir.Shape(shape), name=name)


def derived(
    old: ir.TensorProtocol, function: Callable[[Array], Array], shape: tuple[int, ...], name: str
) -> ir.LazyTensor:
    """Return the tensor that ``function`` makes of the values of another one, when they are asked for."""
    return lazy(lambda: function(old.numpy()), ir.DataType(old.dtype), shape, name)


def stub(tensor: ir.TensorProtocol, name: str) -> ir.ExternalTensor:
    """Return shape and type of a tensor, its values in a file that need not be there."""
    shape = extents(tensor)
    return ir.ExternalTensor(
        "weights", None, None, ir.DataType(tensor.dtype), shape=ir.Shape(shape), name=name
    )


def located(tensor: ir.ExternalTensor, folder: Path | None) -> ir.ExternalTensor | None:
    """Return a tensor that reads its file in ``folder``, None where the file is missing or lies outside of it.

    Raises:
        AiopError: The file is too short for the tensor.
    """
    if folder is None:
        return None
    root = folder.resolve()
    path = (root / str(tensor.location)).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        return None
    shape = extents(tensor)
    needed = (tensor.offset or 0) + math.ceil(math.prod(shape) * ir.DataType(tensor.dtype).itemsize)
    if path.stat().st_size < needed:
        raise AiopError(
            f'weights "{path.name}" end before "{tensor.name}": copy the file again, it is incomplete'
        )
    return ir.ExternalTensor(
        path.name if path.parent == root else str(path.relative_to(root)),
        tensor.offset,
        tensor.length,
        ir.DataType(tensor.dtype),
        shape=ir.Shape(shape),
        name=tensor.name or "",
        base_dir=str(root),
    )


def random_weights(value: ir.Value, seed: int) -> ir.LazyTensor:
    """Return values for an initialiser that has none, drawn by ``seed`` and its name.

    Kernels and matrices by He et al. (ICCV 2015), norms as they are before training, so that activations keep their
    size.
    """
    tensor = value.const_value
    assert tensor is not None
    name = value.name or ""
    shape = extents(tensor)
    dtype = ir.DataType(tensor.dtype)
    use = next(iter(value.uses()), None)
    operator, place = (use.node.op_type, use.idx) if use is not None else ("", 0)

    def make() -> Array:
        if not dtype.is_floating_point():
            return np.zeros(shape, dtype.numpy())
        if operator == "BatchNormalization":
            return np.full(shape, float(place in (1, 4)))
        if operator in ("LayerNormalization", "InstanceNormalization", "GroupNormalization") and place:
            return np.full(shape, float(place == 1))
        if len(shape) < 2:
            return np.full(shape, 1.0 if operator in ("Mul", "Div") else 0.0)
        digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
        rng = np.random.default_rng(int.from_bytes(digest, "little"))
        convolution = operator in ("Conv", "ConvTranspose")
        fan_in = math.prod(shape[1:]) if convolution else shape[-2]
        return rng.standard_normal(shape, np.float32) * math.sqrt(2.0 / max(fan_in, 1))

    return lazy(make, dtype, shape, name)
