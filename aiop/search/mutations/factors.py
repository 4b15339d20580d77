"""The best approximations of weights by products of smaller ones, computed once for each weight."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

__all__ = ["per_channel", "two_factors"]

Array = npt.NDArray[Any]

_MOST_KEPT = 256 * 2**20  # bytes
_KEPT: OrderedDict[tuple[int, str], tuple[object, Array | tuple[Array, Array]]] = OrderedDict()


def two_factors(tensor: ir.TensorProtocol, form: str, matrix: Callable[[Array], Array]) -> Array:
    """Return the leading left singular vectors of a weight as a matrix, most important first.

    ``left`` of shape ``(rows, min(rows, columns))``: with ``r`` columns of it, ``left_r @ (left_r.T @ matrix)`` is
    the best approximation of rank ``r`` (Eckart and Young, Psychometrika 1936).

    Args:
        tensor: The weight.
        form: Names ``matrix``; the result is kept under the weight and this name.
        matrix: Makes the matrix of the values of the weight.
    """
    found = _kept(tensor, form)
    if found is None:
        found = _left(matrix(tensor.numpy()).astype(np.float64)).astype(np.float32)
        _keep(tensor, form, found)
    assert not isinstance(found, tuple)
    return found


def _left(matrix: Array) -> Array:
    rows, columns = matrix.shape
    if rows <= columns:
        return np.asarray(np.linalg.eigh(matrix @ matrix.T)[1][:, ::-1])
    values, right = np.linalg.eigh(matrix.T @ matrix)
    left = matrix @ right[:, ::-1]
    sizes = np.sqrt(np.maximum(values[::-1], 0))
    if sizes[-1] > 1e-6 * max(float(sizes[0]), 1e-300):
        return np.asarray(left / sizes)
    return np.asarray(np.linalg.svd(matrix, full_matrices=False)[0])  # of deficient rank


def per_channel(tensor: ir.TensorProtocol) -> tuple[Array, Array]:
    """Return a kernel per input channel and how much of it each output takes, nearest to a dense kernel.

    For weights ``W`` of shape ``(O, C, *sides)``: ``spatial`` ``(C, *sides)`` of norm 1 and ``mixing`` ``(O, C)``
    such that ``W[:, c]`` is about ``mixing[:, c]`` times ``spatial[c]``, the best there is in the least squares.
    """
    found = _kept(tensor, "per channel")
    if found is None:
        weight = tensor.numpy().astype(np.float64)
        outputs, channels, *sides = weight.shape
        stacked = weight.reshape(outputs, channels, -1).transpose(1, 0, 2)  # C x O x taps
        spatial = np.linalg.eigh(stacked.transpose(0, 2, 1) @ stacked)[1][:, :, -1]  # C x taps
        # the sign is free: the heaviest tap is positive
        heaviest = np.take_along_axis(spatial, np.abs(spatial).argmax(1)[:, None], 1)
        spatial = spatial * np.where(heaviest < 0, -1.0, 1.0)
        mixing = np.einsum("cot,ct->oc", stacked, spatial)
        found = spatial.reshape(channels, *sides).astype(np.float32), mixing.astype(np.float32)
        _keep(tensor, "per channel", found)
    assert isinstance(found, tuple)
    return found


def _kept(tensor: ir.TensorProtocol, form: str) -> Array | tuple[Array, Array] | None:
    key = (id(tensor), form)
    if key not in _KEPT:
        return None
    _KEPT.move_to_end(key)
    return _KEPT[key][1]


def _keep(tensor: ir.TensorProtocol, form: str, result: Array | tuple[Array, Array]) -> None:
    # the tensor is held too, so that its id stays its own
    _KEPT[id(tensor), form] = (tensor, result)
    while len(_KEPT) > 1 and sum(map(_bytes, (kept for _, kept in _KEPT.values()))) > _MOST_KEPT:
        _KEPT.popitem(last=False)


def _bytes(result: Array | tuple[Array, Array]) -> int:
    return sum(part.nbytes for part in result) if isinstance(result, tuple) else result.nbytes
