"""Write an ONNX graph operator by operator, with the shapes of a network and (by default) no large weights.

One `OnnxWriter` writes one network at batch 1. Every method takes and returns a `Feature`, the name and the
shape of one activation, so that a search space reads like the definition of its network. Nodes, weights and
tensors share hierarchical names: the node ``stage1.cell0.node2.edge1.conv`` writes the tensor of that name
and reads ``stage1.cell0.node2.edge1.conv.weight``.

Protobuf messages are filled directly and their attributes copied from cached templates: `onnx.helper` costs
ten times as much, and a search builds thousands of networks.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import onnx
from onnx import helper

from aiop.errors import AiopError

__all__ = [
    "INPUT",
    "IR_VERSION",
    "OPSET",
    "OUTPUT",
    "Feature",
    "OnnxWriter",
    "WeightMode",
    "check_weight_mode",
]

OPSET = 17
IR_VERSION = 8
INPUT = "image"
OUTPUT = "logits"
#: Tensors of at most this many elements are stored; larger ones come from a `ConstantOfShape` node.
LARGEST_STORED = 1024

WeightMode = Literal["shapes", "random"]
_WEIGHT_MODES = ("shapes", "random")
_FLOAT = onnx.TensorProto.FLOAT
_INT64 = onnx.TensorProto.INT64


class Feature(NamedTuple):
    """One activation of batch 1: tensor name, and its shape ``(1, channels, height, width)``."""

    name: str
    channels: int
    height: int
    width: int


def check_weight_mode(weights: str) -> None:
    """Refuse a ``weights`` argument that is neither ``"shapes"`` nor ``"random"`` with an `AiopError`."""
    if weights not in _WEIGHT_MODES:
        raise AiopError(
            f'weights "{weights}" is unknown: use "shapes" (small file) or "random" (seeded values)'
        )


class OnnxWriter:
    """Writes one network: opset 17, IR version 8, input ``image``, output ``logits``.

    ``weights="shapes"`` stores small tensors and lets a `ConstantOfShape` node make each large one, as the
    light networks of the `onnx` package do: a file of a few dozen kB that every tool can check and run.
    All weights of a layer are then ``1 / fan_in``, which keeps activations finite at any depth.
    ``weights="random"`` stores every weight, drawn from ``N(0, 2 / fan_in)`` (He et al. 2015) by ``seed``.
    """

    def __init__(
        self, name: str, channels: int, height: int, width: int, weights: WeightMode = "shapes", seed: int = 0
    ) -> None:
        """Start the network ``name`` with an image of ``channels x height x width``."""
        check_weight_mode(weights)
        self._network = onnx.ModelProto(ir_version=IR_VERSION, producer_name="aiop")
        self._network.opset_import.add(domain="", version=OPSET)
        self._graph = self._network.graph
        self._graph.name = name
        self._graph.input.append(helper.make_tensor_value_info(INPUT, _FLOAT, (1, channels, height, width)))
        self._nodes = self._graph.node
        self._initializers = self._graph.initializer
        self._shared: set[str] = set()
        self._random = np.random.default_rng(seed) if weights == "random" else None
        self.image = Feature(INPUT, channels, height, width)

    # ---- operators -----------------------------------------------------------------------------------------

    def conv(
        self,
        x: Feature,
        channels: int,
        kernel: int,
        name: str,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = False,
        output: str | None = None,
    ) -> Feature:
        """2-D convolution with a square kernel; ``padding`` defaults to ``(kernel - 1) // 2``."""
        pad = (kernel - 1) // 2 if padding is None else padding
        weight = name + ".weight"
        inputs = [x.name, weight]
        self._weight(weight, (channels, x.channels // groups, kernel, kernel))
        if bias:
            inputs.append(name + ".bias")
            self._vector(inputs[2], channels, 0.0)
        self._node(_conv_template(kernel, stride, pad, groups), name, inputs, output)
        height = (x.height + 2 * pad - kernel) // stride + 1
        width = (x.width + 2 * pad - kernel) // stride + 1
        return Feature(output or name, channels, height, width)

    def batch_norm(self, x: Feature, name: str, epsilon: float = 1e-5) -> Feature:
        """Batch normalisation in inference form: own scale and shift, running statistics shared by size."""
        channels = x.channels
        scale, shift = name + ".scale", name + ".shift"
        mean, variance = f"running_mean.{channels}", f"running_variance.{channels}"
        self._vector(scale, channels, 1.0)
        self._vector(shift, channels, 0.0)
        if mean not in self._shared:
            self._shared.add(mean)
            self._vector(mean, channels, 0.0)
            self._vector(variance, channels, 1.0)
        self._node(_batch_norm_template(epsilon), name, [x.name, scale, shift, mean, variance])
        return x._replace(name=name)

    def relu(self, x: Feature, name: str) -> Feature:
        """``max(x, 0)``."""
        self._node(_plain_template("Relu"), name, [x.name])
        return x._replace(name=name)

    def add(self, x: Feature, y: Feature, name: str) -> Feature:
        """Elementwise sum of two features of one shape."""
        self._node(_plain_template("Add"), name, [x.name, y.name])
        return x._replace(name=name)

    def sum(self, terms: list[Feature], name: str) -> Feature:
        """Sum of features as a chain of binary additions, left to right; one term is returned as it is."""
        total = terms[0]
        last = len(terms) - 1
        for i in range(1, last + 1):
            total = self.add(total, terms[i], name if i == last else f"{name}{i}")
        return total

    def zeros_like(self, x: Feature, name: str) -> Feature:
        """``x * 0``: a zero tensor that still depends on ``x``."""
        if "zero" not in self._shared:
            self._shared.add("zero")
            self._initializers.add(name="zero", data_type=_FLOAT, raw_data=_filled(1, 0.0))
        self._node(_plain_template("Mul"), name, [x.name, "zero"])
        return x._replace(name=name)

    def concat(self, terms: list[Feature], name: str) -> Feature:
        """Concatenation on the channel axis."""
        self._node(_concat_template(), name, [term.name for term in terms])
        return terms[0]._replace(name=name, channels=sum(term.channels for term in terms))

    def average_pool(
        self, x: Feature, kernel: int, name: str, *, stride: int = 1, padding: int = 0
    ) -> Feature:
        """Average pooling in which padding is not counted."""
        self._node(_average_pool_template(kernel, stride, padding), name, [x.name])
        height = (x.height + 2 * padding - kernel) // stride + 1
        width = (x.width + 2 * padding - kernel) // stride + 1
        return Feature(name, x.channels, height, width)

    def global_average_pool(self, x: Feature, name: str) -> Feature:
        """Mean over height and width, kept as 1 x 1."""
        self._node(_plain_template("GlobalAveragePool"), name, [x.name])
        return Feature(name, x.channels, 1, 1)

    def resize(
        self, x: Feature, height: int, width: int, name: str, mode: Literal["nearest", "linear"]
    ) -> Feature:
        """Resize to ``height x width``; a resize to the same size writes no node.

        ``"linear"`` samples half-pixel centres (``align_corners=False``), ``"nearest"`` takes the floor.
        """
        if (height, width) == (x.height, x.width):
            return x
        sizes = self._sizes((1, x.channels, height, width))
        self._node(_resize_template(mode), name, [x.name, "", "", sizes])
        return Feature(name, x.channels, height, width)

    def flatten(self, x: Feature, name: str) -> Feature:
        """``(1, C, 1, 1)`` to ``(1, C)``; give `OUTPUT` as the name where it ends the network."""
        self._node(_flatten_template(), name, [x.name])
        return x._replace(name=name)

    def linear(self, x: Feature, outputs: int, name: str, *, output: str | None = None) -> Feature:
        """Fully connected layer with bias on a flattened feature, as ``Gemm(transB=1)``."""
        weight, bias = name + ".weight", name + ".bias"
        self._weight(weight, (outputs, x.channels))
        self._vector(bias, outputs, 0.0)
        self._node(_linear_template(), name, [x.name, weight, bias], output)
        return Feature(output or name, outputs, 1, 1)

    def finish(self, shape: tuple[int, ...]) -> onnx.ModelProto:
        """Declare the tensor `OUTPUT` of ``shape`` as the network's output and return the network."""
        self._graph.output.append(helper.make_tensor_value_info(OUTPUT, _FLOAT, shape))
        return self._network

    # ---- nodes and weights ---------------------------------------------------------------------------------

    def _node(self, template: bytes, name: str, inputs: list[str], output: str | None = None) -> None:
        node = self._nodes.add(name=name, input=inputs, output=[output or name])
        node.MergeFromString(template)

    def _vector(self, name: str, size: int, value: float) -> None:
        self._initializers.add(name=name, data_type=_FLOAT, dims=(size,), raw_data=_filled(size, value))

    def _weight(self, name: str, shape: tuple[int, ...]) -> None:
        size = math.prod(shape)
        fan_in = size // shape[0]
        if self._random is not None:
            values = self._random.standard_normal(size, dtype=np.float32) * np.float32(
                math.sqrt(2.0 / fan_in)
            )
            self._initializers.add(
                name=name, data_type=_FLOAT, dims=shape, raw_data=values.astype("<f4").tobytes()
            )
        elif size <= LARGEST_STORED:
            self._initializers.add(
                name=name, data_type=_FLOAT, dims=shape, raw_data=_filled(size, 1.0 / fan_in)
            )
        else:
            self._node(_fill_template(1.0 / fan_in), name, [self._sizes(shape)])

    def _sizes(self, shape: tuple[int, ...]) -> str:
        """Name of the shared int64 initializer that holds ``shape``."""
        name = "shape." + "x".join(map(str, shape))
        if name not in self._shared:
            self._shared.add(name)
            raw = np.asarray(shape, dtype="<i8").tobytes()
            self._initializers.add(name=name, data_type=_INT64, dims=(len(shape),), raw_data=raw)
        return name


# ---- templates: operator type and attributes of a node, serialised once --------------------------------


def _template(op_type: str, **attributes: object) -> bytes:
    node = onnx.NodeProto(op_type=op_type)
    node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    serialized: bytes = node.SerializeToString()
    return serialized


@cache
def _plain_template(op_type: str) -> bytes:
    return _template(op_type)


@cache
def _conv_template(kernel: int, stride: int, padding: int, groups: int) -> bytes:
    return _template(
        "Conv",
        dilations=[1, 1],
        group=groups,
        kernel_shape=[kernel, kernel],
        pads=[padding] * 4,
        strides=[stride, stride],
    )


@cache
def _batch_norm_template(epsilon: float) -> bytes:
    return _template("BatchNormalization", epsilon=epsilon)


@cache
def _average_pool_template(kernel: int, stride: int, padding: int) -> bytes:
    return _template(
        "AveragePool",
        count_include_pad=0,
        kernel_shape=[kernel, kernel],
        pads=[padding] * 4,
        strides=[stride, stride],
    )


@cache
def _concat_template() -> bytes:
    return _template("Concat", axis=1)


@cache
def _flatten_template() -> bytes:
    return _template("Flatten", axis=1)


@cache
def _linear_template() -> bytes:
    return _template("Gemm", alpha=1.0, beta=1.0, transB=1)


@cache
def _resize_template(mode: str) -> bytes:
    if mode == "nearest":
        return _template(
            "Resize", mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )
    return _template("Resize", mode=mode, coordinate_transformation_mode="half_pixel")


@cache
def _fill_template(value: float) -> bytes:
    filled = onnx.TensorProto(name="value", data_type=_FLOAT, dims=(1,), raw_data=_filled(1, value))
    return _template("ConstantOfShape", value=filled)


@cache
def _filled(size: int, value: float) -> bytes:
    """``size`` little-endian float32 copies of ``value``."""
    return np.full(size, value, dtype="<f4").tobytes()
