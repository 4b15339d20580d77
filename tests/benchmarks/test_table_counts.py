"""Counts of the published tables: by hand on a small network, and on rows as the tables print them."""

from __future__ import annotations

import math

import pytest

from aiop.graph_ir import ComputeGraph, read_onnx
from aiop.tasks import get_space, list_spaces
from aiop.tasks.spaces.writer import OUTPUT, OnnxWriter
from benchmarks import table_counts
from benchmarks.spaces import costless, fault_of, rows, run, speed
from benchmarks.table_rows import PRICES, PricedRow, Prices, plain


@pytest.fixture
def graph() -> ComputeGraph:
    """Two tiles of 3x8x8, most layers once; shapes after each layer are in the comments."""
    writer = OnnxWriter("small", 3, 8, 8, batch=2)
    x = writer.conv(writer.image, 4, 3, "conv", bias=True)  # 2 x 4 x 8 x 8
    x = writer.relu(writer.batch_norm(x, "norm"), "relu")
    x = writer.max_pool(x, 3, "pool", stride=2, padding=1)  # 2 x 4 x 4 x 4
    x = writer.max_pool(x, 1, "point", stride=2)  # 2 x 4 x 2 x 2
    x = writer.conv(x, 4, 1, "rpn.conv", groups=4)
    x = writer.relu(x, "rpn.relu")
    x = writer.conv_transpose(
        x, 5, 3, "up", stride=2, padding=1, output_padding=1, bias=True
    )  # 2 x 5 x 4 x 4
    x = writer.leaky_relu(x, "leaky", 0.2)
    x = writer.reshape(x, (1, 10, 4, 4), "tiles")
    x = writer.flatten(writer.global_average_pool(x, "mean"), "flatten")
    writer.linear(x, 47, "classifier", output=OUTPUT)
    return read_onnx(writer.finish((1, 47)))


CONV = 2 * 64 * 4 * 27
POINT = 2 * 4 * 4  # depthwise 1x1 at 2x2
UP = 2 * 4 * 4 * 5 * 9


def test_parts(graph: ComputeGraph) -> None:
    assert graph.macs == CONV + POINT + UP + 470
    assert table_counts.outputs_of(graph, "BatchNorm") == 2 * 4 * 64
    assert table_counts.outputs_of(graph, "Relu", "LeakyRelu") == 2 * (4 * 64 + 4 * 4 + 5 * 16)
    assert table_counts.inputs_of(graph, "MaxPool") == 2 * (4 * 64 + 4 * 16)
    assert table_counts.conv_biases(graph) == 2 * 4 * 64
    assert table_counts.outputs_of(graph) == table_counts.inputs_of(graph, "Gelu") == 0


def test_sums(graph: ComputeGraph) -> None:
    macs = CONV + POINT + UP + 470
    assert table_counts.nas_bench_mr_macs(graph) == macs + 2 * 512 + 512
    assert table_counts.accel_nasbench_macs(graph) == macs + 4 * 512 + 10 * 16 + 10
    # The ReLU of the proposals and the pool of one pixel are left out.
    assert table_counts.gaia_det_macs(graph) == macs + 512 + 512 + 512


def test_transnas(graph: ComputeGraph) -> None:
    # Each tile counts once: biased convolution, norm, ReLUs, depthwise convolution; then pool and 63 classes.
    tile = CONV // 2 + 256 + 2 * 256 + 256 + POINT // 2 + 16 + 5 * 16
    assert table_counts.transnas_costs(graph, "class_scene") == (
        tile + 10 * 5 * 5 + 10 * 63,
        graph.params + 11 * (63 - 47),
    )


# MACs as the tables print them, times 10^9 or 10^6.
PRINTED = [
    ("accel-nasbench", "6/3/1/0/4/5/2/0/6/3/3/0/6/5/3/0/6/5/2/0/1/3/2/0/1/3/2/0", 415_361_072),
    ("accel-nasbench", "4/5/3/0/6/3/1/1/4/3/1/1/4/3/2/0/4/3/3/1/1/3/2/1/6/5/2/1", 492_992_976),
    ("gaia-det", "3,480,480/48/80,160,320,640/4,6,29,4", 110_624_029_915),
    ("nas-bench-mr", "16,16,1,1,16,1,1,1,16,16,1,1,1,1,16,16,16,1,1,1,1,1,16,16,16,16,16", 40_917_842),
]


@pytest.mark.parametrize(("space", "code", "macs"), PRINTED)
def test_rows_as_printed(space: str, code: str, macs: int) -> None:
    graph = read_onnx(get_space(space).build(code))
    counted, params = PRICES[space].count(graph, "")
    assert (counted, params) == (macs, graph.params)


@pytest.mark.parametrize(
    ("form", "macs", "params"),
    [
        ("class_scene", 3_666_362_368, 1_293_023),
        ("class_object", 3_666_367_104, 1_297_796),
        ("room_layout", 3_666_355_456, 1_286_057),
        ("jigsaw", 230_383_744, 2_437_896),
        ("autoencoder", 23_572_185_088, 20_617_811),
    ],
)
def test_a_row_of_transnas_as_printed(form: str, macs: int, params: int) -> None:
    graph = read_onnx(get_space("transnas-macro").build("64-111114-basic", form))
    assert table_counts.transnas_costs(graph, form) == (macs, params)


def test_a_row_agrees_to_the_last_printed_digit() -> None:
    network = "nas-bench-201@cifar10:|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    prices = Prices(lambda folder: [], plain, macs_unit=5000, params_unit=500)
    assert prices.agrees(PricedRow(network, 7_780_000, 73_000))  # 7,783,040 and 73,306
    assert prices.agrees(PricedRow(network, math.nan, 73_800))
    assert not prices.agrees(PricedRow(network, 7_790_000, 73_000))
    assert not prices.agrees(PricedRow(network, 7_780_000, 74_000))


def test_ten_rows_of_every_table(data_dir: object) -> None:
    lines = rows([name for name in PRICES if name not in ("nas-bench-201", "nas-bench-101")], 10)
    assert len(lines) == 4 + len(PRICES) - 2
    assert all("| 10 | 10 |" in line for line in lines[4:])
    assert all(costless(name) for name in set(list_spaces()) - set(PRICES))


def test_tables_of_speed_and_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.spaces.CODES", 1)
    monkeypatch.setattr("benchmarks.spaces.REPEATS", 1)
    lines = speed(["nas-bench-201"])
    assert lines[-1].startswith("| nas-bench-201, cifar100 | ")
    lines = run(["nas-bench-201"], 2, most_gmacs=1000.0)
    assert [line.split(" | ")[3] for line in lines[4:]] == ["2 of 2"] * 3
    lines = run(["nas-bench-201"], 1, most_gmacs=0.001)
    assert [line.split(" | ")[3] for line in lines[4:7]] == ["0 of 1"] * 3
    assert len([line for line in lines if line.startswith("- not run, ")]) == 3


def test_another_shape_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    space = get_space("nas-bench-201")
    monkeypatch.setattr(type(space), "output_shapes", lambda *_: {"logits": (1, 11)})
    assert fault_of("nas-bench-201", "cifar10", space.example, 0) == "gave {'logits': (1, 10)}"
