from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.preprocessing import PowerTransformer

from aiop.finetune.label_scale import LabelScale, Warp
from aiop.finetune.members import MEMBERS, CostMember
from aiop.finetune.tree_member import TreeMember, _features
from aiop.finetune.tuned_member import with_tuned
from aiop.finetune.views import Views


def views(count, seed=0):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(count, 3))
    return Views(
        names=tuple(f"network {seed} {i}" for i in range(count)),
        embedding=np.tanh(hidden @ np.random.default_rng(99).normal(size=(3, 8))).astype(np.float32),
        outputs=(hidden @ np.array([[1, 0.2], [0, 1], [0.5, -1]])).astype(np.float32),
        graph=np.concatenate([hidden, rng.normal(size=(count, 3))], axis=1).astype(np.float32),
        macs=np.exp(18 + hidden[:, 0]),
        params=np.exp(13 + 0.5 * hidden[:, 0] + 0.5 * hidden[:, 1]),
        sources=("classification/a/x", "segmentation/b/y"),
        structure=rng.poisson(np.exp(0.5 * hidden[:, [0, 1] * 20])).astype(np.uint8),
    )


def targets_of(seen):
    values = seen.graph[:, 0] + 0.5 * seen.graph[:, 1] ** 2
    return (values - values.mean()) / values.std()


def seen_by(name, count, seed=0):
    """What a member is fitted on: one of them reads a source that is made for it."""
    seen = views(count, seed)
    if name != "tuned":
        return seen
    noise = np.random.default_rng(seed + 5).normal(size=count)
    return with_tuned(seen, targets_of(seen) + 0.4 * noise)


@pytest.mark.parametrize("name", MEMBERS)
class TestEveryMember:
    def test_held_out_and_new_networks_are_predicted(self, name):
        known, new = seen_by(name, 80), seen_by(name, 200, seed=1)
        member = MEMBERS[name].fit(known, targets_of(known), seed=0, sign=1)
        least = 0.4 if name == "costs" else 0.7
        assert np.corrcoef(member.held_out, targets_of(known))[0, 1] > least
        assert np.corrcoef(member.predict(new), targets_of(new))[0, 1] > least

    def test_a_label_has_no_part_in_what_is_held_out_of_its_network(self, name):
        known = seen_by(name, 12)
        targets = targets_of(known)
        before = MEMBERS[name].fit(known, targets, seed=0, sign=1).held_out
        changed = targets.copy()
        changed[3] += 40.0
        after = MEMBERS[name].fit(known, changed, seed=0, sign=1).held_out
        if name == "costs":  # in closed form its centre is that of the other labels
            assert after[3] == pytest.approx(before[3])
        elif name != "trees":  # a bootstrap sees other labels, but the trees are drawn by the same numbers
            assert after[3] == pytest.approx(before[3], abs=1e-9)
        assert np.abs(np.delete(after - before, 3)).max() > 1e-3

    def test_the_same_seed_gives_the_same_numbers(self, name):
        known, new = seen_by(name, 9), seen_by(name, 30, seed=1)
        one, two = (MEMBERS[name].fit(known, targets_of(known), seed=3, sign=1) for _ in range(2))
        assert (one.predict(new) == two.predict(new)).all()
        assert (one.held_out == two.held_out).all()

    def test_its_state_predicts_the_same(self, name):
        known, new = seen_by(name, 9), seen_by(name, 40, seed=1)
        member = MEMBERS[name].fit(known, targets_of(known), seed=0, sign=1)
        again = MEMBERS[name].from_state(*member.to_state())
        assert (again.predict(new) == member.predict(new)).all()

    def test_two_labels_are_enough(self, name):
        member = MEMBERS[name].fit(seen_by(name, 2), np.array([-1.0, 1.0]), seed=0, sign=1)
        assert np.isfinite(member.predict(seen_by(name, 5, seed=2))).all()
        assert np.isfinite(member.held_out).all()


def test_trees_as_arrays_predict_what_scikit_learn_does():
    known, new = views(60), views(500, seed=1)
    targets = targets_of(known)
    member = TreeMember.fit(known, targets, seed=4, sign=1)
    forest = ExtraTreesRegressor(
        150, random_state=4, bootstrap=True, max_features=0.5, max_leaf_nodes=512, min_samples_leaf=2,
        oob_score=True,
    ).fit(_features(known), targets)  # fmt: skip
    assert member.predict(new) == pytest.approx(forest.predict(_features(new)), abs=1e-6)
    assert member.held_out == pytest.approx(forest.oob_prediction_, abs=1e-6)


