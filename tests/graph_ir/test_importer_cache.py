"""Caches of compute graphs: what they mean, and what a hostile one cannot do.

The files are written by `pickle` itself, from classes under the names that the published files use.
"""

from __future__ import annotations

import itertools
import os
import pickle
import pickletools
import random
import struct
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from aiop import AiopError
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.importers import from_torch, iter_cache, read_cache
from aiop.graph_ir.passes import canonicalise

MODULE = "model_src.comp_graph.tf_comp_graph"
OPERATIONS = (
    "OOV Input Output Conv Depthwise BatchNorm ReLU ReLU6 MatMul Add Mul Concat Maxpool Avgpool Sigmoid Tanh Swish "
    "GeLU Paddings Mean SpacetoBatchND BatchtoSpaceND SpacetoDepthND DepthtoSpaceND Global Identity Zero"
).split()


class ComputeGraph:
    """As in the published code: plain attributes."""


class RegularNode:
    pass


class WeightedNode:
    pass


@pytest.fixture(autouse=True)
def published_names(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = MODULE.split(".")
    for depth in range(len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[: depth + 1]), types.ModuleType(parts[depth]))
    for kind in (ComputeGraph, RegularNode, WeightedNode):
        monkeypatch.setattr(kind, "__module__", MODULE)
        setattr(sys.modules[MODULE], kind.__name__, kind)


class Drawing:
    """A graph under construction, in the published format."""

    def __init__(self, size: int = 32, channels: int = 3) -> None:
        self.nodes: list[Any] = []
        self.sizes: dict[str, tuple[int, int]] = {}  # str_id -> (side, channels)
        self.edges: list[tuple[str, str]] = []
        self.input_shape = (1, size, size, channels)
        self.last = self.add("input", "Input", (), size, channels)

    def add(
        self, label: str, operation: str, inputs: tuple[str, ...], side: int, channels: int, **more: Any
    ) -> str:
        node = WeightedNode() if "shape" in more else RegularNode()
        name = f"{len(self.nodes)}|net/{label}"
        before, channels_before = self.sizes[inputs[0]] if inputs else (side, channels)
        fields = {
            "str_id": name,
            "type_idx": int("shape" in more),
            "label": label,
            "resolution": (before, side, before, side, channels_before, channels),
            "strides": None,
            "metadata": None,
            "op_type_idx": OPERATIONS.index(operation),
            **more,
        }
        vars(node).update(fields)
        self.nodes.append(node)
        self.sizes[name] = (side, channels)
        self.edges += [(source, name) for source in inputs]
        return name

    def conv(self, x: str, channels: int, kernel: int, *, bias: bool = False, side: int = 0) -> str:
        before, channels_in = self.sizes[x]
        return self.add(
            "conv2d", "Conv", (x,), side or before, channels, shape=[channels_in, channels, kernel, kernel],
            strides=(1, 1, 1, 1), metadata={"padding": "same", "data_format": "NHWC", "use_bias": bias},
        )  # fmt: skip

    def same(self, label: str, operation: str, *inputs: str) -> str:
        return self.add(label, operation, inputs, *self.sizes[inputs[0]])

    def finish(self, **more: Any) -> Any:
        weighted = [node for node in self.nodes if isinstance(node, WeightedNode)]
        regular = [node for node in self.nodes if not isinstance(node, WeightedNode)]
        places = {node.str_id: index for index, node in enumerate(weighted + regular)}
        graph = ComputeGraph()
        vars(graph).update(
            name="Net0", input_shape=self.input_shape, regular_nodes=regular, weighted_nodes=weighted,
            edge_pairs=[(places[source], places[target]) for source, target in self.edges],
            n_regular_nodes=len(regular), n_weighted_nodes=len(weighted), max_hidden_size=512, max_kernel_size=7,
            max_derived_H=256, max_derived_W=256,
        )  # fmt: skip
        vars(graph).update(more)
        return graph


def small_graph() -> Drawing:
    """Three nodes: input, 1x1 convolution of 3 to 4 channels, output."""
    draw = Drawing(8)
    draw.same("output", "Output", draw.conv(draw.last, 4, 1))
    return draw


