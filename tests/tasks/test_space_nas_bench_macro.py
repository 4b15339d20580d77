"""NAS-Bench-Macro against published counts, the cost columns of its table and a torch module."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.tasks import get_space
from aiop.tasks.spaces.nas_bench_macro import canonical

SPACE = get_space("nas-bench-macro")


@pytest.mark.parametrize(
    ("code", "params", "macs"),
    [
        ("00000000", 387_882, 7_713_280),
        ("11111111", 1_588_874, 53_246_464),
        ("22222222", 2_932_586, 105_660_928),
        ("02012100", 890_666, 47_327_744),
    ],
)
def test_worked_examples(code: str, params: int, macs: int) -> None:
    graph = read_onnx(SPACE.build(code))
    assert (graph.params, graph.macs) == (params, macs)


def test_cost_columns_on_1000_random_rows(data_dir: Path) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(data_dir / "nas_bench_macro.parquet", columns=["arch", "params", "flops"])
    for row in table.take(np.random.default_rng(6).choice(len(table), 1000, replace=False)).to_pylist():
        graph = read_onnx(SPACE.build(row["arch"]))
        assert (graph.params, graph.macs) == (row["params"], row["flops"])


def conv_norm(i: int, o: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True) -> nn.Module:
    conv = nn.Conv2d(i, o, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(o), *([nn.ReLU()] if relu else []))


class MBConv(nn.Sequential):
    def __init__(self, i: int, o: int, stride: int, kernel: int, expansion: int) -> None:
        h = expansion * i
        super().__init__(
            conv_norm(i, h, 1), conv_norm(h, h, kernel, stride, h), conv_norm(h, o, 1, relu=False)
        )
        self.residual = stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return x + y if self.residual else y


def reference(code: str) -> nn.Module:
    layers = [conv_norm(3, 32, 3)]
    i = 32
    for place, digit in enumerate(code):
        stride = 2 if place in (0, 2, 5) else 1
        o = i * stride
        if digit != "0":
            layers.append(MBConv(i, o, stride, *{"1": (3, 3), "2": (5, 6)}[digit]))
        elif stride == 2:
            layers.append(conv_norm(i, o, 1, 2, relu=False))
        i = o
    head = conv_norm(256, 1280, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 10)
    return nn.Sequential(*layers, *head)


@pytest.mark.parametrize("code", ["00000000", "02012100", "21010221", "12102011"])
def test_networks_compute_what_the_reference_computes(code: str, compare_with_torch) -> None:
    compare_with_torch(SPACE.build(code, weights="random"), reference(code))


def test_6561_codes_are_3969_networks() -> None:
    codes = ["".join(digits) for digits in product("012", repeat=8)]
    assert len({canonical(code) for code in codes}) == 3969


def test_codes_of_one_canonical_form_are_one_network() -> None:
    def identity(code: str) -> str:
        return content_hash(canonicalise(read_onnx(SPACE.build(code))))

    twins = ["10" + a + b for a in ("201", "210") for b in ("012", "021")]
    assert len({canonical(code) for code in twins}) == 2  # 12 and 21 are two orders, 01 and 10 one
    assert identity(twins[0]) == identity(twins[2]) != identity(twins[1]) == identity(twins[3])
    stages = ["10" + "".join(digits) + "000" for digits in product("012", repeat=3)]
    assert len({identity(code) for code in stages}) == len({canonical(code) for code in stages}) == 21


def test_neighbours_change_one_digit() -> None:
    found = SPACE.neighbours("02012100")
    assert len(found) == 8 * 2
    assert found[0] == "12012100"
    assert found[-1] == "02012102"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("0201210", "expected 8 digits, found 7 characters"),
        ("0" * 5000, "expected 8 digits, found 5000 characters"),
        ("0,2,0,1,2,1,0,0", "expected 8 digits, found 15"),
        ("02012103", 'character 7 is "3", must be 0, 1 or 2'),
        ("-2012100", 'character 0 is "-"'),
        ("0201210 ", 'character 7 is " "'),
        ("0١012100", 'character 1 is "١"'),
    ],
)
def test_refusals_name_the_defect(code: str, reason: str) -> None:
    with pytest.raises(AiopError, match=reason):
        SPACE.parse(code)
