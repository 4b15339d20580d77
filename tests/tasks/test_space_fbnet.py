"""FBNet against published counts, the codes of its table and a torch module."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.tasks import get_space
from aiop.tasks.spaces.fbnet import canonical

SPACE = get_space("fbnet")
FIRST_ROW = "7,8,1,8,4,8,8,8,7,4,1,4,7,3,2,7,3,2,4,2,4,5"
FIRST_NAMES = (
    "k5_e6 skip k3_e1_g2 skip k5_e1 skip skip skip k5_e6 k5_e1 k3_e1_g2 k5_e1 k5_e6 k3_e6 k3_e3 k5_e6 k3_e6 "
    "k3_e3 k5_e1 k3_e3 k5_e1 k5_e1_g2"
)


def uniform(operation: int | str, separator: str = ",") -> str:
    return separator.join([str(operation)] * 22)


# (parameters, MACs) of the ImageNet and of the CIFAR-100 network, counted on the reference's modules.
WORKED = [
    (FIRST_ROW, (3_794_920, 272_388_736), (1_790_500, 67_605_376)),
    (uniform(0), (3_175_096, 118_371_152), (1_170_676, 31_322_240)),
    (uniform(8), (2_785_080, 49_419_136), (780_660, 11_608_960)),
    (uniform(7), (5_754_072, 572_634_080), (3_749_652, 160_926_080)),
]


@pytest.mark.parametrize(("code", "large", "small"), WORKED)
def test_worked_examples(code: str, large: tuple[int, int], small: tuple[int, int]) -> None:
    for form, counts in (("imagenet", large), ("cifar100", small)):
        graph = read_onnx(SPACE.build(code, form))
        assert (graph.params, graph.macs) == counts


def test_names_are_read_as_the_numbers_they_stand_for(data_dir: Path) -> None:
    import pyarrow.parquet as pq

    assert SPACE.validate(FIRST_NAMES) == FIRST_ROW
    table = pq.read_table(data_dir / "fbnet_latency.parquet", columns=["op_idx", "arch_str"])
    for row in table.to_pylist():
        assert SPACE.validate(row["arch_str"]) == ",".join(map(str, row["op_idx"]))


def conv_norm(
    i: int, o: int, kernel: int = 1, stride: int = 1, groups: int = 1, relu: bool = True
) -> nn.Module:
    conv = nn.Conv2d(i, o, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(o), *([nn.ReLU()] if relu else []))


class Block(nn.Sequential):
    def __init__(self, i: int, o: int, stride: int, name: str) -> None:
        kernel, expansion, groups = int(name[1]), int(name[4]), 2 if name.endswith("_g2") else 1
        h = i * expansion
        super().__init__(
            conv_norm(i, h, groups=groups),
            nn.ChannelShuffle(groups),
            conv_norm(h, h, kernel, stride, h),
            conv_norm(h, o, groups=groups, relu=False),
        )
        self.residual = i == o and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return x + y if self.residual else y


def reference(names: list[str], form: str) -> nn.Module:
    stem_stride, stage_strides, header, classes = {
        "imagenet": (2, (1, 2, 2, 2, 1, 2, 1), 1984, 1000),
        "cifar100": (1, (1, 1, 2, 2, 1, 2, 1), 1504, 100),
    }[form]
    outputs = [16] + [24] * 4 + [32] * 4 + [64] * 4 + [112] * 4 + [184] * 4 + [352]
    strides = [stage_strides[0]]
    for stride in stage_strides[1:6]:
        strides += [stride, 1, 1, 1]
    strides.append(stage_strides[6])
    layers = [conv_norm(3, 16, 3, stem_stride)]
    i = 16
    for name, o, stride in zip(names, outputs, strides, strict=True):
        if name != "skip":
            layers.append(Block(i, o, stride, name))
        elif i != o or stride != 1:
            layers.append(conv_norm(i, o, 1, stride))
        i = o
    head = conv_norm(352, header), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(header, classes)
    return nn.Sequential(*layers, *head)


@pytest.mark.parametrize("form", ["cifar100", "imagenet"])
def test_networks_compute_what_the_reference_computes(form: str, compare_with_torch) -> None:
    # The first code goes through all nine operations; in the last one every skip that changes channels is there.
    turning = " ".join(
        ("k3_e1", "k5_e1_g2", "skip", "k3_e6", "k5_e3", "k3_e1_g2", "k5_e6", "k3_e3", "k5_e1")[i % 9]
        for i in range(22)
    )
    for code in (turning, FIRST_NAMES, uniform("skip", " ")):
        network = SPACE.build(code, form, weights="random")
        compare_with_torch(network, reference(code.split(" "), form))


def test_the_place_of_an_idle_skip_does_not_matter() -> None:
    def identity(*stage: int) -> str:
        code = ",".join(map(str, (3, *stage, *(2,) * 17)))
        return content_hash(canonicalise(read_onnx(SPACE.build(code))))

    def spelled(*stage: int) -> tuple[int, ...]:
        return canonical((3, *stage, *(2,) * 17))

    same = [(0, 1, 6, 8), (0, 1, 8, 6), (0, 8, 1, 6)]
    others = [(8, 0, 1, 6), (0, 6, 1, 8), (0, 1, 6, 6), (0, 1, 8, 8)]
    assert len({spelled(*stage) for stage in same}) == len({identity(*stage) for stage in same}) == 1
    assert len({spelled(*stage) for stage in others + same}) == 5
    assert len({identity(*stage) for stage in others + same}) == 5


def test_neighbours_change_one_layer() -> None:
    found = SPACE.neighbours(FIRST_ROW)
    assert len(found) == 22 * 8
    assert found[0] == "0" + FIRST_ROW[1:]
    assert found[-1] == FIRST_ROW[:-1] + "8"
    assert SPACE.neighbours(FIRST_NAMES) == found


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (FIRST_ROW + ",0", "expected 22 numbers joined by ',' or names joined by ' ', found 23"),
        ("0", "found 1"),
        ("9" * 5000, "found 1"),
        ("0," * 5000, "found 5001"),
        (FIRST_ROW[:-1] + "9", 'number 21 is "9", must be 0 to 8'),
        ("-0" + FIRST_ROW[1:], 'number 0 is "-0"'),
        ("07" + FIRST_ROW[1:], 'number 0 is "07"'),
        (FIRST_ROW.replace(",", ", "), 'number 1 is " 8"'),
        ("٧" + FIRST_ROW[1:], 'number 0 is "٧"'),
        (FIRST_NAMES.replace(" ", ","), 'number 0 is "k5_e6"'),
        (
            FIRST_NAMES.replace("skip", "skips", 1),
            'name 1, "skips", is not an operation .did you mean "skip"',
        ),
        (FIRST_ROW.replace(",", " "), 'name 0, "7", is not an operation'),
    ],
)
def test_refusals_name_the_defect(code: str, reason: str) -> None:
    with pytest.raises(AiopError, match=reason):
        SPACE.parse(code)
