"""Once-for-All MobileNetV3 against published counts, its cost columns and a network written in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch_layers import Residual, conv

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx
from aiop.tasks import get_space

SPACE = get_space("ofa-mbv3")
FIRST_ROW = "5,7,5,5,3,3,3,7,5,5,3,7,7,3,3,3,5,5,5,5/4,3,4,4,4,6,3,4,4,3,4,3,3,6,6,6,4,3,4,4/2,3,2,4,3/224"
LATENCY_ROW = "7,5,5,5,7,7,5,7,5,7,3,7,5,3,7,3,5,3,5,3/6,4,4,6,6,3,4,3,3,6,3,3,3,6,3,4,6,4,3,6/2,2,2,2,3/204"


def uniform(kernel: int, expansion: int, depth: int, side: int = 224) -> str:
    lists = ([kernel] * 20, [expansion] * 20, [depth] * 5, [side])
    return "/".join(",".join(map(str, values)) for values in lists)


@pytest.mark.parametrize(
    ("code", "form", "params", "macs"),
    [
        (FIRST_ROW, "imagenet", 5_029_656, 255_502_624),
        (uniform(7, 6, 4), "imagenet", 7_664_760, 566_170_656),
        (uniform(7, 6, 4), "imagenet-1.2", 10_701_632, 843_101_040),
        (uniform(3, 3, 2), "imagenet", 3_410_792, 121_278_672),
        (uniform(3, 3, 2), "imagenet-1.2", 4_602_456, 193_078_200),
        (LATENCY_ROW, "imagenet", 4_457_920, 194_900_424),
    ],
)
def test_worked_examples(code: str, form: str, params: int, macs: int) -> None:
    graph = read_onnx(SPACE.build(code, form))
    assert (graph.params, graph.macs) == (params, macs)


def test_cost_columns_on_200_random_rows(data_dir: Path) -> None:
    import pyarrow.parquet as pq

    names = ["ks", "e", "d", "r", "params", "macs"]
    rows = pq.read_table(data_dir / "ofa_mbv3_imagenet.parquet", columns=names).to_pylist()
    for index in np.random.default_rng(4).choice(len(rows), 200, replace=False).tolist():
        row = rows[index]
        code = "/".join([*(",".join(map(str, row[name])) for name in ("ks", "e", "d")), str(row["r"])])
        graph = read_onnx(SPACE.build(code))
        assert (graph.params, graph.macs) == (row["params"], row["macs"])


def multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8, one more where that loses above a tenth."""
    rounded = max(8, int((channels + 4) // 8) * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class Gate(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = multiple_of_8(channels // 4)
        layers = (nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, channels, 1))
        self.gate = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * nn.functional.relu6(self.gate(x.mean((2, 3), keepdim=True)) + 3) / 6


def reference(code: str, width: float) -> nn.Sequential:
    kernels, expansions, depths, _ = ([int(n) for n in part.split(",")] for part in code.split("/"))
    stages = (
        (24, 2, nn.ReLU, False),
        (40, 2, nn.ReLU, True),
        (80, 2, nn.Hardswish, False),
        (112, 1, nn.Hardswish, True),
        (160, 2, nn.Hardswish, True),
    )
    x = multiple_of_8(16 * width)
    fixed = [*conv(x, x, 3, groups=x), nn.ReLU(), *conv(x, x, 1)]
    layers = [*conv(3, x, 3, 2), nn.Hardswish(), Residual(nn.Sequential(*fixed))]
    for stage, (channels, first_stride, activation, squeeze) in enumerate(stages):
        outputs = multiple_of_8(channels * width)
        for block in range(depths[stage]):
            at, stride = 4 * stage + block, first_stride if block == 0 else 1
            hidden = multiple_of_8(x * expansions[at])
            path = [*conv(x, hidden, 1), activation()]
            path += [*conv(hidden, hidden, kernels[at], stride, groups=hidden), activation()]
            path += [Gate(hidden)] if squeeze else []
            path += conv(hidden, outputs, 1)
            whole = nn.Sequential(*path)
            layers.append(Residual(whole) if (x, stride) == (outputs, 1) else whole)
            x = outputs
    final, mixed = multiple_of_8(960 * width), multiple_of_8(1280 * width)
    layers += [*conv(x, final, 1), nn.Hardswish(), nn.AdaptiveAvgPool2d(1)]
    layers += [nn.Conv2d(final, mixed, 1, bias=False), nn.Hardswish(), nn.Flatten(), nn.Linear(mixed, 1000)]
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("form", "width"), [("imagenet", 1.0), ("imagenet-1.2", 1.2)])
def test_outputs_are_those_of_the_network_in_pytorch(
    compare_with_torch: Callable[..., None], form: str, width: float, seed: int
) -> None:
    code = SPACE.sample(np.random.default_rng(seed))
    compare_with_torch(SPACE.build(code, form, weights="random", seed=seed), reference(code, width))


