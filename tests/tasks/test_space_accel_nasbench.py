"""Accel-NASBench against published counts, the cost columns of its table and a network written in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch_layers import Residual, conv

from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph, read_onnx
from aiop.tasks import get_space

SPACE = get_space("accel-nasbench")
EFFICIENTNET_B0 = "1/3/1/1/6/3/2/1/6/5/2/1/6/3/3/1/6/5/3/1/6/5/4/1/6/3/1/1"
FIRST_ROW = "6/3/1/0/4/5/2/0/6/3/3/0/6/5/3/0/6/5/2/0/1/3/2/0/1/3/2/0"
THIRD = "4/5/3/0/6/3/1/1/4/3/1/1/4/3/2/0/4/3/3/1/1/3/2/1/6/5/2/1"


def table_macs(graph: ComputeGraph) -> int:
    """The count of the table's macs_M column: 4 per output of a batch norm, inputs and outputs of poolings."""
    extra = 0
    for op in graph.operations:
        if op.op == "BatchNorm":
            extra += 4 * op.output_elements
        if op.onnx_type == "GlobalAveragePool":
            extra += int(np.prod(graph.tensors[op.inputs[0]].shape)) + op.output_elements
    return graph.macs + extra


@pytest.mark.parametrize(
    ("code", "params", "macs", "column"),
    [
        (FIRST_ROW, 2_501_160, 375_723_888, 415.361072),
        (THIRD, 4_563_978, 449_347_120, 492.992976),
        (EFFICIENTNET_B0, 5_288_548, 385_814_752, None),
    ],
)
def test_worked_examples(code: str, params: int, macs: int, column: float | None) -> None:
    graph = read_onnx(SPACE.build(code))
    assert (graph.params, graph.macs) == (params, macs)
    if column is not None:
        assert table_macs(graph) == round(column * 1e6)


def test_cost_columns_on_200_random_rows(data_dir: Path) -> None:
    import pyarrow.parquet as pq

    rows = pq.read_table(data_dir / "accel_nasbench.parquet").to_pylist()
    for index in np.random.default_rng(4).choice(len(rows), 200, replace=False).tolist():
        row = rows[index]
        # As the columns print, with True and False.
        code = "/".join(str(row[f"block{i}_{entry}"]) for i in range(7) for entry in ("e", "k", "l", "se"))
        graph = read_onnx(SPACE.build(code))
        assert graph.params == round(row["params_M"] * 1e6)
        assert table_macs(graph) == round(row["macs_M"] * 1e6)


class Gate(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        layers = (nn.Conv2d(channels, inner, 1), nn.SiLU(), nn.Conv2d(inner, channels, 1), nn.Sigmoid())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), *layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


def layer(inputs: int, outputs: int, kernel: int, stride: int, expansion: int, squeeze: bool) -> nn.Module:
    hidden = inputs * expansion
    layers = [*conv(inputs, hidden, 1), nn.SiLU()] if expansion > 1 else []
    layers += [*conv(hidden, hidden, kernel, stride, groups=hidden), nn.SiLU()]
    layers += [Gate(hidden, inputs // 4)] if squeeze else []
    layers += conv(hidden, outputs, 1)
    return Residual(nn.Sequential(*layers)) if (inputs, stride) == (outputs, 1) else nn.Sequential(*layers)


def reference(code: str) -> nn.Sequential:
    numbers = [int(text) for text in code.split("/")]
    channels = (32, 16, 24, 40, 80, 112, 192, 320)
    layers = [*conv(3, 32, 3, 2), nn.SiLU()]
    for block, stride in enumerate((1, 2, 2, 2, 1, 2, 1)):
        expansion, kernel, count, squeeze = numbers[4 * block : 4 * block + 4]
        inputs, outputs = channels[block], channels[block + 1]
        layers.append(layer(inputs, outputs, kernel, stride, expansion, bool(squeeze)))
        layers += [layer(outputs, outputs, kernel, 1, expansion, bool(squeeze)) for _ in range(count - 1)]
    head = (nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000))
    return nn.Sequential(*layers, *conv(320, 1280, 1), *head).eval()


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_outputs_are_those_of_the_network_in_pytorch(
    compare_with_torch: Callable[..., None], seed: int
) -> None:
    code = SPACE.sample(np.random.default_rng(seed)) if seed else EFFICIENTNET_B0
    compare_with_torch(SPACE.build(code, weights="random", seed=seed), reference(code))


def test_booleans_as_tables_print_them_are_read_and_written_as_digits() -> None:
    entries = FIRST_ROW.split("/")
    entries[3], entries[7] = "True", "False"
    assert SPACE.validate("/".join(entries)) == FIRST_ROW.replace("6/3/1/0", "6/3/1/1", 1)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (FIRST_ROW + "/1", "expected 28 entries joined by '/', found 29"),
        (FIRST_ROW.replace("/", ","), "expected 28 entries joined by '/', found 1"),
        ("3" + FIRST_ROW[1:], 'block0_e is "3", must be one of 1, 4, 6'),
        ("06" + FIRST_ROW[1:], 'block0_e is "06"'),
        ("+6" + FIRST_ROW[1:], r'block0_e is "\+6"'),
        ("٦" + FIRST_ROW[1:], 'block0_e is "٦"'),
        (FIRST_ROW.replace("4/5/2", "4/7/2"), 'block1_k is "7", must be one of 3, 5'),
        (FIRST_ROW.replace("4/5/2", "4/5/4"), 'block1_l is "4", must be one of 1, 2, 3'),
        (FIRST_ROW.replace("1/3/2/0", "1/3/5/0", 1), 'block5_l is "5", must be one of 1, 2, 3, 4'),
        (FIRST_ROW[:-1] + "2", 'block6_se is "2", must be one of 0, 1, False, True'),
        (FIRST_ROW[:-1] + "true", 'block6_se is "true"'),
    ],
)
def test_refusals_name_the_defect(code: str, reason: str) -> None:
    with pytest.raises(AiopError, match=reason):
        SPACE.parse(code)


def test_neighbours_change_one_entry() -> None:
    found = SPACE.neighbours(EFFICIENTNET_B0)
    # 2 other ratios, 1 kernel, 2 depths and 1 switch for each of 7 blocks, and a third depth of block 5.
    assert len(found) == 7 * 6 + 1
    own = EFFICIENTNET_B0.split("/")
    assert all(sum(a != b for a, b in zip(own, other.split("/"), strict=True)) == 1 for other in found)


def test_every_choice_is_sampled() -> None:
    rng = np.random.default_rng(0)
    columns = list(zip(*(SPACE.sample(rng).split("/") for _ in range(300)), strict=True))
    assert [sorted(set(column)) for column in columns[20:24]] == [
        ["1", "4", "6"],
        ["3", "5"],
        ["1", "2", "3", "4"],
        ["0", "1"],
    ]
    assert sorted(set(columns[2])) == ["1", "2", "3"]
