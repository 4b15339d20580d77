"""NATS-Bench size against published counts and a torch module."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx
from aiop.tasks import get_space

SPACE = get_space("nats-size")
FORMS = {"cifar10": 10, "cifar100": 100, "imagenet16-120": 120}

# (parameters, MACs) of the three forms, counted on the reference implementation's modules.
WORKED = [
    ("16:16:16:16:16", [(45_562, 17_481_888), (47_092, 17_483_328), (47_432, 4_372_352)]),
    ("64:64:64:64:64", [(713_674, 274_399_872), (719_524, 274_405_632), (720_824, 68_607_488)]),
    ("8:24:56:48:40", [(249_730, 41_349_520), (253_420, 41_353_120), (254_240, 10_342_080)]),
]


@pytest.mark.parametrize(("code", "counts"), WORKED)
def test_worked_examples(code: str, counts: list[tuple[int, int]]) -> None:
    for form, (params, macs) in zip(FORMS, counts, strict=True):
        graph = read_onnx(SPACE.build(code, form))
        assert (graph.params, graph.macs) == (params, macs)


def relu_conv_norm(i: int, o: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.ReLU(), nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o))


class Cell(nn.Module):
    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.to1, self.to2 = relu_conv_norm(i, o), nn.ModuleList(relu_conv_norm(c, o) for c in (i, o))
        fit = nn.Sequential(nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o))
        self.to3 = nn.ModuleList([nn.Identity() if i == o else fit, *(relu_conv_norm(o, o) for _ in "12")])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nodes = [x, self.to1(x)]
        for edges in (self.to2, self.to3):
            nodes.append(sum(edge(node) for edge, node in zip(edges, nodes, strict=True)))
        return nodes[3]


class Reduce(nn.Module):
    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.body = nn.Sequential(relu_conv_norm(i, o, 2), relu_conv_norm(o, o))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(i, o, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shortcut(x) + self.body(x)


def reference(code: str, classes: int) -> nn.Module:
    a, b, c, d, e = map(int, code.split(":"))
    stem = nn.Conv2d(3, a, 3, padding=1, bias=False), nn.BatchNorm2d(a)
    body = Cell(a, a), Reduce(a, b), Cell(b, c), Reduce(c, d), Cell(d, e)
    head = nn.BatchNorm2d(e), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(e, classes)
    return nn.Sequential(*stem, *body, *head)


def test_networks_compute_what_the_reference_computes(compare_with_torch) -> None:
    rng = np.random.default_rng(5)
    for form, classes in FORMS.items():
        for code in ("64:8:8:16:16", SPACE.sample(rng), SPACE.sample(rng)):
            compare_with_torch(SPACE.build(code, form, weights="random"), reference(code, classes))


def test_neighbours_change_one_width() -> None:
    found = SPACE.neighbours("8:24:56:48:40")
    assert len(found) == 5 * 7
    assert found[0] == "16:24:56:48:40"
    assert found[-1] == "8:24:56:48:64"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("8:8:8:8", "expected 5 numbers joined by ':', found 4"),
        ("8,8,8,8,8", "expected 5 numbers joined by ':', found 1"),
        ("8:8:8:8:72", 'number 4 is "72", must be a multiple of 8 from 8 to 64'),
        ("0:8:8:8:8", 'number 0 is "0"'),
        ("8:12:8:8:8", 'number 1 is "12"'),
        ("8:08:8:8:8", 'number 1 is "08"'),
        ("8:+8:8:8:8", r'number 1 is "\+8"'),
        ("8:8 :8:8:8", 'number 1 is "8 "'),
        ("8:٨:8:8:8", 'number 1 is "٨"'),
        ("8:" + "8" * 5000 + ":8:8:8", 'number 1 is "8{20}"'),
    ],
)
def test_refusals_name_the_defect(code: str, reason: str) -> None:
    with pytest.raises(AiopError, match=reason):
        SPACE.parse(code)
