"""See that the content hash tells networks apart: change one thing in a real network, and the hash has to change.

The counterpart of `benchmarks.invariance`: passes that bring the files of one network together must not bring
different networks together. Every edit keeps the file readable and makes another network of it, one that no choice of
weights turns back into the first. Where the hash stays, onnxruntime says whether the edit changed any output at all.

    python -m benchmarks.sensitivity [--cache FOLDER] [--networks GLOB] [--edits 2] [--seed 0]

prints, per kind of edit, how many networks it made and the share that hashes differently, then those that do not.
"""

from __future__ import annotations

import argparse
import random
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from benchmarks.architectures import NETWORKS, library
from benchmarks.exports import REFERENCE, default_cache

_ACTIVATIONS = (
    "Relu",
    "Sigmoid",
    "Tanh",
    "Erf",
    "HardSigmoid",
    "HardSwish",
    "Softplus",
    "Elu",
    "LeakyRelu",
    "Clip",
)


@dataclass
class Scene:
    """A network to edit in place, with the shapes of its activations and the position of what makes them."""

    network: onnx.ModelProto
    shapes: dict[str, tuple[int, ...]]
    chance: random.Random

    def __post_init__(self) -> None:
        graph = self.network.graph
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.made = {name: at for at, node in enumerate(graph.node) for name in node.output}
        self.constants = {node.output[0]: node for node in graph.node if node.op_type == "Constant"}

    def numbers(self, name: str) -> list[int] | None:
        """Return a constant list of whole numbers."""
        if name in self.constants:
            return numpy_helper.to_array(self.constants[name].attribute[0].t).reshape(-1).tolist()
        if name in self.weights and self.weights[name].data_type == onnx.TensorProto.INT64:
            return numpy_helper.to_array(self.weights[name]).reshape(-1).tolist()
        return None

    def constant(self, values: list[int]) -> str:
        """Add a constant and return its name."""
        name = f"edited_{len(self.network.graph.initializer)}"
        self.network.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name


Edit = Callable[[onnx.NodeProto, Scene], bool]
"""Changes a node where it can, and returns whether it did."""


def _ints(node: onnx.NodeProto, name: str) -> list[int]:
    return next((list(attribute.ints) for attribute in node.attribute if attribute.name == name), [])


def _set_ints(node: onnx.NodeProto, name: str, values: list[int]) -> None:
    for attribute in list(node.attribute):
        if attribute.name == name:
            node.attribute.remove(attribute)
    node.attribute.append(onnx.helper.make_attribute(name, values))


def _window(node: onnx.NodeProto, kinds: tuple[str, ...]) -> list[int]:
    """Return the kernel of a windowed node where it can grow, else nothing."""
    kernel = _ints(node, "kernel_shape")
    return kernel if node.op_type in kinds and kernel and min(kernel) > 1 and _ints(node, "pads") else []


def _pad(node: onnx.NodeProto, kernel: list[int]) -> None:
    """Pad a node further by what one more step of its dilation, or one more ring of its kernel, needs."""
    further = [(size - 1) // 2 for size in kernel] * 2
    _set_ints(node, "pads", [pad + more for pad, more in zip(_ints(node, "pads"), further, strict=True)])


def kernel(node: onnx.NodeProto, scene: Scene) -> bool:
    """Make a convolution's kernel larger by two."""
    size = _window(node, ("Conv",))
    weight = scene.weights.get(node.input[1]) if size else None
    if weight is None or set(_ints(node, "dilations")) != {1}:
        return False
    grown = onnx.TensorProto(name=f"{weight.name}_grown", data_type=weight.data_type)
    grown.dims.extend([*weight.dims[:2], *(extent + 2 for extent in size)])
    grown.data_location = onnx.TensorProto.EXTERNAL
    scene.network.graph.initializer.append(grown)
    node.input[1] = grown.name
    _set_ints(node, "kernel_shape", [extent + 2 for extent in size])
    _set_ints(node, "pads", [pad + 1 for pad in _ints(node, "pads")])
    return True


def dilation(node: onnx.NodeProto, scene: Scene) -> bool:
    """Dilate a convolution, its output as large as before."""
    size = _window(node, ("Conv",))
    if not size or set(_ints(node, "dilations")) != {1} or any(extent % 2 == 0 for extent in size):
        return False
    _set_ints(node, "dilations", [2] * len(size))
    _pad(node, size)
    return True


def pool(node: onnx.NodeProto, scene: Scene) -> bool:
    """Take the mean where a pool took the largest, or the other way round."""
    if node.op_type not in ("MaxPool", "AveragePool"):
        return False
    node.op_type = "AveragePool" if node.op_type == "MaxPool" else "MaxPool"
    for attribute in list(node.attribute):
        if attribute.name in ("count_include_pad", "storage_order", "dilations"):
            node.attribute.remove(attribute)
    return True


def activation(node: onnx.NodeProto, scene: Scene) -> bool:
    """Compute another function of every element."""
    if node.op_type not in _ACTIVATIONS:
        return False
    node.op_type = "Softsign" if node.op_type == "Tanh" else "Tanh"
    del node.input[1:], node.attribute[:]
    return True


def softmax(node: onnx.NodeProto, scene: Scene) -> bool:
    """Normalise along another axis."""
    shape = scene.shapes.get(node.output[0], ())
    if node.op_type != "Softmax" or len(shape) < 2 or min(shape[-2:]) < 2:
        return False
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), -1)
    _replace(node, "axis", len(shape) - 2 if axis % len(shape) == len(shape) - 1 else len(shape) - 1)
    return True


