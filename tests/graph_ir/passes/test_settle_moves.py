"""Chains of moves: what they compute is kept, and every spelling comes to the same graph."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from aiop.graph_ir import ComputeGraph, read_onnx
from aiop.graph_ir.graph import Operation
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.graph_ir.passes.remove_dead import remove_dead
from aiop.graph_ir.passes.settle_moves import settle_moves

Array = npt.NDArray[np.float32]


class _Chain:
    """A random network of moves and element-wise operations on one input."""

    def __init__(self, seed: int, length: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shape = tuple(int(self.random.choice([1, 2, 3, 4, 6])) for _ in range(4))
        self.tensors: list[tuple[str, tuple[int, ...]]] = [("x", self.shape)]
        steps = [
            self.reshape, self.transpose, self.cut, self.split, self.gather, self.expand, self.tile, self.relu,
            self.softmax, self.add, self.concat, self.transpose, self.reshape,
        ]  # fmt: skip
        for _ in range(length):
            steps[int(self.random.integers(len(steps)))]()

    def model(self) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        name, shape = self.tensors[-1]
        self.nodes.append(helper.make_node("Identity", [name], ["y"]))
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "moves", [x], [y], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)

    def pick(self) -> tuple[str, tuple[int, ...]]:
        recent = self.tensors[-3:]
        return recent[int(self.random.integers(len(recent)))]

    def constant(self, value: object) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, np.int64), name))
        return name

    def node(self, op: str, inputs: list[str], shape: tuple[int, ...], **attributes: object) -> None:
        name = f"t{len(self.tensors)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.tensors.append((name, shape))

    def reshape(self) -> None:
        key, shape = self.pick()
        left, target = math.prod(shape), []
        while left > 1 and len(target) < 4:
            sizes = [size for size in range(1, left + 1) if left % size == 0]
            target.append(int(self.random.choice(sizes)))
            left //= target[-1]
        target.append(left)
        self.node("Reshape", [key, self.constant(target)], tuple(target))

    def transpose(self) -> None:
        key, shape = self.pick()
        order = self.random.permutation(len(shape)).tolist()
        self.node("Transpose", [key], tuple(shape[axis] for axis in order), perm=order)

    def cut(self) -> None:
        key, shape = self.pick()
        axis = int(self.random.integers(len(shape)))
        start, end = sorted(self.random.integers(0, shape[axis] + 1, 2).tolist())
        step = int(self.random.choice([1, 1, 2, -1]))
        if step < 0:
            start, end = end, start
        if not (taken := range(shape[axis])[start:end:step]):
            return
        size = (*shape[:axis], len(taken), *shape[axis + 1 :])
        limits = [self.constant([number]) for number in (start, end, axis, step)]
        self.node("Slice", [key, *limits], size)

    def split(self) -> None:
        key, shape = self.pick()
        axis = int(self.random.integers(len(shape)))
        if shape[axis] % 2:
            return
        name = f"t{len(self.tensors)}"
        self.nodes.append(helper.make_node("Split", [key], [f"{name}a", name], axis=axis, num_outputs=2))
        self.tensors.append((name, (*shape[:axis], shape[axis] // 2, *shape[axis + 1 :])))

    def gather(self) -> None:
        key, shape = self.pick()
        axis = int(self.random.integers(len(shape)))
        index = int(self.random.integers(-shape[axis], shape[axis]))
        if self.random.random() < 0.5:
            self.node("Gather", [key, self.constant(index)], shape[:axis] + shape[axis + 1 :], axis=axis)
        elif shape[axis] <= 64:  # longer lists of indices are kept as a digest
            order = self.random.permutation(shape[axis]).tolist()
            self.node("Gather", [key, self.constant(order)], shape, axis=axis)

    def expand(self) -> None:
        key, shape = self.pick()
        if math.prod(shape) < 300:
            self.node("Expand", [key, self.constant([2, *[1] * len(shape)])], (2, *shape))

    def tile(self) -> None:
        key, shape = self.pick()
        if math.prod(shape) < 300 and shape:
            axis = int(self.random.integers(len(shape)))
            repeats = [3 if at == axis else 1 for at in range(len(shape))]
            size = tuple(extent * count for extent, count in zip(shape, repeats, strict=True))
            self.node("Tile", [key, self.constant(repeats)], size)

    def relu(self) -> None:
        key, shape = self.pick()
        self.node("Relu", [key], shape)

    def softmax(self) -> None:
        key, shape = self.pick()
        if shape:
            self.node("Softmax", [key], shape, axis=int(self.random.integers(len(shape))))

    def add(self) -> None:
        (one, shape), (other, size) = self.pick(), self.pick()
        if shape == size:
            self.node("Add", [one, other], shape)

    def concat(self) -> None:
        (one, shape), (other, size) = self.pick(), self.pick()
        if shape and shape[1:] == size[1:] and len(shape) == len(size) and math.prod(shape) < 600:
            self.node("Concat", [one, other], (shape[0] + size[0], *shape[1:]), axis=0)


def _compute(graph: ComputeGraph, x: Array) -> Array:
    """Run a settled graph on flattened tensors: what its attributes say is all there is."""
    found: dict[str, Array] = {}
    for operation in graph.operations:
        if operation.op == "Input":
            found[operation.outputs[0]] = x.reshape(-1)
            continue
        inputs = [found[key] for key in operation.inputs]
        found[operation.outputs[0]] = _RUN[operation.op](operation, dict(operation.attributes), *inputs)
    return found[graph.outputs[0]]


def _slice(operation: Operation, given: dict, x: Array) -> Array:
    places = np.asarray(given["offset"])
    for extent, stride in given["digits"]:
        places = places[..., None] + np.arange(extent) * stride
    return x[places.reshape(-1)]


def _expand(operation: Operation, given: dict, x: Array) -> Array:
    shape = [extent for extent, _ in given["repeats"]]
    own = [1 if repeats else extent for extent, repeats in given["repeats"]]
    return np.broadcast_to(x.reshape(own), shape).reshape(-1)


def _softmax(operation: Operation, given: dict, x: Array) -> Array:
    x = np.exp(x.reshape(-1, given["along"], given["within"]))
    return (x / x.sum(axis=1, keepdims=True)).reshape(-1)


def _concat(operation: Operation, given: dict, *x: Array) -> Array:
    parts = [each.reshape(-1, part) for each, part in zip(x, given["parts"], strict=True)]
    return np.concatenate(parts, axis=1).reshape(-1)


def _gather(operation: Operation, given: dict, x: Array) -> Array:
    x = x.reshape(-1, given["along"], given["within"])
    return x[:, list(given["indices"])].reshape(-1)


_RUN: dict[str, Callable[..., Array]] = {
    "Slice": _slice,
    "Transpose": lambda o, given, x: x.reshape(given["shape"]).transpose(given["perm"]).reshape(-1),
    "SpaceToDepth": lambda o, given, x: x.reshape(given["shape"]).transpose(given["perm"]).reshape(-1),
    "DepthToSpace": lambda o, given, x: x.reshape(given["shape"]).transpose(given["perm"]).reshape(-1),
    "Expand": _expand,
    "Relu": lambda o, given, x: np.maximum(x, 0),
    "Softmax": _softmax,
    "Concat": _concat,
    "Gather": _gather,
    "Add": lambda o, given, one, other: one + other,
}


@pytest.mark.parametrize("seed", range(150))
def test_settled_moves_compute_what_the_file_computes(seed: int) -> None:
    model = _Chain(seed, length=14).model()
    onnx.checker.check_model(model)
    graph = read_onnx(model)
    x = np.random.default_rng(seed).standard_normal(graph.tensors["x"].shape).astype(np.float32)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    for _ in range(4):  # what one round drops can bring others together
        result = settle_moves(graph)
        graph = remove_dead(result.graph).graph
        np.testing.assert_allclose(_compute(graph, x), np.reshape(expected, -1), rtol=1e-5, atol=1e-6)
    assert not result.changed
    moves = ("Reshape", "Split", "Squeeze", "Identity")
    assert not any(operation.op in moves for operation in graph.operations)


FLOW = "(float[1,6,8,8] x) => (float y)"
NUMBERS = {
    "n0": [0], "n1": [1], "n2": [2], "n3": [3], "n6": [6], "n8": [8], "n16": [16], "far": [1 << 62], "last": [-1],
    "i0": 0, "i1": 1, "i2": 2, "back": -3, "halves": [3, 3], "two": [1, 2, 3, 8, 8], "all": [0, 1, 2],
    "image": [1, 6, 8, 8], "flat": [1, 6, 64], "rows": [1, 64, 6], "zeros": [0] * 8, "ones4": [1, 1, 1, 1],
    "deep": [1, 6, 4, 2, 4, 2], "blocks": [1, 24, 4, 4], "axes23": [2, 3], "s00": [0, 0], "s22": [2, 2], "e88": [8, 8],
    "thrice": [1, 3, 8, 8], "wide": [1, 1, 2, 1, 1], "doubled": [1, 6, 2, 8, 8], "thirds": [2, 2, 2],
}  # fmt: skip


@pytest.fixture
def digest(graph: Callable[..., ComputeGraph]) -> Callable[..., str]:
    def of(text: str, opset: int = 18) -> str:
        words = set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())
        constants = {key: np.asarray(value, np.int64) for key, value in NUMBERS.items() if key in words}
        before = graph(f"{FLOW} {{ {text} }}", opset, **constants)
        found = canonicalise(before)
        assert (found.macs, found.params) == (before.macs, before.params)
        assert canonicalise(found) == found
        return content_hash(found)

    return of


SAME = {
    "the second half": [
        "a = Slice(x, n3, n6, n1) y = Relu(a)",
        "a = Slice(x, n3, far, n1, n1) y = Relu(a)",
        "a = Slice(x, back, far, n1) y = Relu(a)",
        "b, a = Split<axis=1>(x, halves) y = Relu(a)",
        "b, a = Split<axis=1, num_outputs=2>(x) y = Relu(a)",
        "r = Reshape(x, two) a = Gather<axis=1>(r, i1) y = Relu(a)",
    ],
    "channels last": [
        "t = Transpose<perm=[0,2,3,1]>(x) y = Relu(t)",
        "r = Reshape(x, flat) t = Transpose<perm=[0,2,1]>(r) y = Relu(t)",
        "u = Transpose<perm=[0,1,3,2]>(x) t = Transpose<perm=[0,3,2,1]>(u) y = Relu(t)",
        "s = Squeeze(x, n0) t = Transpose<perm=[1,2,0]>(s) y = Relu(t)",
    ],
    "nothing": [
        "y = Relu(x)",
        "a = Slice(x, n0, far, n2) y = Relu(a)",
        "a = Pad(x, zeros) y = Relu(a)",
        "a = Transpose<perm=[0,1,2,3]>(x) y = Relu(a)",
        "a = Transpose<perm=[0,2,3,1]>(x) b = Relu(a) y = Transpose<perm=[0,3,1,2]>(b)",
        "a = Expand(x, ones4) y = Relu(a)",
        "a = Tile(x, ones4) y = Relu(a)",
        "a = Concat<axis=1>(x) y = Relu(a)",
        "a = Split<axis=1>(x, n6) y = Relu(a)",
        "a = Gather<axis=1>(x, every) y = Relu(a)",
    ],
    "blocks to channels": [
        "a = SpaceToDepth<blocksize=2>(x) y = Relu(a)",
        "r = Reshape(x, deep) t = Transpose<perm=[0,3,5,1,2,4]>(r) a = Reshape(t, blocks) y = Relu(a)",
    ],
    "repeated": [
        "u = Unsqueeze(x, n2) e = Expand(u, doubled) y = Relu(e)",
        "u = Unsqueeze(x, n2) e = Tile(u, wide) y = Relu(e)",
    ],
    "softmax over channels": [
        "y = Softmax<axis=1>(x)",
        "y = Softmax<axis=-3>(x)",
        "t = Transpose<perm=[0,2,3,1]>(x) s = Softmax<axis=-1>(t) y = Transpose<perm=[0,3,1,2]>(s)",
    ],
    "joined thrice": [
        "a, b, c = Split<axis=1>(x, thirds) r = Relu(a) s = Sigmoid(b) t = Tanh(c) y = Concat<axis=1>(r, s, t)",
        "a, b, c = Split<axis=1>(x, thirds) r = Relu(a) s = Sigmoid(b) t = Tanh(c) u = Concat<axis=1>(r, s) "
        "y = Concat<axis=1>(u, t)",
    ],
}
NUMBERS["every"] = [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("what", SAME)
def test_every_spelling_is_one_network(digest, what: str) -> None:
    first, *others = SAME[what]
    for text in others:
        assert digest(text) == digest(first), text


def test_other_moves_are_other_networks(digest) -> None:
    texts = [
        *(spellings[0] for spellings in SAME.values()),
        "a = Slice(x, n0, n3, n1) y = Relu(a)",
        "a = Slice(x, n1, n3, n1) y = Relu(a)",
        "a = Slice(x, n2, n3, n1) y = Relu(a)",
        "a = Slice(x, n0, n6, n1, n2) y = Relu(a)",
        "a = Slice(x, n1, n6, n1, n2) y = Relu(a)",
        "a = Slice(x, last, back, n1, last) y = Relu(a)",
        "a = Gather<axis=1>(x, all) y = Relu(a)",
        "t = Transpose<perm=[0,3,1,2]>(x) y = Relu(t)",
        "t = Transpose<perm=[0,1,3,2]>(x) y = Relu(t)",
        "a = DepthToSpace<blocksize=1>(x) y = Sigmoid(a)",
        "y = Softmax<axis=2>(x)",
        "a, b = Split<axis=1>(x, halves) y = Concat<axis=1>(b, a)",
        "a, b = Split<axis=1>(x, halves) y = Concat<axis=2>(b, a)",
        "a, b = Split<axis=1>(x, halves) y = Concat<axis=2>(a, b)",
    ]
    kept = [text for text in texts if text != "a = Slice(x, n0, n3, n1) y = Relu(a)"]
    found = [digest(text) for text in kept]
    # of the first three channels, picked one by one or cut
    assert digest("a = Slice(x, n0, n3, n1) y = Relu(a)") == digest("a = Gather<axis=1>(x, all) y = Relu(a)")
    assert len(set(found)) == len(found)