@pytest.mark.parametrize("side", [128, 132, 204, 224])
def test_the_code_says_the_resolution(side: int) -> None:
    code = uniform(5, 4, 3, side)
    assert SPACE.input_shape(code) == (1, 3, side, side)
    assert read_onnx(SPACE.build(code)).tensors["image"].shape == (1, 3, side, side)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (FIRST_ROW + "/1", "expected ks/e/d/r joined by '/', found 5 parts"),
        (FIRST_ROW.rpartition("/")[0], "expected ks/e/d/r joined by '/', found 3 parts"),
        ("5," + FIRST_ROW, "ks must be 20 numbers joined by ',', found 21"),
        (FIRST_ROW.replace("/4,3", "/3"), "e must be 20 numbers joined by ',', found 19"),
        (FIRST_ROW.replace("/2,3,2,4,3/", "/2,3,2,4/"), "d must be 5 numbers joined by ',', found 4"),
        ("4" + FIRST_ROW[1:], r'ks\[0\] is "4", must be one of 3, 5, 7'),
        (FIRST_ROW.replace("/4,3", "/4,5"), r'e\[1\] is "5", must be one of 3, 4, 6'),
        (FIRST_ROW.replace("/2,3,2,4,3/", "/2,3,1,4,3/"), r'd\[2\] is "1", must be one of 2, 3, 4'),
        (FIRST_ROW.replace(",", ", "), r'ks\[1\] is " 7"'),
        ("05" + FIRST_ROW[1:], r'ks\[0\] is "05"'),
        ("٥" + FIRST_ROW[1:], r'ks\[0\] is "٥"'),
        (FIRST_ROW.replace("/224", "/226"), 'r is "226", must be a multiple of 4 from 128 to 224'),
        (FIRST_ROW.replace("/224", "/228"), 'r is "228"'),
        (FIRST_ROW.replace("/224", "/-128"), 'r is "-128"'),
        (FIRST_ROW.replace("/224", "/"), 'r is "", must be'),
    ],
)
def test_refusals_name_the_defect(code: str, reason: str) -> None:
    with pytest.raises(AiopError, match=reason):
        SPACE.parse(code)


def test_entries_beyond_the_depth_are_kept_in_the_code_and_change_nothing() -> None:
    other = "5,7,3" + FIRST_ROW[5:]  # position 2, in a stage of depth 2
    assert SPACE.validate(other) == other != FIRST_ROW
    nodes = [SPACE.build(code).graph.node for code in (FIRST_ROW, other)]
    assert list(nodes[0]) == list(nodes[1])


def test_neighbours_change_active_entries_depths_and_the_resolution() -> None:
    found = SPACE.neighbours(FIRST_ROW)
    # 14 active blocks with 2 other kernels and 2 other ratios, 5 stages with 2 other depths, and 220 pixels.
    assert len(found) == 14 * 4 + 5 * 2 + 1
    own = [part.split(",") for part in FIRST_ROW.split("/")]
    active = [4 * stage + block for stage, depth in enumerate((2, 3, 2, 4, 3)) for block in range(depth)]
    changed: list[tuple[int, int, str]] = []
    for code in found:
        other = [part.split(",") for part in code.split("/")]
        (change,) = [
            (column, index, value)
            for column in range(4)
            for index, value in enumerate(other[column])
            if value != own[column][index]
        ]
        changed.append(change)
    assert {index for column, index, _ in changed if column == 0} == set(active)
    assert {index for column, index, _ in changed if column == 1} == set(active)
    assert [value for column, _, value in changed if column == 3] == ["220"]
    middle = [code.rpartition("/")[2] for code in SPACE.neighbours(uniform(3, 3, 2, 160))]
    assert sorted(set(middle)) == ["156", "160", "164"]


def test_every_choice_is_sampled() -> None:
    rng = np.random.default_rng(0)
    codes = [SPACE.sample(rng).split("/") for _ in range(400)]
    for column, choices in enumerate(("357", "346", "234")):
        positions = zip(*(code[column].split(",") for code in codes), strict=True)
        assert all(set(values) == set(choices) for values in positions)
    assert {int(code[3]) for code in codes} == set(range(128, 225, 4))
