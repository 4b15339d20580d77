"""Operator type and attributes of the nodes that search spaces write, serialised once and copied into each node."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
from onnx import helper

__all__ = [
    "average_pool",
    "batch_norm",
    "conv",
    "conv_transpose",
    "fill",
    "filled",
    "linear",
    "max_pool",
    "node",
    "resize",
]

Attribute = float | int | str | tuple[int, ...] | tuple[float, ...]


@cache
def node(op_type: str, **attributes: Attribute) -> bytes:
    """Return a node of ``op_type`` with attributes, without name, inputs and outputs."""
    return _node(op_type, **attributes)


def _node(op_type: str, **attributes: object) -> bytes:
    message = onnx.NodeProto(op_type=op_type)
    message.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    serialized: bytes = message.SerializeToString()
    return serialized


@cache
def conv(kernel: int, stride: int, padding: int, groups: int, dilation: int) -> bytes:
    """Square convolution."""
    return _node(
        "Conv",
        dilations=[dilation, dilation],
        group=groups,
        kernel_shape=[kernel, kernel],
        pads=[padding] * 4,
        strides=[stride, stride],
    )


@cache
def conv_transpose(kernel: int, stride: int, padding: int, output_padding: int) -> bytes:
    """Square transposed convolution of one group."""
    return _node(
        "ConvTranspose",
        kernel_shape=[kernel, kernel],
        output_padding=[output_padding] * 2,
        pads=[padding] * 4,
        strides=[stride, stride],
    )


@cache
def batch_norm(epsilon: float) -> bytes:
    """Batch normalisation in inference form."""
    return _node("BatchNormalization", epsilon=epsilon)


@cache
def average_pool(kernel: int, stride: int, padding: int) -> bytes:
    """Average pooling that does not count padding."""
    return _node(
        "AveragePool",
        count_include_pad=0,
        kernel_shape=[kernel, kernel],
        pads=[padding] * 4,
        strides=[stride, stride],
    )


@cache
def max_pool(kernel: int, stride: int, padding: int) -> bytes:
    """Maximum pooling."""
    return _node("MaxPool", kernel_shape=[kernel, kernel], pads=[padding] * 4, strides=[stride, stride])


@cache
def linear() -> bytes:
    """Fully connected layer whose weight is ``(outputs, inputs)``."""
    return _node("Gemm", alpha=1.0, beta=1.0, transB=1)


@cache
def resize(mode: str) -> bytes:
    """Resize to sizes: ``"nearest"`` takes the floor, ``"linear"`` samples half-pixel centres."""
    if mode == "nearest":
        return _node("Resize", mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    return _node("Resize", mode=mode, coordinate_transformation_mode="half_pixel")


@cache
def fill(value: float) -> bytes:
    """Tensor of one value, its shape an input."""
    tensor = onnx.TensorProto(
        name="value", data_type=onnx.TensorProto.FLOAT, dims=(1,), raw_data=filled(1, value)
    )
    return _node("ConstantOfShape", value=tensor)


@cache
def filled(size: int, value: float) -> bytes:
    """``size`` little-endian float32 copies of ``value``."""
    return np.full(size, value, dtype="<f4").tobytes()