class Mobile(nn.Module):
    """What `mobile_graph` draws, in torch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm0 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.expand, self.norm1 = nn.Conv2d(16, 32, 1, bias=False), nn.BatchNorm2d(32)
        self.deep = nn.Conv2d(32, 32, 5, padding=2, groups=32, bias=False)
        self.norm2 = nn.BatchNorm2d(32)
        self.squeeze, self.excite = nn.Conv2d(32, 8, 1), nn.Conv2d(8, 32, 1)
        self.project, self.norm3 = nn.Conv2d(32, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.wide, self.norm4 = nn.Conv2d(16, 24, 3, padding=2, dilation=2, bias=False), nn.BatchNorm2d(24)
        self.head = nn.Linear(48, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stem = functional.hardswish(self.norm0(self.stem(x)))
        x = functional.relu(self.norm1(self.expand(stem)))
        x = functional.relu(self.norm2(self.deep(x)))
        gate = self.excite(functional.relu(self.squeeze(x.mean((2, 3), keepdim=True))))
        x = self.norm3(self.project(x * functional.hardsigmoid(gate))) + stem
        x = functional.relu6(self.norm4(self.wide(x)))
        x = torch.cat([functional.max_pool2d(x, 2), functional.avg_pool2d(x, 2)], 1)
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def mobile_graph() -> Drawing:
    draw = Drawing()
    x = draw.same("fusedbatchnormv3", "BatchNorm", draw.conv(draw.last, 16, 3))
    stem = draw.same("mul", "Mul", x, draw.same("relu6", "ReLU6", x))  # x * relu6(x + 3) / 6
    x = draw.same("relu", "ReLU", draw.same("fusedbatchnormv3", "BatchNorm", draw.conv(stem, 32, 1)))
    x = draw.add(
        "depthwise", "Depthwise", (x,), 32, 32, shape=[32, 1, 5, 5], strides=(1, 1, 1, 1),
        metadata={"padding": "same"},
    )  # fmt: skip
    x = draw.same("relu", "ReLU", draw.same("fusedbatchnormv3", "BatchNorm", x))
    gate = draw.conv(draw.add("mean", "Mean", (x,), 1, 32), 8, 1, bias=True)
    gate = draw.conv(draw.same("relu", "ReLU", gate), 32, 1, bias=True)
    x = draw.same("mul_1", "Mul", x, draw.same("relu6_1", "ReLU6", gate))
    x = draw.same("fusedbatchnormv3", "BatchNorm", draw.conv(x, 16, 1))
    x = draw.same("add", "Add", x, stem)
    # TensorFlow's dilation 2: 36 x 36 after padding in 4 tiles of 18 x 18, of which 3x3 leaves 16 x 16.
    x = draw.add(
        "spacetobatchnd", "SpacetoBatchND", (x,), 18, 16, metadata={"pad_h": (2, 2), "pad_w": (2, 2)}
    )
    x = draw.add("batchtospacend", "BatchtoSpaceND", (draw.conv(x, 24, 3, side=16),), 32, 24)
    x = draw.same("relu6", "ReLU6", draw.same("fusedbatchnormv3", "BatchNorm", x))
    pool = {"strides": (1, 2, 2, 1), "metadata": {"ksize": (1, 2, 2, 1), "padding": "valid"}}
    pools = (
        draw.add("maxpool", "Maxpool", (x,), 16, 24, **pool),
        draw.add("avgpool", "Avgpool", (x,), 16, 24, **pool),
    )
    x = draw.add("mean", "Mean", (draw.add("concat", "Concat", pools, 16, 48),), 1, 48)
    x = draw.add("matmul", "MatMul", (x,), 1, 10, shape=[48, 10, 0, 0], metadata={"use_bias": True})
    draw.same("output", "Output", x)
    return draw


def entry(graph: Any, **more: Any) -> dict[str, Any]:
    return {
        "compute graph": graph,
        "acc": 0.93,
        "flops": 123456,
        "n_params": 7.5,
        "original config": None,
        **more,
    }


def write(path: Path, entries: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(entries, protocol))
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "gpi_net_comp_graph_cache.pkl"


@pytest.fixture(scope="module")
def mobile_twin() -> tuple[int, int, str]:
    """MACs and parameters of the torch network by torch, and the hash of its exported graph."""
    network, image = Mobile().eval(), torch.zeros(1, 3, 32, 32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    params = sum(parameter.numel() for parameter in network.parameters())
    return counter.get_total_flops() // 2, params, content_hash(canonicalise(from_torch(network, image)))


# -- what caches mean


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_graph_is_that_of_the_same_network_in_torch(
    cache: Path, protocol: int, mobile_twin: tuple[int, int, str]
) -> None:
    (found,) = read_cache(write(cache, [entry(mobile_graph().finish())], protocol))
    macs, params, digest = mobile_twin
    assert (found.graph.macs, found.graph.params) == (macs, params)
    assert content_hash(canonicalise(found.graph)) == digest
    assert found.graph.name == "Net0"
    assert found.graph.tensors[found.graph.inputs[0]].shape == (1, 3, 32, 32)
    assert found.graph.tensors[found.graph.outputs[0]].shape == (1, 10)
    assert not found.graph.notes


def test_metrics_and_config_are_those_of_the_entry(cache: Path) -> None:
    config = (224, [["mbconv3_e3_k5", 4], {"depth": (2, 3)}], None)
    more = {"obj_det_AP": 31.25, "original config": config, "metric_map": "obj_det_AP->acc", "done": True}
    (found,) = read_cache(write(cache, [entry(small_graph().finish(), **more)]))
    assert found.metrics == {"acc": 0.93, "flops": 123456.0, "n_params": 7.5, "obj_det_AP": 31.25}
    assert found.config == config
    assert found.metric_map == "obj_det_AP->acc"


@pytest.mark.parametrize("count", [0, 1, 2, 1000, 1001, 2500])
def test_lists_of_every_length(cache: Path, count: int) -> None:
    # pickle writes a list in batches of 1,000, and a last one of one item in another way
    entries = [entry(small_graph().finish(name=f"Net{index}")) for index in range(count)]
    assert [found.graph.name for found in iter_cache(write(cache, entries))] == [
        f"Net{index}" for index in range(count)
    ]


def test_element_operations_count_as_in_a_file(cache: Path) -> None:
    (found,) = read_cache(write(cache, [entry(mobile_graph().finish())]))
    factors = {"BatchNorm": 2, "Relu": 1, "Add": 1, "Mul": 1, "Sigmoid": 4, "Concat": 0, "Reshape": 0}
    met = [operation for operation in found.graph.operations if operation.op in factors]
    assert {operation.op for operation in met} >= {"BatchNorm", "Add"}
    for operation in met:
        assert operation.elementwise == factors[operation.op] * operation.output_elements


def test_shared_values_come_out_in_every_place(cache: Path) -> None:
    config = [["conv3x3", "maxpool3x3"], ("conv3x3", 3)]
    graph = small_graph().finish()
    found = read_cache(write(cache, [entry(graph, **{"original config": config}) for _ in range(3)]))
    assert [one.config for one in found] == [config] * 3
    assert len({content_hash(one.graph) for one in found}) == 1


def test_values_divided_by_their_maxima_are_restored(cache: Path, mobile_twin: tuple[int, int, str]) -> None:
    graph = mobile_graph().finish(n_weighted_nodes=0)
    for node in graph.weighted_nodes:
        channels_in, channels_out, *kernel = node.shape
        node.shape = [channels_in / 512, channels_out / 512, *(side / 7 for side in kernel)]
    (found,) = read_cache(write(cache, [entry(graph)]))
    assert (found.graph.macs, found.graph.params) == mobile_twin[:2]
    assert content_hash(canonicalise(found.graph)) == mobile_twin[2]


def test_order_containers_and_names_do_not_matter(cache: Path, mobile_twin: tuple[int, int, str]) -> None:
    draw = mobile_graph()
    graph = draw.finish()
    shuffled = draw.nodes.copy()
    random.Random(0).shuffle(shuffled)
    graph.weighted_nodes = tuple(node for node in shuffled if isinstance(node, WeightedNode))
    graph.regular_nodes = tuple(node for node in shuffled if not isinstance(node, WeightedNode))
    graph.edge_pairs = [list(pair) for pair in draw.edges]  # by str_id
    for index, node in enumerate(shuffled):
        node.resolution = list(node.resolution) if index % 2 else node.resolution
        if not hasattr(node, "shape"):
            node.label = "" if node.op_type_idx != OPERATIONS.index("Mul") else node.label
    (found,) = read_cache(write(cache, [entry(graph)]))
    assert content_hash(canonicalise(found.graph)) == mobile_twin[2]


def test_an_unknown_operation_is_noted(cache: Path) -> None:
    draw = small_graph()
    draw.same("output", "Output", draw.same("erfinv", "OOV", draw.last))
    (found,) = read_cache(write(cache, [entry(draw.finish())]))
    assert [operation.op for operation in found.graph.operations].count("Unknown") == 1
    assert "'erfinv' is unknown" in " ".join(found.graph.notes)


def test_a_missing_input_node_is_added(cache: Path) -> None:
    graph = small_graph().finish()
    graph.regular_nodes = graph.regular_nodes[1:]
    graph.edge_pairs = [(0, 1)]
    (found,) = read_cache(write(cache, [entry(graph)]))
    assert found.graph.macs == 8 * 8 * 3 * 4
    assert found.graph.tensors[found.graph.inputs[0]].shape == (1, 3, 8, 8)


# -- what cannot be


def break_graph(change: Callable[[Any], None]) -> Any:
    graph = small_graph().finish()
    change(graph)
    return graph


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda g: g.edge_pairs.append((2, 0)), "cycle through node '1|net/conv2d'|cycle through node '2|net/output'"),
        (lambda g: g.edge_pairs.append((0, 7)), "does not exist"),
        (lambda g: g.edge_pairs.append((0, True)), "does not exist"),
        (lambda g: g.edge_pairs.append((0, 1, 2)), "no pair"),
        (lambda g: setattr(g, "edge_pairs", [(1, 1)]), "cycle"),
        (lambda g: setattr(g, "edge_pairs", []), "no edges"),
        (lambda g: setattr(g, "regular_nodes", {}), "no list 'regular_nodes'"),
        (lambda g: setattr(g.regular_nodes[0], "str_id", "1|net/conv2d"), "same str_id"),
        (lambda g: setattr(g.regular_nodes[0], "resolution", None), "not a list of 6 numbers"),
        (lambda g: setattr(g.regular_nodes[0], "resolution", (8, 0, 8, 8, 3, 3)), "size of 0"),
        (lambda g: setattr(g.regular_nodes[0], "resolution", (8, 8, 8, 8, 3, -3)), "not a list of 6 numbers"),
        (lambda g: setattr(g.regular_nodes[0], "resolution", (8, float("nan"), 8, 8, 3, 3)), "not a list of 6"),
        (lambda g: setattr(g.regular_nodes[0], "resolution", (8, 1 << 60, 8, 8, 3, 3)), "no whole numbers"),
        (lambda g: setattr(g.weighted_nodes[0], "shape", [3, 4, 0, 0]), "no kernel size"),
        (lambda g: setattr(g.weighted_nodes[0], "shape", [0.3, 0.77, 1, 1]), "no whole numbers"),
        (lambda g: setattr(g.weighted_nodes[0], "strides", (1, 0, 0, 1)), "strides"),
        (lambda g: setattr(g.weighted_nodes[0], "metadata", 3), "no dictionary"),
        (lambda g: setattr(g, "weighted_nodes", [g]), "node"),
    ],
)  # fmt: skip
def test_a_graph_that_cannot_be_is_refused(cache: Path, change: Callable[[Any], None], cause: str) -> None:
    with pytest.raises(AiopError) as caught:
        read_cache(write(cache, [entry(small_graph().finish()), entry(break_graph(change))]))
    message = str(caught.value)
    assert any(one in message for one in cause.split("|") if one) or cause in message
    assert f"{cache}: entry 1" in message


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x80\x04.", b"PK\x03\x04", pickle.dumps({}), pickle.dumps([1]), pickle.dumps([{}]), pickle.dumps(()),
        pickle.dumps([]) + b".",
    ],
)  # fmt: skip
def test_another_file_is_refused(cache: Path, content: bytes) -> None:
    cache.write_bytes(content)
    with pytest.raises(AiopError, match=r"gpi_net.*; "):
        read_cache(cache)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pkl", tmp_path):
        with pytest.raises(AiopError, match="cannot be read"):
            read_cache(path)


# -- nothing is executed


class Calls:
    """An object whose pickle calls something when it is loaded."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_a_call_is_refused_before_anything_is_built(cache: Path, tmp_path: Path, protocol: int) -> None:
    sentinel = tmp_path / "executed"
    attack = Calls(os.system, f"touch {sentinel}")
    graph = small_graph().finish()
    graph.regular_nodes[0].metadata = {"padding": attack}
    for content in (
        attack,
        [attack],
        [entry(attack)],
        [entry(graph)],
        [entry(small_graph().finish(), acc=attack)],
    ):
        with pytest.raises(AiopError, match="not a cache of compute graphs"):
            next(iter_cache(write(cache, content, protocol)))
    assert not sentinel.exists()
    pickle.loads(pickle.dumps(attack, protocol))  # the attack is a real one
    assert sentinel.exists()


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"\x8c" + bytes([len(encoded)]) + encoded


