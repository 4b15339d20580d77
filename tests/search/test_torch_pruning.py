"""Ratios of Torch-Pruning: copies are pruned as asked for, scored as the predictor says, searched within a budget."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from aiop import AiopError, load
from aiop.graph_ir.importers import from_torch

pytest.importorskip("torch_pruning", reason="Torch-Pruning is not installed")

from aiop.search.torch_pruning import best_ratios, prunable, prune, score_ratios

TASK = "classification/nas-bench-201/cifar10-test-top1"
IMAGE = torch.zeros(1, 3, 16, 16)


class Small(nn.Module):
    """A residual sum couples ``stem`` and ``second``; ``first`` is alone; ``linear`` makes the output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.block = nn.ModuleDict(
            {"first": nn.Conv2d(16, 20, 3, padding=1), "second": nn.Conv2d(20, 16, 3, padding=1)}
        )
        self.linear = nn.Linear(16, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.stem(image))
        x = x + self.block["second"](functional.relu(self.block["first"](x)))
        return self.linear(x.mean(dim=(2, 3)))


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small()


def test_layers_that_go_together_are_one(small):
    found = {frozenset(group.layers) for group in prunable(small, IMAGE)}
    assert found == {frozenset({"stem", "block.second"}), frozenset({"block.first"})}


@pytest.mark.parametrize(
    ("ratios", "widths"),
    [
        ({"block.first": 0.5}, (16, 10)),
        ({"stem": 0.25}, (12, 20)),
        ({"block.second": 0.25}, (12, 20)),  # coupled with the stem, whichever is named
        ({"": 0.5, "block.first": 0.25}, (8, 15)),  # the longer name counts
        (0.5, (8, 10)),
    ],
)
def test_channels_are_taken_out_of_a_copy(small, ratios, widths):
    pruned = prune(small, IMAGE, ratios)
    outer, inner = widths
    assert (pruned.stem.out_channels, pruned.block["first"].out_channels) == (outer, inner)
    assert (pruned.block["second"].out_channels, pruned.linear.in_features) == (outer, outer)
    assert pruned(IMAGE).shape == (1, 10)
    assert small.stem.out_channels == 16
    assert small.training
    assert pruned.training


def test_the_largest_channels_stay(small):
    with torch.no_grad():
        for channel in range(20):
            for weight in (small.block["first"].weight[channel], small.block["second"].weight[:, channel]):
                weight.fill_(0.01 * (channel + 1))
    kept = prune(small, IMAGE, {"block.first": 0.5}).block["first"].weight[:, 0, 0, 0]
    assert kept.tolist() == pytest.approx([0.01 * (channel + 1) for channel in range(10, 20)])


def test_widths_stay_multiples(small):
    assert prune(small, IMAGE, {"block.first": 0.3}, round_to=4).block["first"].out_channels % 4 == 0


@pytest.mark.parametrize(
    ("ratios", "message"),
    [
        ({"linear": 0.5}, '"linear" has no layer whose channels can be taken out'),
        ({"block.fist": 0.5}, r'no part "block.fist" \(did you mean "block.first"\?\)'),
        ({"stem": 1.0}, 'ratio 1.0 of "stem"'),
        ({"stem": 0.5, "block.second": 0.25}, "can only be pruned together"),
    ],
)
def test_ratios_that_would_do_nothing_or_harm_are_refused(small, ratios, message):
    with pytest.raises(AiopError, match=message):
        prune(small, IMAGE, ratios)


def test_ignored_parts_stay(small):
    assert [group.name for group in prunable(small, IMAGE, ignored=["block.first"])] == [
        group.name for group in prunable(small, IMAGE) if group.name != "block.first"
    ]
    with pytest.raises(AiopError, match="no layer whose channels"):
        prune(small, IMAGE, {"block.first": 0.5}, ignored=["block"])


def test_scores_are_the_predictions_for_the_pruned_module(small):
    predictor = load()
    ratios = [{"stem": 0.25}, 0.5]
    found = score_ratios(small, IMAGE, ratios, predictor, TASK)
    assert [dict(item.ratios) for item in found] == [{"stem": 0.25}, {"": 0.5}]
    for item, entry in zip(found, ratios, strict=True):
        graph = from_torch(prune(small, IMAGE, entry), IMAGE)
        assert item.prediction.value == pytest.approx(predictor.predict(graph, TASK)[TASK].value, abs=0.01)
        assert (item.macs, item.params) == (graph.macs, graph.params)
    # convolutions with biases and a linear layer, by hand: widths 12 and 20, 16 x 16 places
    assert found[0].macs == 256 * 9 * (3 * 12 + 12 * 20 + 20 * 12) + 12 * 10


def test_the_best_ratios_meet_the_budget(small):
    predictor, told = load(), []
    found = best_ratios(
        small, IMAGE, predictor, TASK, macs=0.6, trials=4, progress=lambda done, of: told.append((done, of))
    )
    budget = 0.6 * from_torch(small, IMAGE).macs
    assert all(item.macs <= budget for item in found)
    outside = [not item.prediction.in_distribution for item in found]
    values = [-item.prediction.value for item in found]
    assert list(zip(outside, values, strict=True)) == sorted(zip(outside, values, strict=True))
    assert told[-1] == (4, 4)
    again = best_ratios(small, IMAGE, predictor, TASK, macs=0.6, trials=4)
    assert [dict(item.ratios) for item in again] == [dict(item.ratios) for item in found]


def test_errors_of_the_search(small):
    with pytest.raises(AiopError, match="did you mean"):
        score_ratios(small, IMAGE, 0.5, load(), TASK + "x")
    with pytest.raises(AiopError, match="share between 0 and 1"):
        best_ratios(small, IMAGE, load(), TASK, macs=1.5)
    with pytest.raises(AiopError, match='no option "rount_to"'):
        best_ratios(small, IMAGE, load(), TASK, rount_to=8)
    with pytest.raises(AiopError, match="no ratios leave"):
        best_ratios(small, IMAGE, load(), TASK, macs=0.001, trials=1)


def test_without_the_library_the_error_says_what_to_install(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(AiopError, match=r"pip install 'aiop\[tuning\]'"):
        prune(small, IMAGE, 0.5)
