import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import (
    ConstantKernel,
    DotProduct,
    Kernel,
    Matern,
    WhiteKernel,
)

from aiop.errors import AiopError
from aiop.finetune import gaussian_process
from aiop.finetune.blocks import Block
from aiop.finetune.costs import log_costs
from aiop.finetune.gaussian_process import AdditiveGP
from aiop.finetune.views import Views
from aiop.graph_ir.structure import STRUCTURE_PARTS, STRUCTURE_WIDTH


def views(count, seed=0, sources=4):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(count, 3))
    return Views(
        names=tuple(f"network {seed} {i}" for i in range(count)),
        embedding=(hidden @ rng.normal(size=(3, 6)) + 0.1 * rng.normal(size=(count, 6))).astype(np.float32),
        outputs=rng.normal(size=(count, sources)).astype(np.float32),
        graph=rng.normal(size=(count, 5)).astype(np.float32),
        macs=np.exp(18 + hidden[:, 0]),
        params=np.exp(13 + hidden[:, 1]),
        sources=tuple(f"classification/space/{i}" for i in range(sources)),
    )


def reference(process: AdditiveGP) -> Kernel:
    """Scikit-learn's kernel for a process on one block, of a linear and a Matern-3/2 part."""
    linear, local = np.exp(process.hyper[:2])
    noise = math.exp(process.hyper[-1]) + 1e-6
    return (
        ConstantKernel(linear) * DotProduct(sigma_0=1e-9)
        + ConstantKernel(local) * Matern(math.exp(process.hyper[3]), nu=1.5)
        + ConstantKernel(1.0)
        + WhiteKernel(noise)
    )


@pytest.fixture
def fitted():
    known = views(40)
    targets = np.random.default_rng(5).normal(size=40) + known.outputs[:, 0]
    process = AdditiveGP.fit(known, targets, (("outputs", "linear"), ("outputs", "local")))
    return process, known, targets


def test_mean_and_deviation_are_those_of_scikit_learn(fitted):
    process, _, targets = fitted
    other = GaussianProcessRegressor(reference(process), optimizer=None, alpha=0)
    other.fit(process.support["outputs"], targets)
    new = views(25, seed=1)
    mean, deviation = other.predict(process.blocks["outputs"](new), return_std=True)
    assert process.predict(new) == pytest.approx(mean, abs=1e-8)
    assert process.spread(new) == pytest.approx(deviation, abs=1e-6)


def test_held_out_is_a_fit_without_the_network(fitted):
    process, _, targets = fitted
    points = process.support["outputs"]
    for place in (0, 7, 39):
        rest = np.arange(40) != place
        other = GaussianProcessRegressor(reference(process), optimizer=None, alpha=0)
        mean, deviation = other.fit(points[rest], targets[rest]).predict(points[[place]], return_std=True)
        assert process.held_out[place] == pytest.approx(mean[0], abs=1e-7)
        assert process.deviation[place] == pytest.approx(deviation[0], abs=1e-6)


def test_the_gradient_is_that_of_finite_differences(monkeypatch):
    from scipy import optimize

    seen = []

    def capture(loss, start, **settings):
        seen.append((loss, start))
        return optimize.OptimizeResult(x=start)

    monkeypatch.setattr(optimize, "minimize", capture)
    known = views(15)
    components = (("costs", "linear"), ("costs", "smooth"), ("embedding", "local"))
    AdditiveGP.fit(known, np.sin(np.arange(15.0)), components)
    loss, start = seen[0]
    point = start + 0.3 * np.random.default_rng(0).normal(size=len(start))
    numeric = optimize.approx_fprime(point, lambda x: loss(x)[0], 1e-6)
    assert loss(point)[1] == pytest.approx(numeric, abs=1e-4)


def test_the_view_that_holds_the_target_gets_the_variance():
    known = views(80)
    process = AdditiveGP.fit(
        known, known.outputs[:, 1] * 1.0, (("graph", "linear"), ("outputs", "linear")), seed=0
    )
    assert process.hyper[1] > process.hyper[0] + 2
    slopes = process.slopes("outputs")
    assert np.argmax(np.abs(slopes)) == 1
    assert slopes[1] == pytest.approx(known.outputs[:, 1].std(), rel=0.1)


