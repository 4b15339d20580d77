"""A graph of an AIO-P or GENNAPE cache -> `ComputeGraph`: their 26 operations in this package's vocabulary, with costs.

Tensors are written channels first, as the ONNX file of the same network would have them, so that both come to one
canonical form. Costs follow from the sizes of the nodes.
"""

from __future__ import annotations

from math import prod
from typing import Any

from aiop.graph_ir.elementwise import element_operations
from aiop.graph_ir.graph import ComputeGraph, Operation, TensorSpec
from aiop.graph_ir.importers.gennape_nodes import CacheNode, GraphError, read_nodes
from aiop.graph_ir.importers.pickle_reader import Record
from aiop.graph_ir.values import Node, Tensor

__all__ = ["to_graph"]

LARGEST_TENSOR = 1 << 40

_SIXTH = 0.1667  # 1/6, as precise as attributes are kept

# Kind -> canonical operator, ONNX operator, of what needs neither weights nor a window.
_PLAIN = {
    "relu": ("Relu", "Relu"),
    "relu6": ("Clip", "Clip"),
    "sigmoid": ("Sigmoid", "Sigmoid"),
    "tanh": ("Tanh", "Tanh"),
    "swish": ("SiLU", "Swish"),
    "gelu": ("Gelu", "Gelu"),
    "add": ("Add", "Add"),
    "mul": ("Mul", "Mul"),
    "concat": ("Concat", "Concat"),
    "padding": ("Pad", "Pad"),
    "spacetodepth": ("SpaceToDepth", "SpaceToDepth"),
    "depthtospace": ("DepthToSpace", "DepthToSpace"),
    "spacetobatch": ("SpaceToDepth", "SpaceToDepth"),
    "batchtospace": ("DepthToSpace", "DepthToSpace"),
    "resizebilinear": ("Resize", "Resize"),
    "zero": ("Mul", "Mul"),
}
_JOINS = frozenset({"add", "mul", "concat"})
_KEEPS_RANK = frozenset(
    {"relu", "relu6", "sigmoid", "tanh", "swish", "gelu", "add", "mul", "zero", "batchnorm", ""}
)


def to_graph(record: Record, name: str) -> ComputeGraph:
    """Return the graph of a cache's record; ``name`` is its name where it has none of its own.

    Raises:
        GraphError: The record describes no graph that could be.
    """
    nodes = read_nodes(record)
    own = (record.state or {}).get("name")
    return _Builder(nodes).build(own if isinstance(own, str) and own else name)


