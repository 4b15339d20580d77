"""Write an ONNX graph operator by operator, with the shapes of a network and (by default) no large weights.

One `OnnxWriter` writes one network, at batch 1 unless told otherwise. Every method takes and returns a
`Feature`, the name and the shape of one activation, so that a search space reads like the definition of its
network. Nodes, weights and tensors share hierarchical names: the node ``stage1.cell0.node2.edge1.conv`` writes
the tensor of that name and reads ``stage1.cell0.node2.edge1.conv.weight``. Layers that several spaces share
are in `aiop.tasks.spaces.blocks`.

Protobuf messages are filled directly and their attributes copied from cached templates: `onnx.helper` costs
ten times as much, and a search builds thousands of networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from aiop.errors import AiopError
from aiop.tasks.spaces import templates

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
    """One activation: tensor name, and its shape ``(batch, channels, height, width)``."""

    name: str
    channels: int
    height: int
    width: int
    batch: int = 1


def check_weight_mode(weights: str) -> None:
    """Refuse a ``weights`` argument that is neither ``"shapes"`` nor ``"random"`` with an `AiopError`."""
    if weights not in _WEIGHT_MODES:
        raise AiopError(
            f'weights "{weights}" is unknown: use "shapes" (small file) or "random" (seeded values)'
        )


class OnnxWriter:
    """Writes one network: opset 17, IR version 8, input ``image``, output ``logits`` (or those of `finish`).

    ``weights="shapes"`` stores small tensors and lets a `ConstantOfShape` node make each large one, as the
    light networks of the `onnx` package do: a file of a few dozen kB that every tool can check and run.
    All weights of a layer are then ``1 / fan_in``, which keeps activations finite at any depth.
    ``weights="random"`` stores every weight, drawn from ``N(0, 2 / fan_in)`` (He et al. 2015) by ``seed``.
    """

    def __init__(
        self,
        name: str,
        channels: int,
        height: int,
        width: int,
        weights: WeightMode = "shapes",
        seed: int = 0,
        batch: int = 1,
    ) -> None:
        """Start the network ``name`` with an image of ``batch x channels x height x width``."""
        check_weight_mode(weights)
        self._network = onnx.ModelProto(ir_version=IR_VERSION, producer_name="aiop")
        self._network.opset_import.add(domain="", version=OPSET)
        self._graph = self._network.graph
        self._graph.name = name
        shape = (batch, channels, height, width)
        self._graph.input.append(helper.make_tensor_value_info(INPUT, _FLOAT, shape))
        self._nodes = self._graph.node
        self._initializers = self._graph.initializer
        self._shared: set[str] = set()
        self._random = np.random.default_rng(seed) if weights == "random" else None
        self.image = Feature(INPUT, channels, height, width, batch)

    # ---- layers with weights -------------------------------------------------------------------------------

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
        dilation: int = 1,
        bias: bool = False,
        output: str | None = None,
        shared: str | None = None,
    ) -> Feature:
        """2-D convolution with a square kernel; ``padding`` defaults to ``dilation * (kernel - 1) // 2``.

        Convolutions of one ``shared`` name read the same weights, written with the first of them.
        """
        reach = dilation * (kernel - 1)
        pad = reach // 2 if padding is None else padding
        owner = shared or name
        weight = owner + ".weight"
        inputs = [x.name, weight]
        written = weight in self._shared
        if shared:
            self._shared.add(weight)
        if not written:
            self._weight(weight, (channels, x.channels // groups, kernel, kernel))
        if bias:
            inputs.append(owner + ".bias")
            if not written:
                self._vector(inputs[2], channels, 0.0)
        self._node(templates.conv(kernel, stride, pad, groups, dilation), name, inputs, output)
        height = (x.height + 2 * pad - reach - 1) // stride + 1
        width = (x.width + 2 * pad - reach - 1) // stride + 1
        return Feature(output or name, channels, height, width, x.batch)

    def conv_transpose(
        self,
        x: Feature,
        channels: int,
        kernel: int,
        name: str,
        *,
        stride: int,
        padding: int,
        output_padding: int = 0,
        bias: bool = False,
    ) -> Feature:
        """2-D transposed convolution with a square kernel."""
        weight = name + ".weight"
        inputs = [x.name, weight]
        # Every output sees kernel**2 / stride**2 positions of the input.
        fan_in = max(x.channels * kernel**2 // stride**2, 1)
        self._weight(weight, (x.channels, channels, kernel, kernel), fan_in)
        if bias:
            inputs.append(name + ".bias")
            self._vector(inputs[2], channels, 0.0)
        self._node(templates.conv_transpose(kernel, stride, padding, output_padding), name, inputs)
        grow = kernel - 2 * padding + output_padding
        height, width = ((side - 1) * stride + grow for side in (x.height, x.width))
        return Feature(name, channels, height, width, x.batch)

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
        self._node(templates.batch_norm(epsilon), name, [x.name, scale, shift, mean, variance])
        return x._replace(name=name)

    def linear(self, x: Feature, outputs: int, name: str, *, output: str | None = None) -> Feature:
        """Fully connected layer with bias on a flattened feature, as ``Gemm(transB=1)``."""
        weight, bias = name + ".weight", name + ".bias"
        self._weight(weight, (outputs, x.channels))
        self._vector(bias, outputs, 0.0)
        self._node(templates.linear(), name, [x.name, weight, bias], output)
        return Feature(output or name, outputs, 1, 1, x.batch)

    # ---- activations and arithmetic ------------------------------------------------------------------------

    def relu(self, x: Feature, name: str) -> Feature:
        """``max(x, 0)``."""
        return self._elementwise("Relu", x, name)

    def leaky_relu(self, x: Feature, name: str, slope: float) -> Feature:
        """``x`` where positive, ``slope * x`` elsewhere."""
        self._node(templates.node("LeakyRelu", alpha=slope), name, [x.name])
        return x._replace(name=name)

    def sigmoid(self, x: Feature, name: str) -> Feature:
        """``1 / (1 + exp(-x))``."""
        return self._elementwise("Sigmoid", x, name)

    def tanh(self, x: Feature, name: str, output: str | None = None) -> Feature:
        """Hyperbolic tangent."""
        return self._elementwise("Tanh", x, name, output)

    def silu(self, x: Feature, name: str) -> Feature:
        """``x * sigmoid(x)``, in two nodes: the opset has no operator for it."""
        return self.mul(x, self.sigmoid(x, name + ".sigmoid"), name)

    def hard_sigmoid(self, x: Feature, name: str) -> Feature:
        """``relu6(x + 3) / 6``."""
        self._node(templates.node("HardSigmoid", alpha=1 / 6, beta=0.5), name, [x.name])
        return x._replace(name=name)

    def hard_swish(self, x: Feature, name: str) -> Feature:
        """``x * relu6(x + 3) / 6``."""
        return self._elementwise("HardSwish", x, name)

    def add(self, x: Feature, y: Feature, name: str) -> Feature:
        """Elementwise sum of two features of one shape."""
        self._node(templates.node("Add"), name, [x.name, y.name])
        return x._replace(name=name)

    def mul(self, x: Feature, y: Feature, name: str) -> Feature:
        """Elementwise product; ``y`` has the shape of ``x``, or is 1 x 1 in space."""
        self._node(templates.node("Mul"), name, [x.name, y.name])
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
            self._initializers.add(name="zero", data_type=_FLOAT, raw_data=templates.filled(1, 0.0))
        self._node(templates.node("Mul"), name, [x.name, "zero"])
        return x._replace(name=name)

    # ---- pooling, resizing, shape --------------------------------------------------------------------------

    def average_pool(
        self, x: Feature, kernel: int, name: str, *, stride: int = 1, padding: int = 0
    ) -> Feature:
        """Average pooling in which padding is not counted."""
        self._node(templates.average_pool(kernel, stride, padding), name, [x.name])
        return self._pooled(x, kernel, stride, padding, name)

    def max_pool(self, x: Feature, kernel: int, name: str, *, stride: int = 1, padding: int = 0) -> Feature:
        """Maximum pooling."""
        self._node(templates.max_pool(kernel, stride, padding), name, [x.name])
        return self._pooled(x, kernel, stride, padding, name)

    def global_average_pool(self, x: Feature, name: str) -> Feature:
        """Mean over height and width, kept as 1 x 1."""
        self._node(templates.node("GlobalAveragePool"), name, [x.name])
        return Feature(name, x.channels, 1, 1, x.batch)

    def resize(
        self, x: Feature, height: int, width: int, name: str, mode: Literal["nearest", "linear"]
    ) -> Feature:
        """Resize to ``height x width``; a resize to the same size writes no node.

        ``"linear"`` samples half-pixel centres (``align_corners=False``), ``"nearest"`` takes the floor.
        """
        if (height, width) == (x.height, x.width):
            return x
        sizes = self.integers((x.batch, x.channels, height, width))
        self._node(templates.resize(mode), name, [x.name, "", "", sizes])
        return Feature(name, x.channels, height, width, x.batch)

    def concat(self, terms: list[Feature], name: str) -> Feature:
        """Concatenation on the channel axis."""
        self._node(templates.node("Concat", axis=1), name, [term.name for term in terms])
        return terms[0]._replace(name=name, channels=sum(term.channels for term in terms))

    def first_channels(self, x: Feature, channels: int, name: str) -> Feature:
        """The first ``channels`` channels; all of them write no node."""
        if channels == x.channels:
            return x
        bounds = [self.integers((value,)) for value in (0, channels, 1)]
        self._node(templates.node("Slice"), name, [x.name, *bounds])
        return x._replace(name=name, channels=channels)

    def crop_corner(self, x: Feature, name: str) -> Feature:
        """Everything but the first row and the first column: ``x[:, :, 1:, 1:]``."""
        starts, ends, axes = (self.integers(pair) for pair in ((1, 1), (x.height, x.width), (2, 3)))
        self._node(templates.node("Slice"), name, [x.name, starts, ends, axes])
        return x._replace(name=name, height=x.height - 1, width=x.width - 1)

    def pad_end(self, x: Feature, name: str) -> Feature:
        """One row of zeros below and one column of zeros at the right."""
        self._node(templates.node("Pad", mode="constant"), name, [x.name, self.integers((0,) * 6 + (1, 1))])
        return x._replace(name=name, height=x.height + 1, width=x.width + 1)

    def channel_shuffle(self, x: Feature, groups: int, name: str) -> Feature:
        """Interleave the channels of ``groups`` groups (reshape, transpose, reshape; Zhang et al. 2018)."""
        split = self.integers((x.batch, groups, x.channels // groups, x.height, x.width))
        self._node(templates.node("Reshape"), name + ".split", [x.name, split])
        self._node(templates.node("Transpose", perm=(0, 2, 1, 3, 4)), name + ".transpose", [name + ".split"])
        merged = self.integers((x.batch, x.channels, x.height, x.width))
        self._node(templates.node("Reshape"), name, [name + ".transpose", merged])
        return x._replace(name=name)

    def reshape(self, x: Feature, shape: Sequence[int], name: str) -> Feature:
        """Reshape to ``(batch, channels, height, width)``, or to ``(batch, channels)`` of a 1 x 1 feature."""
        self._node(templates.node("Reshape"), name, [x.name, self.integers(tuple(shape))])
        batch, channels, height, width = (*shape, 1, 1)[:4]
        return Feature(name, channels, height, width, batch)

    def flatten(self, x: Feature, name: str) -> Feature:
        """``(B, C, H, W)`` to ``(B, C * H * W)``; give `OUTPUT` as the name where it ends the network."""
        self._node(templates.node("Flatten", axis=1), name, [x.name])
        return Feature(name, x.channels * x.height * x.width, 1, 1, x.batch)

    # ---- anything else -------------------------------------------------------------------------------------

    def operator(
        self,
        op_type: str,
        inputs: Sequence[str],
        name: str,
        outputs: Sequence[str] = (),
        **attributes: templates.Attribute,
    ) -> str:
        """Write a node of any operator on tensors by name; returns its first output (``name`` by default).

        Tuples are the lists of attributes. The caller keeps track of shapes.
        """
        node = self._nodes.add(name=name, input=inputs, output=outputs or [name])
        node.MergeFromString(templates.node(op_type, **attributes))
        return str(node.output[0])

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        """Store a small tensor that is no weight (sizes, anchors, thresholds) and return its name."""
        if name not in self._shared:
            self._shared.add(name)
            self._initializers.append(onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    def integers(self, values: tuple[int, ...]) -> str:
        """Name of the shared int64 initializer that holds ``values``, for sizes and bounds."""
        name = "shape." + "x".join(map(str, values))
        if name not in self._shared:
            self._shared.add(name)
            raw = np.asarray(values, dtype="<i8").tobytes()
            self._initializers.add(name=name, data_type=_INT64, dims=(len(values),), raw_data=raw)
        return name

    def finish(self, outputs: tuple[int, ...] | Mapping[str, tuple[int, ...]]) -> onnx.ModelProto:
        """Declare the network's outputs and return it.

        ``outputs`` is the shape of the tensor `OUTPUT`, or the shape of each output by tensor name.
        """
        shapes = outputs if isinstance(outputs, Mapping) else {OUTPUT: outputs}
        for name, shape in shapes.items():
            self._graph.output.append(helper.make_tensor_value_info(name, _FLOAT, shape))
        return self._network

    # ---- nodes and weights ---------------------------------------------------------------------------------

    def _node(self, template: bytes, name: str, inputs: list[str], output: str | None = None) -> None:
        node = self._nodes.add(name=name, input=inputs, output=[output or name])
        node.MergeFromString(template)

    def _elementwise(self, op_type: str, x: Feature, name: str, output: str | None = None) -> Feature:
        self._node(templates.node(op_type), name, [x.name], output)
        return x._replace(name=output or name)

    @staticmethod
    def _pooled(x: Feature, kernel: int, stride: int, padding: int, name: str) -> Feature:
        height = (x.height + 2 * padding - kernel) // stride + 1
        width = (x.width + 2 * padding - kernel) // stride + 1
        return Feature(name, x.channels, height, width, x.batch)

    def _vector(self, name: str, size: int, value: float) -> None:
        if size > LARGEST_STORED and self._random is None:
            self._node(templates.fill(value), name, [self.integers((size,))])
            return
        raw = templates.filled(size, value)
        self._initializers.add(name=name, data_type=_FLOAT, dims=(size,), raw_data=raw)

    def _weight(self, name: str, shape: tuple[int, ...], fan_in: int | None = None) -> None:
        size = math.prod(shape)
        fan_in = fan_in or size // shape[0]
        if self._random is not None:
            values = self._random.standard_normal(size, dtype=np.float32)
            values *= np.float32(math.sqrt(2.0 / fan_in))
            raw = values.astype("<f4", copy=False).tobytes()
            self._initializers.add(name=name, data_type=_FLOAT, dims=shape, raw_data=raw)
        elif size <= LARGEST_STORED:
            raw = templates.filled(size, 1.0 / fan_in)
            self._initializers.add(name=name, data_type=_FLOAT, dims=shape, raw_data=raw)
        else:
            self._node(templates.fill(1.0 / fan_in), name, [self.integers(shape)])
