"""What is compared: every method is made for its task, and none knows what it must not."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from aiop.errors import AiopError
from aiop.finetune.baselines import BASELINES
from aiop.finetune.views import Views
from aiop.protocols import judge
from aiop.protocols.folds import Case, Holder
from aiop.protocols.methods import HEAD, TUNED, Setting, find_methods, match_methods
from aiop.protocols.plan import load_plan
from aiop.tasks import get_task

ACCURACY, LATENCY, RATE = (
    "classification/nas-bench-201/cifar10-test-top1",
    "latency/nas-bench-201/pixel3",
    "throughput/accel-nasbench/a100",
)


@pytest.fixture(scope="module")
def methods():
    return find_methods()


def views(count):
    random = np.random.default_rng(0)
    return Views(
        names=tuple(f"network {i}" for i in range(count)),
        embedding=np.zeros((count, 0), np.float32),
        outputs=np.zeros((count, 0), np.float32),
        graph=random.normal(size=(count, 4)).astype(np.float32),
        macs=np.arange(1.0, count + 1),
        params=np.arange(1.0, count + 1),
        sources=(),
    )


def test_the_head_and_all_baselines_are_there(methods):
    assert list(methods) == [HEAD, TUNED, *BASELINES]
    assert [name for name, method in methods.items() if method.ours] == [HEAD, TUNED]
    assert not any(methods[name].scratch for name in ("transfer-floor", "transfer-gp", "aio-p", HEAD))
    assert methods["forest"].scratch
    assert methods["macs"].ranks_only
    assert methods["forest"].least_labels == BASELINES["forest"].least_labels


@pytest.mark.parametrize(("task", "sign"), [(ACCURACY, 1), (LATENCY, 1), (RATE, -1)])
def test_more_cost_goes_with_less_of_a_rate(methods, task, sign):
    macs = methods["macs"].make(Setting(get_task(task), 0))
    macs.fit(views(0), np.empty(0))
    assert np.all(sign * np.diff(macs.predict(views(5))) > 0)


def test_where_labels_are_many_costs_are_turned_by_them(methods):
    falling = methods["macs"].make(Setting(get_task(ACCURACY), 0, turned=True))
    falling.fit(views(5), -np.arange(5.0))
    assert np.all(np.diff(falling.predict(views(5))) < 0)


def test_methods_are_chosen_by_globs(methods):
    assert set(match_methods(methods, "macs, code-g*")) == {"macs", "code-gp", "code-gp-costs"}
    with pytest.raises(AiopError, match=r'"forst" matches no method .did you mean "forest"'):
        match_methods(methods, "macs,forst")


@pytest.mark.parametrize(
    ("task", "space_seen", "trained_on", "leaks"),
    [
        (ACCURACY, False, "latency/nas-bench-201/raspi4", True),  # the space is to be new
        (ACCURACY, False, "classification/nas-bench-101/cifar10-val-top1", False),
        (ACCURACY, True, "classification/nas-bench-201/cifar100-val-top1", True),  # a near-copy
        (ACCURACY, True, LATENCY, False),
    ],
)
def test_aio_p_is_held_to_the_same_rules(monkeypatch, task, space_seen, trained_on, leaks):
    given = SimpleNamespace(task=trained_on, adapters=())
    monkeypatch.setattr(judge, "_load_aio_p", lambda path: given)
    case = Case("few-shot", Holder("any", Path(), aio_p=Path("any")), get_task(task).space, task, space_seen)
    if leaks:
        with pytest.raises(AiopError, match="which is kept out here"):
            judge._aio_p(case, load_plan())
    else:
        assert judge._aio_p(case, load_plan()) is given