class _Builder:
    def __init__(self, nodes: list[CacheNode]) -> None:
        self.nodes = nodes
        self.users: list[list[CacheNode]] = [[] for _ in nodes]
        for node in nodes:
            for source in node.inputs:
                self.users[source].append(node)
        self.values: list[str] = []  # the tensor of every node, in their order
        self.operations: list[Operation] = []
        self.tensors: dict[str, TensorSpec] = {}
        self.specs: dict[tuple[int, ...], TensorSpec] = {}
        self.notes: list[str] = []
        self.taken = {node.name for node in nodes}

    def build(self, name: str) -> ComputeGraph:
        outputs: dict[str, None] = {}
        for index, node in enumerate(self.nodes):
            value = self._convert(node, [self.values[source] for source in node.inputs], self.users[index])
            self.values.append(value)
            if not self.users[index]:
                outputs[value] = None
        return ComputeGraph(
            name=name,
            operations=self.operations,
            tensors=self.tensors,
            inputs=tuple(operation.outputs[0] for operation in self.operations if operation.op == "Input"),
            outputs=tuple(outputs),
            notes=tuple(dict.fromkeys(self.notes)),
            producer="AIO-P cache",
        )

    def _convert(self, node: CacheNode, inputs: list[str], users: list[CacheNode]) -> str:
        """Append the operations of a node, and return the tensor it stands for."""
        kind = node.kind
        if not inputs:
            return self._emit(node, "Input", "Input", ())
        if len(set(inputs)) > 1 and kind not in _JOINS and (kind != "matmul" or any(node.weight)):
            # Operations unknown to their authors were left out and their inputs passed on: what then meets adds up.
            height, width, channels = node.size_in
            name = self._free(f"{node.name}/sum")
            inputs = [self._add(name, "Add", "Add", tuple(inputs), (1, channels, height, width))]
        if kind in ("input", "output") or (kind in _JOINS and len(inputs) == 1):
            return inputs[0]
        if kind == "identity":
            if node.size_in == node.size_out:
                return inputs[0]
            op = "Resize" if node.size_in[:2] != node.size_out[:2] else "Slice"
            return self._emit(node, op, op, inputs)
        if kind in ("conv", "depthwise"):
            return self._convolution(node, inputs)
        if kind == "matmul":
            return self._product(node, inputs)
        if kind == "batchnorm":
            channels = node.size_out[2]
            norm = {"weights": (self._spec((channels,)),) * 2, "params": 2 * channels}
            return self._emit(node, "BatchNorm", "BatchNormalization", inputs, **norm)
        if kind in ("maxpool", "avgpool"):
            return self._pool(node, inputs)
        if kind in ("mean", "global"):
            if node.size_out[:2] == (1, 1):
                return self._emit(node, "GlobalAvgPool", "GlobalAveragePool", inputs)
            return self._emit(node, "ReduceMean", "ReduceMean", inputs)
        return self._plain(node, inputs, users)

    def _plain(self, node: CacheNode, inputs: list[str], users: list[CacheNode]) -> str:
        kind = node.kind
        if kind not in _PLAIN:
            self.notes.append(f"operator {node.label!r} is unknown: it counts 0 MACs")
            return self._emit(node, "Unknown", node.label, inputs)
        op, onnx_type = _PLAIN[kind]
        if kind == "relu6" and users and all(user.kind == "mul" and len(user.inputs) > 1 for user in users):
            # relu6(x + 3) / 6: the constants are not in the graph, but only a gate is read by products alone.
            op, onnx_type = "HardSigmoid", "HardSigmoid"
        more: dict[str, Any] = {}
        if op == "HardSigmoid":
            more["attributes"] = (("alpha", _SIXTH),)
        elif op == "Clip":
            more["scalars"] = (0.0, 6.0)
        elif kind == "concat":
            parts = tuple(self.tensors[key].shape[1] for key in inputs)
            more["attributes"] = (("axis", 1), ("parts", parts))
        elif kind == "zero":
            more["scalars"] = (0.0,)
        elif op in ("SpaceToDepth", "DepthToSpace"):
            small, large = sorted((node.size_in[0], node.size_out[0]))
            more["attributes"] = (("blocksize", max(1, large // small)),)
            if kind in ("spacetobatch", "batchtospace"):
                self.notes.append(
                    "space-to-batch without a convolution of its own: what follows counts one of its tiles"
                )
        return self._emit(node, op, onnx_type, inputs, **more)

    # -- operations with weights or windows

    def _convolution(self, node: CacheNode, inputs: list[str]) -> str:
        (height, width, channels_in), (rows, columns, channels) = node.size_in, node.size_out
        taps = prod(node.kernel)
        if taps < 1:
            raise GraphError(f"convolution {node.name[:80]!r} has no kernel size")
        stride = node.stride or (1, 1)
        groups, transposed = 1, node.kind == "conv" and "transpose" in node.label.lower()
        if node.kind == "depthwise":
            groups = channels_in
        elif not transposed and 0 < node.weight[0] < channels_in and channels_in % node.weight[0] == 0:
            groups = channels_in // node.weight[0]
        if channels % groups:
            raise GraphError(f"convolution {node.name[:80]!r} has {channels} outputs in {groups} groups")
        if transposed:
            op, shape = "ConvTranspose", (channels_in, channels, *node.kernel)
            macs = height * width * channels_in * channels * taps
            padding = _padding(node, node.size_out, node.size_in, stride)
        else:
            op = "DepthwiseConv" if 1 < groups == channels_in else "Conv"
            shape = (channels, channels_in // groups, *node.kernel)
            macs = rows * columns * prod(shape)
            padding = _padding(node, node.size_in, node.size_out, stride)
        weights = (self._spec(shape), *([self._spec((channels,))] if node.bias else []))
        return self._emit(
            node, op, "ConvTranspose" if transposed else "Conv", inputs, kernel=node.kernel, stride=stride,
            dilation=node.dilation, padding=padding, groups=groups, bias=node.bias, weights=weights, macs=macs,
            params=sum(weight.elements for weight in weights),
        )  # fmt: skip

    def _product(self, node: CacheNode, inputs: list[str]) -> str:
        (height, width, channels_in), (rows, columns, channels) = node.size_in, node.size_out
        if len(inputs) > 1:
            return self._emit(node, "MatMul", "MatMul", inputs, macs=rows * columns * channels * channels_in)
        flat = (height, width) == (1, 1)
        if flat and len(self.tensors[inputs[0]].shape) > 2:
            name = self._free(f"{node.name}/flatten")
            inputs = [self._add(name, "Reshape", "Flatten", tuple(inputs), (1, channels_in))]
        weights = (self._spec((channels, channels_in)), *([self._spec((channels,))] if node.bias else []))
        return self._emit(
            node, "Linear", "Gemm" if flat else "MatMul", inputs, bias=node.bias, weights=weights,
            macs=height * width * channels_in * channels, params=sum(weight.elements for weight in weights),
        )  # fmt: skip

    def _pool(self, node: CacheNode, inputs: list[str]) -> str:
        size_in, size_out = node.size_in[:2], node.size_out[:2]
        stride = node.stride or (-(-size_in[0] // size_out[0]), -(-size_in[1] // size_out[1]))
        kernel = node.kernel if all(node.kernel) else size_in if size_out == (1, 1) else stride
        padding = _padding(node, node.size_in, node.size_out, stride, kernel)
        if node.kind == "avgpool" and kernel == size_in and not any(padding):
            return self._emit(node, "GlobalAvgPool", "GlobalAveragePool", inputs)
        op, onnx_type = ("MaxPool", "MaxPool") if node.kind == "maxpool" else ("AvgPool", "AveragePool")
        return self._emit(
            node, op, onnx_type, inputs, kernel=kernel, stride=stride, dilation=(1, 1), padding=padding
        )

    # -- bookkeeping

    def _spec(self, shape: tuple[int, ...]) -> TensorSpec:
        """Return the specification of a tensor; few differ, so they are shared."""
        return self.specs.get(shape) or self.specs.setdefault(shape, TensorSpec(shape))

    def _free(self, name: str) -> str:
        """Return a name that no node has."""
        while name in self.taken:
            name += "'"
        self.taken.add(name)
        return name

    def _emit(
        self, node: CacheNode, op: str, onnx_type: str, inputs: list[str] | tuple[()], **more: Any
    ) -> str:
        height, width, channels = node.size_out
        shape: tuple[int, ...] = (1, channels, height, width)
        if (height, width) == (1, 1) and (
            node.kind == "matmul"
            or (node.kind in _KEEPS_RANK and all(len(self.tensors[key].shape) == 2 for key in inputs))
        ):
            shape = (1, channels)
        return self._add(node.name, op, onnx_type, tuple(inputs), shape, **more)

    def _add(
        self, name: str, op: str, onnx_type: str, inputs: tuple[str, ...], shape: tuple[int, ...], **more: Any
    ) -> str:
        elements = prod(shape)
        if elements > LARGEST_TENSOR:
            raise GraphError(f"node {name[:80]!r} would give a tensor of shape {list(shape)}")
        self.tensors[name] = self._spec(shape)
        operation = Operation(name, op, onnx_type, inputs, (name,), output_elements=elements, **more)
        operation.elementwise = self._element_operations(operation, shape)
        self.operations.append(operation)
        return name

    def _element_operations(self, operation: Operation, shape: tuple[int, ...]) -> int:
        """Return what is counted of the same operation in a file."""
        read = [Tensor(key, self.tensors[key].shape, "float32") for key in operation.inputs]
        trained = [None] * len(operation.weights)
        node = Node(
            operation.name, operation.onnx_type, "", dict(operation.attributes), [*read, *trained], 1, 17
        )
        return element_operations(operation, node, [Tensor(operation.name, shape, "float32")])


def _padding(
    node: CacheNode,
    wide: tuple[int, int, int],
    narrow: tuple[int, int, int],
    stride: tuple[int, int],
    kernel: tuple[int, int] | None = None,
) -> tuple[int, int, int, int]:
    """Return begins, then ends, of the padding with which a window over ``wide`` gives ``narrow`` positions."""
    if not node.same:
        return 0, 0, 0, 0
    kernel = kernel or node.kernel
    total = [
        max(0, (narrow[axis] - 1) * stride[axis] + (kernel[axis] - 1) * node.dilation[axis] + 1 - wide[axis])
        for axis in range(2)
    ]
    return total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2
