"""Write ``resnet18.onnx``: ResNet-18 (He et al., CVPR 2016) at 224 x 224, 1,000 classes, without weights.

A network's metrics are predicted from its graph, never from its weights, so each large weight is a constant
that a ``ConstantOfShape`` node fills: the file stays small, and every ONNX tool can check and run it.

    python examples/make_resnet.py [resnet18.onnx]
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
"""Channels and stride of the four stages; each has two blocks of two 3 x 3 convolutions."""


class ResNet18:
    """Collects the nodes and constants of the network."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, operator: str, name: str, inputs: list[str], **attributes: Any) -> str:
        """Append a node; return its output, which has its name."""
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, values: np.ndarray) -> str:
        """Store a small constant; return its name."""
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        """Append a weight whose values are all ``1 / fan_in``; return its name."""
        sizes = self.constant(f"{name}.shape", np.array(shape, np.int64))
        fill = helper.make_tensor("value", TensorProto.FLOAT, [1], [1 / math.prod(shape[1:])])
        return self.node("ConstantOfShape", name, [sizes], value=fill)

    def conv(self, x: str, name: str, channels: tuple[int, int], kernel: int, stride: int) -> str:
        """Convolution without bias, then batch normalisation."""
        weight = self.weight(f"{name}.weight", channels[1], channels[0], kernel, kernel)
        pads = [kernel // 2] * 4
        y = self.node(
            "Conv", name, [x, weight], kernel_shape=[kernel, kernel], strides=[stride, stride], pads=pads
        )
        values = {"scale": 1, "shift": 0, "mean": 0, "variance": 1}
        inputs = [
            self.constant(f"{name}.norm.{key}", np.full(channels[1], value, np.float32))
            for key, value in values.items()
        ]
        return self.node("BatchNormalization", f"{name}.norm", [y, *inputs])

    def block(self, x: str, name: str, channels: tuple[int, int], stride: int) -> str:
        """Two 3 x 3 convolutions beside the identity, or a 1 x 1 convolution where the shape changes."""
        y = self.node("Relu", f"{name}.relu1", [self.conv(x, f"{name}.conv1", channels, 3, stride)])
        y = self.conv(y, f"{name}.conv2", (channels[1], channels[1]), 3, 1)
        if stride != 1 or channels[0] != channels[1]:
            x = self.conv(x, f"{name}.downsample", channels, 1, stride)
        return self.node("Relu", f"{name}.relu2", [self.node("Add", f"{name}.add", [y, x])])

    def write(self) -> onnx.ModelProto:
        """Return the whole network."""
        x = self.node("Relu", "relu", [self.conv("image", "conv1", (3, 64), 7, 2)])
        x = self.node("MaxPool", "maxpool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        width = 64
        for stage, (channels, stride) in enumerate(STAGES, start=1):
            x = self.block(x, f"layer{stage}.0", (width, channels), stride)
            x = self.block(x, f"layer{stage}.1", (channels, channels), 1)
            width = channels
        x = self.node("Flatten", "flatten", [self.node("GlobalAveragePool", "avgpool", [x])])
        weight = self.weight("fc.weight", 1000, width)
        bias = self.constant("fc.bias", np.zeros(1000, np.float32))
        self.node("Gemm", "logits", [x, weight, bias], transB=1)
        graph = helper.make_graph(
            self.nodes,
            "resnet18",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 224, 224])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1000])],
            self.constants,
        )
        opset = helper.make_opsetid("", 17)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="aiop")


if __name__ == "__main__":
    network = ResNet18().write()
    onnx.checker.check_model(network, full_check=True)
    default = Path(__file__).with_name("resnet18.onnx")
    onnx.save(network, Path(sys.argv[1]) if len(sys.argv) > 1 else default)