def _replace(node: onnx.NodeProto, name: str, value: int) -> None:
    for attribute in list(node.attribute):
        if attribute.name == name:
            node.attribute.remove(attribute)
    node.attribute.append(onnx.helper.make_attribute(name, value))


def edge(node: onnx.NodeProto, scene: Scene) -> bool:
    """Feed a node from another tensor of the same shape, computed earlier."""
    if node.op_type not in ("Conv", "Add", "Mul", "Concat", "MatMul", "Gemm"):
        return False
    place = scene.chance.randrange(len(node.input))
    shape, at = scene.shapes.get(node.input[place]), scene.made.get(node.output[0], 0)
    if shape is None:
        return False
    graph = scene.network.graph.node
    before = graph[scene.made[node.input[place]]].input if node.input[place] in scene.made else ()
    others = [
        name
        for name, extents in scene.shapes.items()
        if extents == shape
        and name not in node.input
        and name not in before  # a product without its bias is a choice of weights
        and scene.made.get(name, at) < at
        # what only renames or rectifies its input again would change nothing
        and graph[scene.made[name]].op_type in ("Conv", "Add", "MatMul", "Gemm")
        and node.op_type != graph[scene.made[name]].op_type
    ]
    if not others:
        return False
    node.input[place] = scene.chance.choice(others)
    return True


def residual(node: onnx.NodeProto, scene: Scene) -> bool:
    """Leave out one of two activations that are added or multiplied."""
    shapes = [scene.shapes.get(name) for name in node.input]
    if node.op_type not in ("Add", "Mul") or None in shapes:
        return False
    target = scene.shapes.get(node.output[0])
    if shapes[0] != target or shapes[1] != target or node.input[0] == node.input[1]:
        return False
    return _bypass(node, scene, node.input[scene.chance.randrange(2)])


def without(node: onnx.NodeProto, scene: Scene) -> bool:
    """Leave out an activation function or a softmax."""
    if node.op_type not in ("Relu", "Sigmoid", "Tanh", "Softmax", "HardSwish", "HardSigmoid"):
        return False
    return _bypass(node, scene, node.input[0])


def _bypass(node: onnx.NodeProto, scene: Scene, source: str) -> bool:
    result = node.output[0]
    if result in {value.name for value in scene.network.graph.output}:
        return False
    for other in scene.network.graph.node:
        other.input[:] = [source if name == result else name for name in other.input]
    return True


def transposition(node: onnx.NodeProto, scene: Scene) -> bool:
    """Swap two equal axes longer than one in the result of a Transpose."""
    shape, order = scene.shapes.get(node.output[0], ()), _ints(node, "perm")
    if node.op_type != "Transpose" or len(order) != len(shape):
        return False
    # (batch, positions, 3, heads, channels): the last three are one product's channels, and exchanging them is a choice
    # of its weights
    inner = {axis for axis in range(5) if order[axis] >= 2} if len(shape) == 5 else set()
    pairs = [
        (a, b)
        for a in range(len(shape))
        for b in range(a)
        if shape[a] == shape[b] > 1 and not {a, b} <= inner
    ]
    if not pairs:
        return False
    first, second = scene.chance.choice(pairs)
    order[first], order[second] = order[second], order[first]
    _set_ints(node, "perm", order)
    return True


def window(node: onnx.NodeProto, scene: Scene) -> bool:
    """Take a Slice that lies one element further along an axis of positions."""
    if node.op_type != "Slice" or len(node.input) < 4:
        return False
    starts, ends, axes = (scene.numbers(name) for name in node.input[1:4])
    shape, result = scene.shapes.get(node.input[0]), scene.shapes.get(node.output[0])
    if not starts or not ends or not axes or shape is None or result is None or len(starts) != 1:
        return False
    axis, steps = axes[0], scene.numbers(node.input[4]) if len(node.input) > 4 else [1]
    if steps != [1] or starts[0] < 0 or starts[0] + 1 + result[axis] > shape[axis]:
        return False
    node.input[1], node.input[2] = (
        scene.constant([starts[0] + 1]),
        scene.constant([starts[0] + 1 + result[axis]]),
    )
    return True