@pytest.mark.parametrize(
    "names",
    [
        ("builtins", "eval"),
        ("os", "system"),
        (MODULE, "OP2I"),
        (MODULE, "os.system"),
        (MODULE, "ComputeGraph.__init__"),
        (MODULE, "ComputeGraph\0"),
        (MODULE, "\u0421omputeGraph"),  # a Cyrillic letter
        (MODULE + "\u200b", "ComputeGraph"),
        ("model_src.comp_graph.\uff54f_comp_graph", "ComputeGraph"),  # normalises to the name
        ("model_src.comp_graph", "tf_comp_graph.ComputeGraph"),
    ],
)
def test_no_other_name_is_found(cache: Path, names: tuple[str, str]) -> None:
    stacked = b"\x80\x04](" + text(names[0]) + text(names[1]) + b"\x93)\x81e."
    lines = b"\x80\x03](c" + f"{names[0]}\n{names[1]}\n".encode() + b")\x81e."
    for content in (stacked, lines):
        cache.write_bytes(content)
        with pytest.raises(AiopError, match="holds an object of class"):
            read_cache(cache)


DATA_OPCODES = frozenset(
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 BINFLOAT LONG1 BINUNICODE SHORT_BINUNICODE "
    "EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT SETITEM SETITEMS BINPUT LONG_BINPUT "
    "MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL NEWOBJ BUILD".split()
)


