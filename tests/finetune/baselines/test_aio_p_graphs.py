import json
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from aiop.errors import AiopError
from aiop.finetune.baselines.aio_p import GraphStore, publish, read_published
from aiop.finetune.baselines.aio_p.vocabulary import LABELS
from aiop.graph_ir import read_onnx

SKIPS = "nas-bench-201:|skip_connect~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|"
CONVS = "nas-bench-201:|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|skip_connect~2|"


def labels(graph):
    return Counter(LABELS[label] for label in graph.nodes[:, 0])


def onnx_graph(nodes, weights, output, shape=(1, 3, 32, 16)):
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, output)
    initializers = [
        helper.make_tensor(name, TensorProto.FLOAT, size, np.zeros(int(np.prod(size)), np.float32))
        for name, size in weights.items()
    ]
    graph = helper.make_graph(nodes, "test", [image], [out], initializers)
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(network)
    return read_onnx(network.SerializeToString(), name="test")


def test_nodes_sizes_kernels_and_bias_are_those_of_the_file():
    graph = onnx_graph(
        [
            helper.make_node("Conv", ["image", "w", "b"], ["c"], strides=[2, 2], pads=[4, 4, 4, 4]),
            helper.make_node("HardSwish", ["c"], ["h"]),
            helper.make_node("Softmax", ["h"], ["s"], axis=1),
            helper.make_node("Add", ["s", "h"], ["a"]),
            helper.make_node("GlobalAveragePool", ["a"], ["out"]),
        ],
        {"w": (8, 3, 9, 9), "b": (8,)},
        (1, 8, 1, 1),
    )
    seen = publish(graph)
    names = [LABELS[label] for label in seen.nodes[:, 0]]
    # a softmax is no node, so the sum reads one thing twice and is none either
    assert names == ["Input", "Conv", "ReLU6", "Mul", "Mean", "Output"]
    # height in, out; width in, out; channels in, out; kernels above 7 are 7; bias
    assert seen.nodes[1, 1:].tolist() == [32, 16, 16, 8, 3, 8, 7, 7, 1]
    assert seen.nodes[2, 1:].tolist() == [16, 16, 8, 8, 8, 8, 0, 0, 0]
    assert seen.nodes[4, 1:7].tolist() == [16, 1, 8, 1, 8, 8]
    assert seen.edges.T.tolist() == [[0, 1], [1, 2], [1, 3], [2, 3], [3, 4], [4, 5]]
    assert seen.maxima == (256, 256, 512)
    assert seen.gflops == pytest.approx(2e-9 * 16 * 8 * 8 * 3 * 81)
    assert publish(graph, own_maxima=True).maxima == (32, 16, 8)


def test_a_network_is_seen_before_it_is_brought_to_canonical_form():
    # 15 cells of two convolutions each with batch norm and ReLU, as the cell's code says
    seen = labels(read_published(CONVS))
    stem_and_reductions = 1 + 2 * 3
    assert seen["Conv"] == 15 * 2 + stem_and_reductions
    assert seen["BatchNorm"] == 15 * 2 + 1 + 2 * 2 + 1
    assert seen["Input"] == seen["Output"] == seen["MatMul"] == seen["Mean"] == 1
    assert "Conv" in labels(read_published(SKIPS))


def test_graphs_with_a_task_head_are_divided_by_their_own_maxima():
    code = "16,16,1,1,16,1,1,1,16,16,1,1,1,1,16,16,16,1,1,1,1,1,16,16,16,16,16"
    assert read_published(f"nas-bench-mr:{code}").maxima == (256, 256, 512)
    height, width, channels = read_published(f"nas-bench-mr@seg:{code}").maxima
    assert (height, width) == (512, 1024)
    assert channels == 4 * 16  # four branches concatenated


def test_a_network_without_any_known_operation_is_refused():
    graph = onnx_graph([helper.make_node("Softmax", ["image"], ["out"])], {}, (1, 3, 32, 16))
    seen = publish(graph)
    assert labels(seen) == {"Input": 1, "Output": 1}
    empty = graph.with_operations([], ())
    with pytest.raises(AiopError, match="no operation that AIO-P knows"):
        publish(empty)


def test_a_store_gives_back_what_was_read_and_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setenv("AIOP_CACHE", str(tmp_path))
    store = GraphStore.of_names([SKIPS, CONVS], progress=False)
    assert len(store) == 2
    assert len(list((tmp_path / "aio-p").iterdir())) == 1
    monkeypatch.setattr("aiop.finetune.baselines.aio_p.store.read_published", None)  # nothing is read again
    again = GraphStore.of_names([SKIPS, CONVS], progress=False)
    monkeypatch.undo()
    for name in (SKIPS, CONVS):
        read = read_published(name)
        for found in (store[name], again[name]):
            np.testing.assert_array_equal(found.nodes, read.nodes)
            np.testing.assert_array_equal(found.edges, read.edges)
            assert (found.maxima, found.gflops) == (read.maxima, read.gflops)
    other = SKIPS.replace("skip_connect~2", "none~2")
    np.testing.assert_array_equal(store[other].nodes, read_published(other).nodes)


def test_a_damaged_piece_is_made_again_and_bad_names_are_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("AIOP_CACHE", str(tmp_path))
    wrong = "nas-bench-201:|broken"
    store = GraphStore.of_names([SKIPS, wrong], progress=False)
    assert list(store.refused) == [wrong]
    with pytest.raises(AiopError, match="nas-bench-201 code"):
        store[wrong]
    (piece,) = (tmp_path / "aio-p").iterdir()
    piece.write_bytes(piece.read_bytes()[:200])
    assert len(GraphStore.of_names([SKIPS, wrong], progress=False)) == 1
    assert json.loads((tmp_path / "builders.json").read_text())
