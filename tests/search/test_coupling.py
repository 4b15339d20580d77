"""Which channels go together, against networks small enough to work it out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from aiop.errors import AiopError
from aiop.search.editing.coupling import coupling, shrink
from aiop.search.editing.coupling.importance import ranked
from aiop.search.editing.network import EditableNetwork


class Net:
    """Builds a network of named nodes; every method returns the name of what its node makes."""

    def __init__(self, *shape: int) -> None:
        self.shape, self.nodes, self.weights = shape, list[onnx.NodeProto](), list[TensorProto]()
        self.rng = np.random.default_rng(0)

    def constant(self, name: str, values: object) -> str:
        array = np.asarray(values)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        return self.constant(name, self.rng.standard_normal(shape).astype(np.float32))

    def op(self, kind: str, name: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        names = [name] if outputs == 1 else [f"{name}.{place}" for place in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=name, **attributes))
        return name

    def conv(self, name: str, x: str, inputs: int, outputs: int, kernel: int = 1, groups: int = 1) -> str:
        weight = self.weight(f"{name}.w", outputs, inputs // groups, kernel, kernel)
        pads = [kernel // 2] * 4
        return self.op("Conv", name, x, weight, self.weight(f"{name}.b", outputs), group=groups, pads=pads)

    def norm(self, name: str, x: str, channels: int) -> str:
        parts = [self.weight(f"{name}.{part}", channels) for part in ("scale", "shift", "mean")]
        variance = self.constant(f"{name}.var", self.rng.uniform(0.5, 2, channels).astype(np.float32))
        return self.op("BatchNormalization", name, x, *parts, variance)

    def linear(self, name: str, x: str, inputs: int, outputs: int) -> str:
        return self.op("MatMul", name, x, self.weight(f"{name}.w", inputs, outputs))

    def reshape(self, name: str, x: str, *target: int) -> str:
        return self.op("Reshape", name, x, self.constant(f"{name}.to", np.array(target, np.int64)))

    def build(self, output: str, *shape: int, opset: int = 17) -> onnx.ModelProto:
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, self.shape)
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "net", [image], [result], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def chain() -> onnx.ModelProto:
    net = Net(1, 3, 8, 8)
    x = net.op("Relu", "r", net.norm("n", net.conv("a", "image", 3, 6, 3), 6))
    x = net.op("Flatten", "flat", net.op("MaxPool", "pool", x, kernel_shape=[4, 4], strides=[4, 4]))
    return net.build(
        net.op("Gemm", "head", x, net.weight("head.w", 5, 24), net.weight("head.b", 5), transB=1), 1, 5
    )


def residual() -> onnx.ModelProto:
    net = Net(1, 3, 8, 8)
    x = net.conv("stem", "image", 3, 4, 3)
    for name in ("one", "two"):
        y = net.op("Relu", f"{name}.r", net.conv(f"{name}.in", x, 4, 6, 3))
        x = net.op("Add", f"{name}.add", x, net.norm(f"{name}.n", net.conv(f"{name}.out", y, 6, 4, 3), 4))
    return net.build(net.conv("head", x, 4, 2), 1, 2, 8, 8)


def dense() -> onnx.ModelProto:
    net = Net(1, 3, 8, 8)
    x = net.conv("stem", "image", 3, 4)
    y = net.op("Concat", "c1", x, net.conv("grow1", net.norm("n1", x, 4), 4, 3, 3), axis=1)
    z = net.op("Concat", "c2", y, net.conv("grow2", net.norm("n2", y, 7), 7, 2, 3), axis=1)
    return net.build(net.conv("head", z, 9, 2), 1, 2, 8, 8)


def squeeze_excite() -> onnx.ModelProto:
    net = Net(1, 3, 8, 8)
    x = net.conv("expand", "image", 3, 8)
    x = net.op("HardSwish", "h", net.conv("depth", x, 8, 8, 3, groups=8))
    s = net.op("Relu", "sr", net.conv("down", net.op("GlobalAveragePool", "gap", x), 8, 4))
    x = net.op("Mul", "scale", x, net.op("HardSigmoid", "sig", net.conv("up", s, 4, 8)))
    return net.build(net.conv("project", x, 8, 2), 1, 2, 8, 8)


def grouped(groups: int) -> onnx.ModelProto:
    net = Net(1, 3, 8, 8)
    x = net.op("Relu", "r1", net.conv("a", "image", 3, 8))
    x = net.op("Relu", "r2", net.conv("b", x, 8, 16, 3, groups=groups))
    return net.build(net.conv("c", x, 16, 2), 1, 2, 8, 8)


def halves() -> onnx.ModelProto:
    net = Net(1, 3, 8, 8)
    sizes = net.constant("sizes", np.array([4, 4], np.int64))
    net.op("Split", "s", net.conv("a", "image", 3, 8), sizes, outputs=2, axis=1)
    y = net.op("Add", "add", "s.1", net.conv("m", "s.1", 4, 4, 3))
    return net.build(net.conv("b", net.op("Concat", "c", "s.0", "s.1", y, axis=1), 12, 2), 1, 2, 8, 8)


def slices() -> onnx.ModelProto:
    net = Net(1, 3, 8, 8)
    x = net.conv("a", "image", 3, 8)
    start, middle, end, axis = (
        net.constant(f"at{value}", np.array([value], np.int64)) for value in (0, 5, 100, 1)
    )
    one = net.conv("one", net.op("Slice", "s1", x, start, middle, axis), 5, 4)
    two = net.conv("two", net.op("Slice", "s2", x, middle, end, axis), 3, 4)
    return net.build(net.conv("head", net.op("Add", "add", one, two), 4, 2), 1, 2, 8, 8)


def shuffle() -> onnx.ModelProto:
    net = Net(1, 3, 8, 8)
    x = net.op("Concat", "cat", net.conv("a", "image", 3, 4), net.conv("b", "image", 3, 4), axis=1)
    x = net.op("Transpose", "t", net.reshape("split", x, 1, 2, 4, 8, 8), perm=[0, 2, 1, 3, 4])
    return net.build(net.conv("c", net.reshape("join", x, 1, 8, 8, 8), 8, 2), 1, 2, 8, 8)


def attention() -> onnx.ModelProto:
    """Two heads of 4 channels from 6, over 5 tokens; a bias per head on the scores."""
    net = Net(1, 5, 6)
    x = net.op("Add", "qkv.add", net.linear("qkv", "image", 6, 24), net.weight("qkv.b", 24))
    x = net.op("Transpose", "t", net.reshape("heads", x, 1, 5, 3, 2, 4), perm=[2, 0, 3, 1, 4])
    for place, part in enumerate("qkv"):
        net.op("Gather", part, x, net.constant(f"i{part}", np.array(place, np.int64)), axis=0)
    scores = net.op("MatMul", "qk", "q", net.op("Transpose", "kt", "k", perm=[0, 1, 3, 2]))
    scores = net.op("Add", "bias", scores, net.weight("table", 2, 5, 5))
    y = net.op("MatMul", "av", net.op("Softmax", "soft", scores, axis=-1), "v")
    y = net.reshape("merge", net.op("Transpose", "back", y, perm=[0, 2, 1, 3]), 1, 5, 8)
    return net.build(net.linear("proj", y, 8, 3), 1, 5, 3)


def group_norm() -> onnx.ModelProto:
    """A group normalisation as exporters write it: four groups of two channels."""
    net = Net(1, 3, 4, 4)
    x = net.reshape("groups", net.conv("a", "image", 3, 8), 0, 4, -1)
    one = net.constant("one", np.ones(4, np.float32))
    x = net.op("InstanceNormalization", "in", x, one, net.constant("zero", np.zeros(4, np.float32)))
    x = net.op("Mul", "gamma", net.reshape("ungroup", x, 1, 8, 4, 4), net.weight("gamma.w", 8, 1, 1))
    return net.build(net.conv("b", net.op("Add", "beta", x, net.weight("beta.w", 8, 1, 1)), 8, 2), 1, 2, 4, 4)


def channels_last() -> onnx.ModelProto:
    """A ConvNeXt block: the stage has a normalisation over channels, the expansion does not."""
    net = Net(1, 3, 8, 8)
    stem = net.conv("stem", "image", 3, 4)
    x = net.op("Transpose", "last", net.conv("dw", stem, 4, 4, 3, groups=4), perm=[0, 2, 3, 1])
    x = net.op("LayerNormalization", "ln", x, net.weight("ln.g", 4), net.weight("ln.b", 4), axis=-1)
    x = net.linear("down", net.op("Erf", "erf", net.linear("up", x, 4, 8)), 8, 4)
    x = net.op("Mul", "layerscale", x, net.weight("gamma", 4))
    x = net.op("Add", "add", stem, net.op("Transpose", "first", x, perm=[0, 3, 1, 2]))
    return net.build(net.conv("head", x, 4, 2), 1, 2, 8, 8)


def padded() -> onnx.ModelProto:
    """A shortcut without weights, as of the first residual networks: zeros stand beside its channels."""
    net = Net(1, 3, 8, 8)
    x = net.conv("a", "image", 3, 4)
    pads = net.constant("pads", np.array([0, 1, 0, 0, 0, 3, 0, 0], np.int64))
    y = net.op("Add", "add", net.op("Pad", "p", x, pads), net.conv("b", x, 4, 8, 3))
    return net.build(net.conv("head", y, 8, 2), 1, 2, 8, 8)


def pixel_shuffle() -> onnx.ModelProto:
    net = Net(1, 3, 4, 4)
    x = net.op("DepthToSpace", "up", net.conv("a", "image", 3, 12), blocksize=2, mode="CRD")
    return net.build(net.conv("b", net.op("SpaceToDepth", "down", x, blocksize=2), 12, 2), 1, 2, 4, 4)


def transposed(groups: int) -> onnx.ModelProto:
    net = Net(1, 3, 4, 4)
    x = net.conv("a", "image", 3, 4)
    weight = net.weight("up.w", 4, 6 // groups, 2, 2)
    bias = net.weight("up.b", 6)
    x = net.op("ConvTranspose", "up", x, weight, bias, strides=[2, 2], group=groups)
    return net.build(net.conv("b", x, 6, 2), 1, 2, 8, 8)


def picked() -> onnx.ModelProto:
    """Every channel twice, in another order."""
    net = Net(1, 3, 4, 4)
    order = net.constant("order", np.array([3, 0, 2, 1, 1, 0, 3, 2], np.int64))
    x = net.op("Gather", "pick", net.conv("a", "image", 3, 4), order, axis=1)
    return net.build(net.conv("b", x, 8, 2), 1, 2, 4, 4)


Groups = dict[str, tuple[int, int, set[str]]]

# Network, and its groups by hand: where -> units, channels of the first producer, producers.
CASES: dict[str, tuple[Callable[[], onnx.ModelProto], Groups]] = {
    "chain": (chain, {"a": (6, 6, {"a"})}),
    "residual": (
        residual,
        {
            "stem": (4, 4, {"stem", "one.out", "two.out"}),
            "one.in": (6, 6, {"one.in"}),
            "two.in": (6, 6, {"two.in"}),
        },
    ),
    "dense": (dense, {"stem": (4, 4, {"stem"}), "grow1": (3, 3, {"grow1"}), "grow2": (2, 2, {"grow2"})}),
    "squeeze-excite": (
        squeeze_excite,
        {"expand": (8, 8, {"expand", "depth", "up"}), "down": (4, 4, {"down"})},
    ),
    # 4 groups of 2 -> 4 channels: a group goes with its input and its output
    "four groups": (lambda: grouped(4), {"a": (4, 8, {"a", "b"})}),
    # 2 groups of 4 -> 8 channels: positions within groups are finer than the two groups
    "two groups": (lambda: grouped(2), {"a": (4, 8, {"a"}), "b": (8, 16, {"b"})}),
    # every input channel makes two of the output's
    "depthwise multiplier": (lambda: grouped(8), {"a": (8, 8, {"a", "b"})}),
    "halves": (halves, {"a": (4, 4, {"a"}), "a:2": (4, 4, {"a", "m"})}),
    "slices": (slices, {"a": (8, 8, {"a"}), "one": (4, 4, {"one", "two"})}),
    "shuffle": (shuffle, {"a": (4, 4, {"a", "b"})}),
    "attention": (attention, {"qkv": (2, 24, {"qkv"})}),
    "group norm": (group_norm, {"a": (4, 8, {"a"})}),
    "padded": (padded, {"a": (4, 4, {"a", "b"}), "b": (4, 4, {"b"})}),
    "pixel shuffle": (pixel_shuffle, {"a": (3, 12, {"a"})}),
    "transposed": (lambda: transposed(1), {"a": (4, 4, {"a"}), "up": (6, 6, {"up"})}),
    "transposed groups": (lambda: transposed(2), {"a": (2, 4, {"a"}), "up": (3, 6, {"up"})}),
    "picked": (picked, {"a": (4, 4, {"a"})}),
    "channels last": (channels_last, {"stem": (4, 4, {"stem", "dw", "down"}), "up": (8, 8, {"up"})}),
}

# Statistics over channels are others when channels go, so that only the expansion of this one computes the same.
KEPT = {"channels last": {"stem"}}


def read(name: str) -> EditableNetwork:
    return EditableNetwork.read(CASES[name][0](), name=name)


def run(message: onnx.ModelProto) -> np.ndarray:
    session = ort.InferenceSession(message.SerializeToString(), providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    image = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    return np.asarray(session.run(None, {"image": image})[0])


@pytest.mark.parametrize("name", CASES)
def test_groups_are_those_found_by_hand(name: str) -> None:
    found = {
        group.where: (group.units, group.channels, set(group.producers))
        for group in coupling(read(name)).groups.values()
    }
    assert found == CASES[name][1]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_smaller_network_computes_what_the_original_does_with_the_same_units_silenced(
    name: str, seed: int
) -> None:
    """Weights of units that go are set to zero in the original: nothing else may tell the two apart."""
    network = read(name)
    known = coupling(network)
    kept = {
        where: [max(1, len(part) // 2) for part in group.parts]
        for where, group in known.groups.items()
        if where not in KEPT.get(name, set())
    }
    gone = np.zeros(known.count, bool)
    for where, counts in kept.items():
        for order, count in zip(ranked(known, known.groups[where], "random", seed), counts, strict=True):
            gone[order[count:]] = True
    silenced, smaller = network.clone(), network.clone()
    for weight, axes in known.weights.items():

        def silence(array: np.ndarray, axes: list[np.ndarray | None] = axes) -> np.ndarray:
            array = np.array(array)
            for place, axis in enumerate(axes):
                if axis is not None:
                    np.moveaxis(array, place, 0)[gone[known.label[axis]]] = 0
            return array

        value = silenced.graph.initializers[weight]
        assert value.const_value is not None
        silenced.derive(value, tuple(value.const_value.shape), silence)  # type: ignore[arg-type]
    shrink(smaller, known, kept, importance="random", seed=seed)
    expected = run(silenced.proto())
    assert not np.allclose(run(network.proto()), expected)
    np.testing.assert_allclose(run(smaller.check(like=network)), expected, rtol=1e-4, atol=1e-5)
    assert smaller.macs < network.macs


def shapes(network: EditableNetwork) -> dict[str, tuple[int | None, ...] | None]:
    return {value.name or "": network.shape(value) for value in network.graph.initializers.values()}


def test_sizes_by_hand() -> None:
    network = read("squeeze-excite")
    shrink(network, coupling(network), {"expand": [5], "down": [3]})
    found = shapes(network)
    assert found["expand.w"] == (5, 3, 1, 1)
    assert found["depth.w"] == (5, 1, 3, 3)
    assert found["down.w"] == (3, 5, 1, 1)
    assert found["up.w"] == (5, 3, 1, 1)
    assert found["project.w"] == (2, 5, 1, 1)
    node = network.node("depth")
    assert node is not None
    assert node.attributes["group"].as_int() == 5


def test_sizes_of_an_attention_by_hand() -> None:
    network = read("attention")
    shrink(network, coupling(network), {"qkv": [1]})
    found = shapes(network)
    assert found["qkv.w"] == (6, 12)  # 3 times one head of 4
    assert found["qkv.b"] == (12,)
    assert found["table"] == (1, 5, 5)
    assert found["proj.w"] == (4, 3)
    for node, target in (("heads", [1, 5, 3, 1, 4]), ("merge", [1, 5, 4])):
        found_node = network.node(node)
        assert found_node is not None
        constant = network.constant(found_node.inputs[1])
        assert constant is not None
        assert constant.tolist() == target


def test_a_flattened_map_loses_all_positions_of_a_channel() -> None:
    network = read("chain")
    shrink(network, coupling(network), {"a": [4]}, importance="first")
    assert shapes(network)["head.w"] == (5, 16)
    original = numpy_helper.to_array(next(w for w in chain().graph.initializer if w.name == "head.w"))
    kept = network.graph.initializers["head.w"].const_value
    assert kept is not None
    np.testing.assert_array_equal(
        kept.numpy(), original[:, :16]
    )  # 4 positions of each of the first 4 channels


def test_what_feeds_an_unknown_operator_stays_and_the_reason_names_it() -> None:
    net = Net(1, 3, 4, 4)
    x = net.conv("a", "image", 3, 4)
    x = net.op("Relu", "r", net.op("LRN", "lrn", x, size=3))
    x = net.op("NonZero", "odd", net.op("Clip", "c", net.conv("b", x, 4, 4)))
    x = net.op("Cast", "cast", x, to=TensorProto.FLOAT)
    network = EditableNetwork.read(net.build(net.op("ReduceSum", "sum", x, keepdims=0)))
    known = coupling(network)
    assert set(known.groups) == {"a"}
    assert known.refused == {
        "b": "goes to odd (NonZero), which is an operator whose channels are not understood"
    }


def test_outputs_stay_and_the_reason_names_them() -> None:
    assert coupling(read("chain")).refused == {"head": 'goes to the output "head" of the network'}


def test_one_analysis_serves_clones_until_they_change() -> None:
    network = read("residual")
    one, other = network.clone(), network.clone()
    known = coupling(one)
    assert coupling(other) is known
    assert coupling(network) is known
    shrink(one, known, {"stem": [2]})
    assert coupling(network) is known
    changed = coupling(one)
    assert changed is not known
    assert changed.groups["stem"].units == 2
    assert one.macs < other.macs
    assert other.macs == network.macs


def test_a_change_that_does_not_fit_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    network = read("attention")
    known = coupling(network)
    before = run(network.check())
    monkeypatch.delitem(known.weights, "qkv.b")  # a group that forgets one of its layers
    with pytest.raises(AiopError, match="do not fit together"):
        shrink(network, known, {"qkv": [1]})
    np.testing.assert_array_equal(run(network.check()), before)
    assert shapes(network)["qkv.w"] == (6, 24)