@pytest.mark.parametrize(
    "opcode", [o for o in pickletools.opcodes if o.name not in DATA_OPCODES], ids=lambda o: o.name
)
def test_every_other_opcode_is_refused(cache: Path, opcode: pickletools.OpcodeInfo) -> None:
    cache.write_bytes(b"\x80\x04]" + opcode.code.encode("latin-1") + b"\x01" * 16 + b"\n\n.")
    with pytest.raises(AiopError, match=rf"opcode {opcode.name} at byte 3 is not one of plain data"):
        read_cache(cache)


CLASS = b"c" + MODULE.encode() + b"\nComputeGraph\n"


@pytest.mark.parametrize(
    "body",
    [
        CLASS + b"(K\x01t\x81",  # an object made with an argument
        CLASS + b"]\x81",
        b"])\x81",  # an object of what is no class
        CLASS + b")\x81" + b"]b",  # a state that is no dictionary
        CLASS + b")\x81" + b"}b}b",  # two states
        b"]}b",  # a state for a list
        CLASS + b"}b",  # a state for a class
        b"}]Na",  # append to a list: fine, but then a list stands where an entry should
        b"}Na",  # append to a dictionary
        b"}(NNu",  # a key that is None
        b"}(]Nu",  # a key that cannot be hashed
        b"}(K\x01u",  # a key without a value
        b"a", b"e", b"s", b"u", b"t", b"\x85", b"\x93", b"b", b"\x81", b"\x94e",  # nothing there to work on
        b"h\x63", b"j\xff\xff\xff\xff",  # references to nothing
        b"X\xff\xff\xff\xff", b"X\x00\x00\x00\x7f" + b"a" * 100, b"\x8a\xff" + b"\1" * 255,  # gigantic values
        b"\x8c\x02\xff\xfe", b"\x8c\x03\xed\xa0\x80",  # texts that are none
        b"K\x01K\x02\x93", b"c" + b"a" * 5000 + b"\nb\n",
        b"\x80\x09",  # a protocol to come
    ],
)  # fmt: skip
def test_opcodes_that_do_not_fit_are_refused(cache: Path, body: bytes) -> None:
    for frame in (b"\x80\x04](%se.", b"\x80\x04]%sa.", b"\x80\x04%s.", b"\x80\x04](}%sse."):
        cache.write_bytes(frame % body)
        with pytest.raises(AiopError):
            read_cache(cache)


