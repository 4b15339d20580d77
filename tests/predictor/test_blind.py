"""Networks that do not see their input are at the worst of what is known."""

import numpy as np
import pytest

import aiop
from aiop.graph_ir.features import encode
from aiop.predictor.blind import blind, worst_known
from aiop.pretrain.targets import LabelScaler
from aiop.pretrain.weights_io import TaskCard

# One way in is enough: the first edge of the last node, or a chain through the others.
SEEING = "nas-bench-201:|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
CHAIN = "nas-bench-201:|nor_conv_1x1~0|+|none~0|avg_pool_3x3~1|+|none~0|none~1|skip_connect~2|"
EMPTY = "nas-bench-201:|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
# Every node is computed from something, the last one from nothing.
CUT = "nas-bench-201:|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|none~0|none~1|none~2|"


def test_a_network_is_blind_without_a_way_from_its_input():
    graphs = [encode(aiop.read(code)) for code in (SEEING, EMPTY, CHAIN, CUT)]
    assert blind(graphs).tolist() == [False, True, False, True]
    assert blind([]).shape == (0,)


def test_the_worst_is_an_end_of_the_labels_and_costs_have_none():
    labels = np.linspace(1.0, 5.0, 9)
    ranked, line = LabelScaler.fit(labels), LabelScaler.fit(labels, "standard")
    tasks = [
        TaskCard("classification/any/top1", ranked),
        TaskCard("self-supervision/any/loss", ranked, direction="min"),
        TaskCard("latency/any/phone", ranked, direction="min"),
        TaskCard("classification/any/top5", line),  # a mean and a deviation know no ends
    ]
    worst = worst_known(tasks)
    assert ranked.inverse(worst[:2]) == pytest.approx([1.0, 5.0], abs=1e-6)
    assert np.isnan(worst).tolist() == [False, False, True, True]


def test_costs_of_a_blind_network_are_still_predicted():
    seeing, cut = aiop.load().predict([SEEING, CUT])
    for task in ("cifar100-val-top1", "imagenet16-120-val-top1"):
        assert cut[f"classification/nas-bench-201/{task}"].value < 1.5  # 1 % and .83 %
        assert seeing[f"classification/nas-bench-201/{task}"].value > 2
    assert cut["latency/nas-bench-201/raspi4"].value > 0