def test_many_labels_learn_from_a_part_and_use_all(monkeypatch):
    monkeypatch.setattr(gaussian_process, "_SUBSET", 30)
    known = views(60)
    process = AdditiveGP.fit(known, known.outputs[:, 0] * 1.0, (("outputs", "linear"),))
    assert process.predict(known) == pytest.approx(known.outputs[:, 0], abs=0.1)
    assert len(process.weights) == 60


def test_a_block_has_rows_of_length_one_and_no_constant_columns():
    known = views(50)
    graph = known.graph.copy()
    graph[:, 2] = 7.0
    flat = Views(known.names, known.embedding, known.outputs, graph, known.macs, known.params, known.sources)
    block = Block.fit(flat, "graph", np.zeros(50))
    rows = block(flat)
    assert (rows[:, 2] == 0).all()
    assert (rows**2).sum(axis=1).mean() == pytest.approx(1.0, abs=0.02)
    assert log_costs(flat)[0, 0] == pytest.approx(math.log2(1 + flat.macs[0]))


def test_screening_favours_columns_that_go_with_the_labels():
    known = views(50)
    targets = known.graph[:, 3] * 1.0
    stretch = Block.fit(known, "graph", targets, power=1.0).stretch
    correlation = np.array([abs(np.corrcoef(known.graph[:, j], targets)[0, 1]) for j in range(5)])
    assert np.argmax(stretch) == 3
    chance = 1 / 49
    expected = np.sqrt(np.clip((correlation**2 - chance) / (1 - chance), 0, 1) + 0.02)
    assert stretch / stretch[3] == pytest.approx(expected / expected[3], abs=0.01)


def test_no_source_at_all_is_a_view_like_any_other():
    known = views(20, sources=0)
    process = AdditiveGP.fit(known, known.graph[:, 0] * 1.0, (("graph", "linear"), ("outputs", "local")))
    assert np.isfinite(process.predict(known)).all()


def counted(count, seed=0):
    """Views with counts in 60 columns of structure, all parts among them."""
    rng = np.random.default_rng(seed)
    structure = np.zeros((count, STRUCTURE_WIDTH), np.uint8)
    structure[:, ::30] = rng.poisson(3.0, size=(count, len(range(0, STRUCTURE_WIDTH, 30))))
    structure[:, 7] = 4
    return replace(views(count, seed), structure=structure)


def test_structure_keeps_what_varies_and_every_part_weighs_the_same():
    known = counted(50)
    block = Block.fit(known, "structure", np.zeros(50))
    varied = np.flatnonzero(known.structure.std(axis=0) > 0)
    assert block.columns.tolist() == varied.tolist()
    rows = block(known)
    parts = np.repeat(np.arange(len(STRUCTURE_PARTS)), list(STRUCTURE_PARTS.values()))[varied]
    lengths = [(rows[:, parts == part] ** 2).sum(axis=1).mean() for part in range(len(STRUCTURE_PARTS))]
    assert lengths == pytest.approx([1 / len(STRUCTURE_PARTS)] * len(STRUCTURE_PARTS), rel=0.05)
    logs = np.log2(1.0 + known.structure[:, varied])
    same = np.corrcoef(rows[:, 3], logs[:, 3])[0, 1]
    assert same == pytest.approx(1.0, abs=0.01)  # but for what is cut at four deviations


def test_structure_is_learnt_from_and_screened():
    known, new = counted(120), counted(60, seed=1)
    column = 120

    def targets(seen):
        logs = np.log2(1.0 + seen.structure[:, column])
        return (logs - 1.9) / 0.6

    process = AdditiveGP.fit(known, targets(known), (("graph", "linear"), ("structure", "linear")))
    assert process.hyper[1] > process.hyper[0] + 1
    block = process.blocks["structure"]
    assert block.columns[np.argmax(block.stretch)] == column
    assert np.corrcoef(process.predict(new), targets(new))[0, 1] > 0.95


def test_structure_that_nobody_counted_is_no_view_or_a_refusal():
    without, known = views(20), counted(20)
    targets = known.graph[:, 0] * 1.0
    components = (("graph", "linear"), ("structure", "linear"), ("structure", "local"))
    both = AdditiveGP.fit(without, targets, components)
    assert np.corrcoef(both.predict(without), targets)[0, 1] > 0.9
    assert both.predict(known) == pytest.approx(both.predict(without), abs=1e-12)
    with pytest.raises(AiopError, match="view 'structure' has 0 columns, fewer than that of the labelled"):
        AdditiveGP.fit(known, targets, components).predict(without)