def nested(levels: int, width: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value] * width
    return value


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def looped_graph() -> Any:
    graph = small_graph().finish()
    graph.regular_nodes.append(graph)
    graph.weighted_nodes[0].metadata = vars(graph)
    return graph


@pytest.mark.parametrize(
    "entries",
    [
        lambda: [entry(small_graph().finish(), **{"original config": nested(60, 2)})],
        lambda: [entry(small_graph().finish(), **{"original config": nested(12, 10)})],
        lambda: [entry(small_graph().finish(edge_pairs=nested(60, 9)))],
        lambda: [entry(small_graph().finish(regular_nodes=nested(60, 9)))],
        lambda: [entry(small_graph().finish(), **{"original config": endless()})],
        lambda: [entry(looped_graph())],
        lambda: [endless()],
        endless,
    ],
)
def test_repetition_and_loops_end(cache: Path, entries: Callable[[], Any]) -> None:
    with pytest.raises(AiopError):
        read_cache(write(cache, entries()))


def hostile_files() -> Iterator[tuple[str, bytes]]:
    """Files of about a megabyte that ask for a hundred, or for hours."""
    yield "dictionaries", b"\x80\x04](" + b"}" * 1_000_000 + b"e."
    yield "lists in lists", b"\x80\x04" + b"]" * 1_000_000 + b"a" * 999_999 + b"."
    yield "tuples in tuples", b"\x80\x04])" + b"\x85" * 1_000_000 + b"a."
    yield "marks", b"\x80\x04]" + b"(" * 1_000_000 + b"."
    yield "empty lists in a list", b"\x80\x04]](" + b"]" * 1_000_000 + b"ea."
    yield "one list again", b"\x80\x04](](" + b"]" * 1000 + b"e\x94" + b"h\x00" * 200_000 + b"e."
    numbers = [struct.pack("<I", index) for index in range(150_000)]
    yield "many lists again", b"\x80\x04](" + b"".join(b"]r" + n + b"j" + n for n in numbers) + b"e."
    yield "wide texts", b"\x80\x04]](" + (b"\x8c\xff" + b"a" * 251 + "\U0001f600".encode()) * 40_000 + b"ea."


