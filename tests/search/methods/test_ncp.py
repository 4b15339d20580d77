"""Network coding propagation: codes as points, what gradients do to them, and students."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from aiop.errors import AiopError
from aiop.search.methods.base import Problem
from aiop.search.methods.code_predictor import CodePredictor, Scaling
from aiop.search.methods.code_vectors import SPACES, code_vectors, onto_simplex
from aiop.search.methods.distilling import settle, sharpened
from aiop.search.methods.judging import Said
from aiop.search.methods.ncp import NetworkCodingPropagation
from aiop.search.methods.propagation import START, objective_weights, propagate, published
from aiop.tasks import get_space

SEG, VIDEO = "segmentation/nas-bench-mr/cityscapes-miou", "video/nas-bench-mr/hmdb51-top1"
CIFAR10 = "classification/nats-size/cifar10-test-top1"


def linear(space, rows, mean, scale, tasks=("task",), target_mean=None, target_scale=None):
    """A predictor whose standardised outputs are ``rows @`` standardised code."""
    rows = np.asarray(rows, np.float64)
    member = nn.Linear(rows.shape[1], len(rows), bias=False)
    with torch.no_grad():
        member.weight.copy_(torch.from_numpy(rows))
    target_mean = np.zeros(len(rows)) if target_mean is None else np.asarray(target_mean, np.float64)
    target_scale = np.ones(len(rows)) if target_scale is None else np.asarray(target_scale, np.float64)
    scaling = Scaling(np.asarray(mean, float), np.asarray(scale, float), target_mean, target_scale, log=False)
    return CodePredictor(code_vectors(space), tasks, scaling, [member])


@pytest.mark.parametrize("space", SPACES)
def test_codes_come_back_from_their_vectors(space):
    random, grammar, vectors = np.random.default_rng(0), get_space(space), code_vectors(space)
    codes = [grammar.sample(random) for _ in range(20)]
    matrix = vectors.encode(codes)
    assert matrix.shape == (20, vectors.width)
    decoded = vectors.decode(matrix)
    assert [grammar.validate(code) for code in decoded] == decoded
    np.testing.assert_array_equal(
        vectors.encode(decoded), matrix
    )  # blocks that are not there have no entries
    if space != "ofa-mbv3":
        assert decoded == codes
    np.testing.assert_array_equal(vectors.nearest(vectors.relax(matrix)), matrix)


@pytest.mark.parametrize("space", SPACES)
def test_any_point_has_a_valid_code(space):
    vectors, grammar = code_vectors(space), get_space(space)
    points = np.random.default_rng(1).normal(size=(15, vectors.width)) * 60
    for code in vectors.decode(points):
        assert grammar.validate(code) == code


def test_numbers_go_to_the_next_allowed_one_and_halves_up():
    vectors = code_vectors("nats-size")
    np.testing.assert_array_equal(
        vectors.nearest(np.array([[12.0, 11.9, 63.0, -5.0, 90.0]])), [[16, 8, 64, 8, 64]]
    )
    np.testing.assert_array_equal(
        vectors.relax(np.array([[12.0, 11.9, 63.0, -5.0, 90.0]])), [[12, 11.9, 63, 8, 64]]
    )


def test_simplex_projection_is_the_nearest_point():
    for point in np.random.default_rng(2).normal(size=(5, 4)):
        for inside in (False, True):
            kind = "ineq" if inside else "eq"
            best = minimize(
                lambda x, point=point: ((x - point) ** 2).sum(), np.full(4, 0.2), bounds=[(0, None)] * 4,
                constraints=[{"type": kind, "fun": lambda x: 1 - x.sum()}], method="SLSQP", options={"ftol": 1e-12},
            ).x  # fmt: skip
            np.testing.assert_allclose(onto_simplex(point[None], inside=inside)[0], best, atol=1e-5)


def test_entries_of_a_block_count_by_how_far_the_depth_reaches_into_it():
    vectors = code_vectors("ofa-mbv3")
    point = np.full((1, vectors.width), 5.0)
    point[0, 40:45] = 2.25
    x = torch.from_numpy(point).requires_grad_()
    seen = vectors.seen(x)
    np.testing.assert_allclose(seen[0, :4].detach(), [5, 5, 1.25, 0])
    seen[0, :4].sum().backward()
    assert x.grad[0, 40].item() == 5.0  # one more block adds its kernel
    assert x.grad[0, 2].item() == 0.25
    valid = vectors.encode([get_space("ofa-mbv3").example])
    np.testing.assert_allclose(vectors.seen(torch.from_numpy(valid)), valid)


def test_a_space_without_vectors_is_refused():
    with pytest.raises(AiopError, match=r"no points that gradients can move.*nas-bench-mr"):
        code_vectors("darts")
    with pytest.raises(AiopError, match="unknown"):
        code_vectors("nas-bench-mrr")


def test_published_search_takes_the_published_steps():
    """With outputs linear in the code every step is the same: 3 * (d value - 0.5 d MACs), then clipped."""
    random = np.random.default_rng(3)
    value, macs = random.normal(size=27) * 0.02, random.normal(size=27) * 0.02
    mean, scale = np.full(27, 30.0), random.uniform(1, 30, 27)
    predictor = linear("nas-bench-mr", [value, macs, np.zeros(27)], mean, scale)
    steps = published(predictor)
    assert len(steps) == 71
    assert steps[0].code == START
    start = np.array([float(number) for number in START.split(",")])
    most, least = np.where(start == 64, 128, 4), np.where(start == 64, 8, 1)
    expected = start
    for number in range(1, 71):
        expected = np.clip(expected + 3 * (value - 0.5 * macs) * scale, least, most)
        np.testing.assert_allclose(steps[number].point, expected, atol=2e-3)
    rounded = [
        int((v + d / 2) // d * d) for v, d in zip(steps[40].point, np.where(start == 64, 8, 1), strict=True)
    ]
    assert steps[40].code == ",".join(map(str, rounded))
    z = (np.array(rounded) - mean) / scale
    np.testing.assert_allclose(steps[40].predicted, [value @ z, macs @ z, 0], atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_the_best_code_within_a_budget_is_nearly_found(seed):
    random = np.random.default_rng(seed)
    grid = np.array(list(itertools.product(range(8, 65, 8), repeat=5)), float)
    mean, scale = grid.mean(axis=0), grid.std(axis=0)
    value, macs = random.uniform(0.2, 1, 5), random.uniform(0.2, 1, 5)
    predictor = linear("nats-size", [value, macs, np.zeros(5)], mean, scale, target_mean=[0, 10, 0])
    z = (grid - mean) / scale
    worth, cost = z @ value, z @ macs + 10
    starts = [":".join(str(int(n)) for n in grid[place]) for place in random.integers(len(grid), size=12)]
    for at_valid in (True, False):
        found = propagate(predictor, starts, np.ones(1), budget=(0, 10.0), at_valid=at_valid)
        assert (found.predicted[:, 1] <= 10.0).all()
        assert found.objective[0] == max(found.objective)
        assert len(set(found.codes)) == len(found.codes) <= found.visited
        best = worth[cost <= 10].max()
        better = (worth[cost <= 10] > found.objective[0] + 1e-6).mean()
        assert better < 2e-3, (found.objective[0], best)
    best_of_all = propagate(predictor, starts, np.ones(1), cost=0.0)
    assert best_of_all.codes[0] == "64:64:64:64:64"


def test_the_best_cell_is_found_and_a_task_may_weigh_more():
    random = np.random.default_rng(4)
    worth = random.normal(size=(2, 30))
    rows = [*worth, np.zeros(30), np.zeros(30)]
    predictor = linear("nas-bench-201", rows, np.full(30, 0.2), np.full(30, 0.4), tasks=("one", "two"))
    space = get_space("nas-bench-201")
    starts = [space.sample(random) for _ in range(4)]
    for weights in ([1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [-1.0, 0.0]):
        best = (np.asarray(weights) @ worth).reshape(6, 5).argmax(axis=1)
        found = propagate(predictor, starts, np.array(weights), cost=0.0)
        chosen = code_vectors("nas-bench-201").encode(found.codes[:1]).reshape(6, 5).argmax(axis=1)
        np.testing.assert_array_equal(chosen, best)


def test_weights_of_tasks():
    np.testing.assert_allclose(objective_weights(("a", "b"), ("max", "min"), {"a": 3}), [0.75, -0.25])
    with pytest.raises(AiopError, match='"c"'):
        objective_weights(("a",), ("max",), {"c": 1})
    with pytest.raises(AiopError, match="above 0"):
        objective_weights(("a",), ("max",), {"a": -1})


def truth(codes):
    """Two values and two costs of codes of NATS-Bench size."""
    x = code_vectors("nats-size").encode(codes) / 64
    values = np.stack([50 + 30 * np.sqrt(x).sum(axis=1), 9 - x[:, 0] ** 2 - x[:, 4]], axis=1)
    return values, 1e8 * (x[:, :-1] * x[:, 1:]).sum(axis=1), 1e6 * x.sum(axis=1)


@pytest.fixture(scope="module")
def student():
    random = np.random.default_rng(0)
    codes = [get_space("nats-size").sample(random) for _ in range(500)]
    return CodePredictor.student("nats-size", codes, *truth(codes), tasks=("a", "b"), epochs=60)


def test_a_student_learns_values_and_costs_and_is_kept(student, tmp_path):
    random = np.random.default_rng(1)
    codes = [get_space("nats-size").sample(random) for _ in range(200)]
    values, macs, params = truth(codes)
    said = student.predict(codes)
    for column, real in enumerate([*values.T, macs, params]):
        assert np.corrcoef(said[:, column], real)[0, 1] > 0.99
    assert np.median(np.abs(said[:, 2] / macs - 1)) < 0.05
    student.save(tmp_path / "s.safetensors", "key")
    again = CodePredictor.load(tmp_path / "s.safetensors", "key")
    assert again.tasks == ("a", "b")
    np.testing.assert_array_equal(again.predict(codes), said)
    with pytest.raises(AiopError, match="no student of this search"):
        CodePredictor.load(tmp_path / "s.safetensors", "another")


def test_few_known_rows_are_refused():
    with pytest.raises(AiopError, match="at least 2"):
        CodePredictor.student(
            "nats-size",
            ["8:8:8:8:8"] * 3,
            np.array([1, np.nan, np.nan]),
            np.ones(3),
            np.ones(3),
            tasks=("a",),
        )


class Stated:
    """Stands for a judge of `truth`, sure of the first value unless the first number is 8."""

    directions = ("max", "min")

    def __call__(self, codes, progress=None):
        values, macs, params = truth(codes) if len(codes) else (np.zeros((0, 2)), np.zeros(0), np.zeros(0))
        wide = np.array([[30.0 if code.startswith("8:") else 1.0, 1.0] for code in codes]).reshape(-1, 2)
        inside = np.ones(values.shape, bool)
        return Said(values, values - wide, values + wide, inside, macs, params)


def test_the_predictor_has_the_last_word(student):
    aims = np.array([0.5, -0.5])
    starts = ["8:8:8:8:8", "64:8:64:8:64"]
    found = propagate(student, starts, aims, budget=(0, 1.5e8), steps=20).codes
    for cautious in (False, True):
        codes, said = settle(found, Stated(), student, aims, (0, 1.5e8), most=12, cautious=cautious)
        assert set(codes) <= set(found[:12])
        assert (said.macs <= 1.5e8).all()
        values, macs, _ = truth(codes)
        np.testing.assert_array_equal(said.values, values)
        np.testing.assert_array_equal(said.macs, macs)
        told = values.copy()
        if cautious:  # the low end of what is better when larger, the high end of the other
            told += [[-30.0 if code.startswith("8:") else -1.0, 1.0] for code in codes]
        scores = (told - student.scaling.mean[:2]) / student.scaling.scale[:2] @ aims
        assert (np.diff(scores) <= 1e-9).all()
    assert settle(["64:64:64:64:64"], Stated(), student, aims, (0, 1.0))[0] == []


def test_sharpening_adds_what_students_lead_to():
    random = np.random.default_rng(5)
    codes = list(dict.fromkeys(get_space("nats-size").sample(random) for _ in range(60)))
    known, parts = sharpened(codes, truth(codes), truth, "nats-size", ("a", "b"), rounds=1)
    assert known[: len(codes)] == codes
    assert len(set(known)) == len(known) > len(codes) + 20
    for part, real in zip(parts, truth(known), strict=True):
        np.testing.assert_array_equal(part, real)


def test_a_given_student_is_followed(student):
    macs = {}
    problem = Problem(
        "nats-size", (CIFAR10,), lambda code: macs.setdefault(code, truth([code])[1][0]), (0, 2e8)
    )
    with pytest.raises(AiopError, match="predicts a, b of nats-size"):
        NetworkCodingPropagation(problem, student=student)
    codes = [get_space("nats-size").sample(np.random.default_rng(seed)) for seed in range(300)]
    values, costs, params = truth(codes)
    own = CodePredictor.student("nats-size", codes, values[:, 0], costs, params, tasks=(CIFAR10,), epochs=60)
    search = NetworkCodingPropagation(problem, student=own)
    asked = [search.ask() for _ in range(5)]
    every = [code for code in codes if truth([code])[1][0] <= 2e8]
    assert all(truth([code])[1][0] <= 2e8 for code in asked)
    assert truth(asked)[0][:, 0].min() > np.quantile(truth(every)[0][:, 0], 0.9)
    with pytest.raises(AiopError, match="no points that gradients can move"):
        NetworkCodingPropagation(
            Problem("nas-bench-101", ("classification/nas-bench-101/cifar10-val-top1",), len)
        )


def test_several_tasks_need_a_predictor():
    problem = Problem("nas-bench-mr", (SEG, VIDEO), len)
    with pytest.raises(AiopError, match="by a predictor alone"):
        NetworkCodingPropagation(problem)


def test_several_tasks_are_followed_by_weight():
    """Of one task more width is better, of the other less: the heavier one decides."""
    tasks = ("classification/nas-bench-mr/cls-10c-top1", VIDEO)
    rows = np.zeros((4, 27))
    rows[0], rows[1] = 0.1, -0.1
    predictor = linear("nas-bench-mr", rows, np.full(27, 30.0), np.full(27, 20.0), tasks=tasks)
    for weights, wide in (({tasks[0]: 3.0}, True), ({VIDEO: 3.0}, False)):
        problem = Problem("nas-bench-mr", tasks, len, weights=weights)
        code = NetworkCodingPropagation(problem, student=predictor).ask()
        channels = [int(number) for number in code.split(",")]
        assert channels[0] == channels[-1] == (128 if wide else 8)