def test_costs_with_one_pair_of_labels_keep_half_of_the_expected_sign():
    known = views(2)
    x = np.log2(1 + known.macs)
    up = np.where(x == x.max(), 1.0, -1.0)
    for sign in (1, -1):
        for targets in (up, -up):
            member = CostMember.fit(known, targets, seed=0, sign=sign)
            y = known.params
            trend = (up + np.where(y == y.max(), 1.0, -1.0)) / 2
            # ridge about a slope of half a deviation that weighs like four labels
            expected = (trend @ targets + 4 * 0.5 * sign) / (trend @ trend + 4)
            assert member.slope == pytest.approx(expected)


def test_a_warp_is_the_power_transform_of_scikit_learn():
    values = np.random.default_rng(0).gamma(1.0, size=200) - 2.0
    warp = Warp.fit(values)
    other = PowerTransformer().fit(values[:, None])
    assert warp.power == pytest.approx(other.lambdas_[0], abs=1e-3)
    assert warp.forward(values) == pytest.approx(other.transform(values[:, None])[:, 0], abs=1e-2)
    assert warp.backward(warp.forward(values)) == pytest.approx(values, abs=1e-9)


@pytest.mark.parametrize("power", [-2.0, 0.0, 0.5, 2.0, 4.0])
def test_a_warp_goes_there_and_back(power):
    values = np.linspace(-4, 4, 41)
    warp = Warp(power, 0.1, 2.0)
    assert warp.backward(warp.forward(values)) == pytest.approx(values, abs=1e-6)


def test_one_failed_run_does_not_set_the_scale():
    values = np.append(np.random.default_rng(0).normal(70, 1, size=60), 0.1)
    scale = LabelScale.fit(values)
    assert 0.7 < scale.scale < 1.6
    assert scale.forward(values)[-1] == pytest.approx(-3.5 - 7.5 / 3)  # as far as targets go
    inside = np.array([68.0, 70.0, 73.0])
    assert scale.backward(scale.forward(inside)) == pytest.approx(inside)
    assert (np.diff(scale.backward(np.linspace(-9, 9, 50))) > 0).all()


def test_under_a_logarithm_twice_as_much_is_the_same_step():
    scale = LabelScale.fit(np.array([1.0, 2.0, 4.0, 8.0]), "log")
    assert np.diff(scale.forward(np.array([1.0, 2.0, 4.0, 8.0]))) == pytest.approx([1 / np.sqrt(1.25)] * 3)
    assert scale.backward(scale.forward(np.array([3.0])))[0] == pytest.approx(3.0)


def test_columns_screened_with_a_label_have_no_part_in_what_is_held_out_of_it():
    found, closed = [], []
    for seed in range(3):
        known = views(80, seed)
        noise = np.random.default_rng(seed + 50).normal(size=80)
        chance = np.random.default_rng(seed + 70).poisson(1.0, size=(80, 600)).astype(np.uint8)
        member = MEMBERS["gp-counting"].fit(replace(known, structure=chance), noise, seed=0, sign=1)
        found.append(np.mean((member.held_out - noise) ** 2) / noise.var())
        closed.append(np.mean((member.process.held_out - noise) ** 2) / noise.var())
    assert np.mean(found) > 0.95  # nothing predicts noise
    assert np.mean(closed) < 0.9  # with the columns that go with it by chance


@pytest.mark.parametrize(
    ("array", "change"),
    [
        ("left", lambda left: np.where(left >= 0, np.arange(len(left)), left)),  # every node its own child
        ("right", lambda right: np.where(right >= 0, 0, right)),  # back to the root
        ("left", lambda left: np.where(left >= 0, len(left), left)),  # beyond the last node
        ("roots", lambda roots: roots - 1),
        ("value", lambda value: value[:-1]),
    ],
)
def test_trees_that_do_not_end_are_refused(array, change):
    known = views(20)
    arrays, document = TreeMember.fit(known, targets_of(known), seed=0, sign=1).to_state()
    TreeMember.from_state(arrays, document)
    with pytest.raises(ValueError, match="tree"):
        TreeMember.from_state(arrays | {array: change(arrays[array])}, document)