READS = """
import re, sys
from pathlib import Path
from aiop import AiopError
from aiop.graph_ir.importers import pickle_reader, read_cache

# an eighth of the real limits, so that small files reach them
pickle_reader.LARGEST_ITEM //= 8
pickle_reader.MOST_REFERENCES //= 8
pickle_reader.MOST_REPEATED = 4 << 20, 16

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10

for path in sorted(Path(sys.argv[1]).glob("*.pkl")):
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = peak()
    try:
        read_cache(path)
        raise SystemExit(f"{path.name} was read")
    except AiopError as error:
        print(path.name, peak() - before >> 20, "MB", str(error)[-130:])
    if peak() - before > (500 << 20) // 8 + path.stat().st_size:
        raise SystemExit(f"{path.name} took {peak() - before >> 20} MB")
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
def test_memory_and_time_are_bounded(tmp_path: Path) -> None:
    for name, content in hostile_files():
        (tmp_path / f"{name}.pkl").write_bytes(content)
    graph = mobile_graph().finish()
    write(tmp_path / "one graph again.pkl", [entry(graph, acc=index) for index in range(5_000)])
    done = subprocess.run(
        [sys.executable, "-c", READS, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


# -- damaged files


def test_a_file_cut_anywhere_is_refused(cache: Path) -> None:
    content = pickle.dumps([entry(small_graph().finish())], 4)
    for length in range(len(content)):
        cache.write_bytes(content[:length])
        with pytest.raises(AiopError):
            read_cache(cache)


def test_flipped_bits_are_refused_or_harmless(cache: Path, tmp_path: Path) -> None:
    rng = random.Random(20240601)
    contents = [
        pickle.dumps([entry(draw().finish())], p) for draw in (small_graph, mobile_graph) for p in (3, 4)
    ]
    refused = 0
    for content in itertools.islice(itertools.cycle(contents), 500):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 1, 1, 2, 8))):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        cache.write_bytes(damaged)
        try:
            for found in read_cache(cache):
                canonicalise(found.graph)
        except AiopError:
            refused += 1
    assert 0 < refused < 500
    assert [path.name for path in tmp_path.iterdir()] == [cache.name]
