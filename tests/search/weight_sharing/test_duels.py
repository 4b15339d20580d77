"""Search by duels: who writes the shared weights, who moves, and a search that was interrupted anywhere."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from aiop.errors import AiopError
from aiop.graph_ir.checkpoint import load_checkpoint
from aiop.search.methods.problem import count_macs
from aiop.search.weight_sharing.duels import Cells, DuelSearch
from aiop.search.weight_sharing.images import Images
from aiop.search.weight_sharing.running import DUELS, STATE, run_duels
from aiop.search.weight_sharing.settings import PRESETS, DuelSettings, preset
from aiop.search.weight_sharing.shared import SharedWeights, written
from aiop.search.weight_sharing.training import batches, judge, train
from aiop.tasks import get_space

SMALL = DuelSettings(
    population=4,
    generations=2,
    cells=3,
    channels=2,
    images=24,
    held_out=4,
    steps=2,
    batch=4,
    judged=6,
    rounds=1,
)


def pictures():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(24) % 3
    images = torch.randn(24, 3, 8, 8, generator=generator) + labels[:, None, None, None]
    return Images("made", images, labels, images[:4], labels[:4], classes=3)


def searched(folder, settings=SMALL, **more):
    return run_duels(folder, pictures(), settings, macs_of=len, **more)


def state(folder):
    tensors, plain = load_checkpoint(folder / STATE)
    return tensors, {name: value for name, value in plain.items() if name != "seconds"}


def same(one, other):
    assert one[1] == other[1]
    assert set(one[0]) == set(other[0])
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])


def test_the_winner_writes_and_the_loser_what_only_it_has():
    def tensors(**values):
        return {name: torch.full((2,), float(value)) for name, value in values.items()}

    shared = tensors(stem=0, both=0, loser=0, neither=7)
    found = written(shared, tensors(stem=1, both=1, winner=1), tensors(stem=2, both=2, loser=2, new=2))
    assert {name: value.tolist() for name, value in found.items()} == {
        "stem": [1, 1], "both": [1, 1], "winner": [1, 1], "loser": [2, 2], "new": [2, 2], "neither": [7, 7],
    }  # fmt: skip
    assert shared["stem"].tolist() == [0, 0]


def test_what_is_lent_is_a_copy():
    layer = nn.Linear(2, 2)
    kept = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    shared = SharedWeights(0, {"weight": kept})
    shared.lend(layer)
    with torch.no_grad():
        layer.weight.zero_()
    assert shared.tensors["weight"].tolist() == [[1, 2], [3, 4]]
    assert layer.bias.tolist() == [0, 0]  # a fresh one
    shared.write(layer, layer)
    with torch.no_grad():
        layer.weight.fill_(9)
    assert shared.tensors["weight"].tolist() == [[0, 0], [0, 0]]


def test_the_learning_rate_falls_on_a_cosine_over_generations():
    settings = preset("paper")
    assert (settings.population, settings.generations, settings.cells, settings.channels) == (20, 50, 8, 16)
    assert settings.rate_of(0) == pytest.approx(0.1)
    assert settings.rate_of(25) == pytest.approx((0.1 + 0.001) / 2)
    assert settings.rate_of(49) == pytest.approx(0.001 + 0.099 * (1 + math.cos(math.pi * 0.98)) / 2)


def test_training_is_plain_sgd():
    layer = nn.Sequential(nn.Flatten(), nn.Linear(12, 2, bias=False))
    images, labels = torch.randn(6, 3, 2, 2, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 2
    expected = layer[1].weight.detach().numpy().astype(np.float64)
    speed = np.zeros_like(expected)
    plan = [(torch.tensor([0, 1, 2]), 0, 0), (torch.tensor([3, 4]), 1, 0)]
    for rows, down, _ in plan:
        x = np.roll(images.numpy(), down, 2)[rows].reshape(len(rows), -1).astype(np.float64)
        logits = x @ expected.T
        share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) - np.eye(2)[labels[rows]]
        speed = 0.9 * speed + share.T @ x / len(rows) + 0.01 * expected
        expected -= 0.1 * speed
    train(layer, images, labels, plan, lambda step: 0.1, replace(DuelSettings(), decay=0.01, clip=1e6))
    np.testing.assert_allclose(layer[1].weight.detach().numpy(), expected, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_no_number_is_said():
    layer = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    images = torch.full((4, 3, 2, 2), float("inf"))
    with pytest.raises(AiopError, match="lower the learning rate"):
        train(
            layer, images, torch.zeros(4).long(), batches(torch.arange(4), SMALL, 0), lambda step: 0.1, SMALL
        )


def test_the_loss_and_the_hits_are_those_of_the_rows():
    class Given(nn.Module):
        def forward(self, images):
            return images[:, :2, 0, 0]

    images = torch.zeros(3, 3, 1, 1)
    images[:, :2, 0, 0] = torch.tensor([[0.0, math.log(3)], [5.0, 0.0], [0.0, 0.0]])
    found = judge(Given(), images, torch.tensor([1, 1, 0]), torch.tensor([0, 2]))
    assert found.loss == pytest.approx((math.log(4 / 3) + math.log(2)) / 2, rel=1e-5)
    assert found.top1 == 100  # of equal logits the first class is taken


def test_both_of_a_pair_see_the_same_and_every_image_once_in_a_pass():
    rows = torch.arange(10, 20)
    one, again = (batches(rows, replace(SMALL, steps=0, batch=5), 3) for _ in range(2))
    assert len(one) == 2
    assert sorted(torch.cat([part for part, _, _ in one]).tolist()) == list(range(10, 20))
    assert [part.tolist() for part, _, _ in one] == [part.tolist() for part, _, _ in again]


def test_a_duel_moves_the_loser_alone_and_trains_on_one_half(monkeypatch):
    seen = {"train": set(), "judge": set()}
    from aiop.search.weight_sharing import duels

    def trained(network, images, labels, plan, rate, settings):
        seen["train"] |= {row for rows, _, _ in plan for row in rows.tolist()}
        return train(network, images, labels, plan, rate, settings)

    def judged(network, images, labels, rows):
        seen["judge"] |= set(rows.tolist())
        return judge(network, images, labels, rows)

    monkeypatch.setattr(duels, "train", trained)
    monkeypatch.setattr(duels, "judge", judged)
    search = DuelSearch(pictures(), SMALL, Cells(None, len), seed=1)
    now = search.begin()
    before = now.places.copy()
    search.step(now)
    (record,) = now.duels
    slow = next(learner for learner in record["learners"] if learner != record["fast"])
    assert record["losses"][record["learners"].index(record["fast"])] == min(record["losses"])
    assert {row for row in range(4) if (now.places[row] != before[row]).any()} == {slow}
    # From rest, r2 (fast - slow) with r2 in [0, 1]: never past the fast one.
    share = (now.places[slow] - before[slow]) / (before[record["fast"]] - before[slow])
    assert share.min() >= 0
    assert share.max() <= 1
    assert max(seen["train"]) < 12 <= min(seen["judge"])


@pytest.mark.parametrize("stop", [1, 3, 6])
def test_an_interrupted_search_ends_as_an_uninterrupted_one(stop, tmp_path):
    class Stop(Exception):
        pass

    def interrupt(done, total):
        assert total == 2 * 2 + 4
        if done == stop:
            raise Stop

    whole = searched(tmp_path / "whole")
    with pytest.raises(Stop):
        searched(tmp_path / "parts", progress=interrupt)
    parts = searched(tmp_path / "parts")
    same(state(tmp_path / "parts"), state(tmp_path / "whole"))
    assert parts["best"] == whole["best"]
    assert (tmp_path / "parts" / DUELS).read_text() == (tmp_path / "whole" / DUELS).read_text()


def test_what_a_search_leaves_is_complete(tmp_path):
    document = searched(tmp_path, seed=2)
    assert json.loads((tmp_path / "result.json").read_text()) == document
    assert (document["duels"], document["trainings"]) == (4, 12)
    losses = [entry["value"] for entry in (document["best"], *document["next"])]
    assert losses == sorted(losses)
    assert document["best"]["macs"] == len(document["best"]["code"])
    onnx.checker.check_model(str(tmp_path / "best.onnx"))
    lines = [json.loads(line) for line in (tmp_path / DUELS).read_text().splitlines()]
    assert [line["generation"] for line in lines] == [0, 0, 1, 1]
    assert sorted(learner for line in lines[:2] for learner in line["learners"]) == [0, 1, 2, 3]


def test_the_final_pick_is_the_smallest_mean_over_rounds():
    search = DuelSearch(pictures(), replace(SMALL, rounds=2), Cells(None, len))
    now = search.begin()
    now.finals = [1.0, 2.0, 3.0, 4.0, 5.0, 1.0, 1.0, 4.0]  # means 3, 1.5, 2, 4
    points = search.cells.points
    assert [loss for _, loss in search.ranking(now)] == [1.5, 2.0, 3.0, 4.0]
    assert search.ranking(now)[0][0] == points.decode(now.places[1])


def test_a_seed_decides_everything(tmp_path):
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        searched(tmp_path / name, replace(SMALL, generations=1), seed=seed)
    same(state(tmp_path / "one"), state(tmp_path / "again"))
    assert state(tmp_path / "one")[1]["duels"] != state(tmp_path / "other")[1]["duels"]


def test_no_cell_leaves_the_budget():
    space = get_space("darts")
    random = np.random.default_rng(0)
    usual = sorted(count_macs("darts", space.sample(random)) for _ in range(8))
    budget = (usual[1], usual[6])
    cells = Cells(budget, lambda code: count_macs("darts", code))
    learners = [cells.draw(random) for _ in range(4)]
    for _ in range(3):
        for slow, fast in ((0, 1), (2, 3), (1, 2), (3, 0)):
            learners[slow], _ = cells.move(learners[slow], learners[fast], random.normal(size=32), random)
            assert budget[0] <= count_macs("darts", cells.points.decode(learners[slow])) <= budget[1]


def test_a_budget_that_nothing_meets_is_one_line(tmp_path):
    with pytest.raises(AiopError, match="give a budget between these"):
        searched(tmp_path, budget=(0, 1))


def test_another_search_is_not_mixed_in(tmp_path):
    searched(tmp_path, replace(SMALL, generations=1))
    with pytest.raises(AiopError, match="other seed"):
        searched(tmp_path, replace(SMALL, generations=1), seed=1)
    with pytest.raises(AiopError, match="other settings"):
        searched(tmp_path)


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_damaged_checkpoint_is_one_line(content, tmp_path):
    (tmp_path / STATE).write_bytes(content)
    with pytest.raises(AiopError) as caught:
        searched(tmp_path)
    assert STATE in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"), [("channels", 3), ("cells", 2), ("population", 1), ("rate", 0.0), ("momentum", 1.0)]
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(AiopError, match=setting):
        replace(PRESETS["reduced"], **{setting: value})