def regroup(node: onnx.NodeProto, scene: Scene) -> bool:
    """Exchange two neighbouring axes in what a Reshape groups elements into: other windows, other heads."""
    sizes = scene.numbers(node.input[1]) if node.op_type == "Reshape" else None
    places = [at for at in range(len(sizes or ()) - 1) if sizes and 1 < sizes[at] != sizes[at + 1] > 1]
    if not sizes or not places:
        return False
    at = scene.chance.choice(places)
    sizes[at], sizes[at + 1] = sizes[at + 1], sizes[at]
    node.input[1] = scene.constant(sizes)
    return True


def resize(node: onnx.NodeProto, scene: Scene) -> bool:
    """Interpolate in another way."""
    if node.op_type != "Resize":
        return False
    for attribute in node.attribute:
        if attribute.name == "mode":
            attribute.s = b"linear" if attribute.s == b"nearest" else b"nearest"
            return True
    return False


EDITS: dict[str, Edit] = {
    each.__name__: each
    for each in (
        kernel, dilation, pool, activation, softmax, edge, residual, without, transposition, window,
        regroup, resize,
    )
}  # fmt: skip


def edited(data: bytes, shapes: dict[str, tuple[int, ...]], kind: str, seed: int) -> tuple[bytes, str] | None:
    """Return a network with one edit at a random node, and the node's name; nothing where none fits."""
    scene = Scene(onnx.load_from_string(data), shapes, random.Random(seed))
    nodes = list(scene.network.graph.node)
    scene.chance.shuffle(nodes)
    for node in nodes:
        if node.output and node.output[0] in shapes and EDITS[kind](node, scene):
            return scene.network.SerializeToString(), node.name
    return None


def same_outputs(one: bytes, other: bytes) -> bool:
    """Return whether two networks compute the same from the same input, with random values for weights."""
    ort = library("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    results = []
    for data in (one, other):
        network = onnx.load_from_string(data)
        constants = [node.attribute[0].t for node in network.graph.node if node.op_type == "Constant"]
        for tensor in (*network.graph.initializer, *constants):
            if tensor.data_location == onnx.TensorProto.EXTERNAL or _is_matrix(tensor):
                tensor.CopyFrom(_invented(tensor))
        session = ort.InferenceSession(
            network.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        image, noise = session.get_inputs()[0], np.random.default_rng(0)
        outputs = session.run(None, {image.name: noise.normal(size=image.shape).astype(np.float32)})
        results.append(np.concatenate([output.reshape(-1) for output in outputs]))
    return bool(np.abs(results[0] - results[1]).max() <= 1e-6 * np.abs(results[0]).max())


def _is_matrix(tensor: onnx.TensorProto) -> bool:
    return len(tensor.dims) > 1 and tensor.data_type == onnx.TensorProto.FLOAT


def _invented(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """Return a tensor of the same shape with values that its name decides, large enough to keep signals alive.

    Indices are 0, which is always one.
    """
    kind, shape = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type), tuple(tensor.dims)
    noise = np.random.default_rng(zlib.crc32(tensor.name.encode() + repr(shape).encode()))
    spread = (max(shape) / np.prod(shape)) ** 0.5 if len(shape) > 1 else 0.1
    values = noise.normal(0, spread, shape) if kind.kind == "f" else np.zeros(shape)
    return numpy_helper.from_array(values.astype(kind), tensor.name)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cache", type=Path, default=default_cache(), help="folder that benchmarks.exports filled"
    )
    parser.add_argument("--networks", default="*", help="glob of the networks to edit")
    parser.add_argument("--edits", type=int, default=2, help="edits of each kind per network")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    made, told, alike = Counter[str](), Counter[str](), []
    for network in NETWORKS:
        path = options.cache / network / f"{REFERENCE}.onnx"
        if not fnmatchcase(network, options.networks) or not path.exists():
            continue
        data, graph = path.read_bytes(), read_onnx(path)
        expected = content_hash(canonicalise(graph))
        shapes = {name: tensor.shape for name, tensor in graph.tensors.items()}
        for kind in EDITS:
            for turn in range(options.edits):
                result = edited(data, shapes, kind, options.seed + turn)
                if result is None:
                    break
                try:
                    other = content_hash(canonicalise(read_onnx(result[0])))
                except AiopError:  # an edit that does not fit the rest of the network
                    continue
                if other == expected and same_outputs(data, result[0]):
                    continue
                made[kind] += 1
                told[kind] += other != expected
                if other == expected:
                    alike.append(f"{network}: {kind} at {result[1]}")
    print("| edit | networks made | other hash |\n|---|---|---|")
    for kind in EDITS:
        if made[kind]:
            print(f"| {kind} | {made[kind]} | {100 * told[kind] / made[kind]:.1f}% |")
    print(f"| **all** | {made.total()} | {100 * told.total() / max(1, made.total()):.1f}% |\n")
    print("\n".join(alike))


if __name__ == "__main__":
    main()
