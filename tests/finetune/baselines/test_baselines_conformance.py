"""What every baseline must do, whatever it learns from."""

import sys

import numpy as np
import pytest
import torch

from aiop.errors import AiopError
from aiop.finetune.baselines import BASELINES, OtherTasks, estimators, get_baseline
from aiop.finetune.baselines.aio_p import AioP, GraphStore
from aiop.finetune.baselines.aio_p.network import Adapter, AioPNetwork
from aiop.finetune.metrics import srcc
from aiop.finetune.views import Views
from aiop.graph_ir.features import encode
from aiop.tasks import get_space
from aiop.tasks.networks import read

LABELLED = 24


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch):
    monkeypatch.setattr(estimators, "_TREES", 30)


@pytest.fixture(scope="module")
def views():
    space, rng = get_space("nas-bench-201"), np.random.default_rng(3)
    codes = list(dict.fromkeys(space.sample(rng) for _ in range(60)))[:48]
    names = tuple(f"nas-bench-201:{code}" for code in codes)
    graphs = [read(name) for name in names]
    return Views(
        names=names,
        embedding=np.zeros((len(names), 1), np.float32),
        outputs=np.zeros((len(names), 0), np.float32),
        graph=np.stack([encode(graph).graph for graph in graphs]),
        macs=np.array([graph.macs for graph in graphs], np.float64),
        params=np.array([graph.params for graph in graphs], np.float64),
        sources=(),
    )


@pytest.fixture(scope="module")
def values(views):
    """Accuracies as a space might have them: more convolutions help, pools a little, emptiness does not."""
    weights = {
        "nor_conv_3x3": 5.0,
        "nor_conv_1x1": 3.0,
        "skip_connect": 2.0,
        "avg_pool_3x3": 1.0,
        "none": 0.0,
    }
    return np.array(
        [
            50.0 + sum(worth * name.count(operation) for operation, worth in weights.items())
            for name in views.names
        ]
    )


@pytest.fixture(scope="module")
def make(views, values):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = AioPNetwork()
        network.adapters.extend([Adapter(), Adapter()])
    aio_p, store = AioP(network, "none", ("one", "other"), {}), GraphStore()
    others = OtherTasks(views.names, {"like it": values**2, "unlike it": -views.params})

    def made(name, **options):
        if name.startswith("ncp"):
            options |= {"epochs": 60}
        if name.startswith("transfer"):
            options |= {"others": others}
        if name.startswith("aio-p"):
            options |= {"pretrained": aio_p, "store": store}
        if name == "aio-p-tuned":
            options |= {"epochs": 1}
        if name not in ("macs", "cost-rank"):
            options.setdefault("seed", 1)
        return BASELINES[name](**options)

    return made


@pytest.fixture(params=sorted(BASELINES))
def name(request):
    if "xgboost" in request.param:
        pytest.importorskip("xgboost", reason="the extra aiop[baselines] is not installed")
    return request.param


def test_predicts_one_finite_number_each_and_repeats_itself(name, make, views, values):
    few, rest = views.rows(range(LABELLED)), views.rows(range(LABELLED, len(views)))
    labels = values[:LABELLED].copy()
    baseline = make(name)
    assert baseline.fit(few, labels) is baseline
    assert baseline.name == name
    predicted = baseline.predict(rest)
    assert predicted.shape == (len(rest),)
    assert np.isfinite(predicted).all()
    assert baseline.predict(rest.rows([])).shape == (0,)
    assert baseline.predict(rest.rows([2])).shape == (1,)
    assert (labels == values[:LABELLED]).all()
    np.testing.assert_array_equal(make(name).fit(few, labels).predict(rest), predicted)
    if not name.startswith("aio-p"):  # whose weights are random here
        assert srcc(baseline.predict(views), values) > 0.5
    if baseline.ranks_only:
        return
    # in the unit of the labels: a doubled unit doubles what comes out, to the last digit
    doubled = make(name).fit(few, 2 * labels).predict(rest)
    np.testing.assert_allclose(doubled, 2 * predicted, rtol=1e-6)
    constant = make(name).fit(few, np.full(LABELLED, 7.5)).predict(rest)
    np.testing.assert_allclose(constant, 7.5)


def test_bad_labels_are_refused_in_one_line(name, make, views, values):
    few = views.rows(range(4))
    for wrong, said in ((np.nan, "nan"), (np.inf, "inf")):
        labels = values[:4].copy()
        labels[2] = wrong
        with pytest.raises(AiopError, match=said) as caught:
            make(name).fit(few, labels)
        assert few.names[2] in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(AiopError, match=r"3.*4 networks"):
        make(name).fit(few, values[:3])
    least = make(name).least_labels
    if least:
        with pytest.raises(AiopError, match=f"at least {least} labels, found {least - 1}"):
            make(name).fit(views.rows(range(least - 1)), values[: least - 1])
    else:
        assert make(name).fit(views.rows([]), np.empty(0)).predict(views).shape == (len(views),)


@pytest.mark.parametrize("name", ["forest", "code-ridge", "transfer-gp"])
def test_logarithms_are_for_values_above_zero(name, make, views, values):
    few = views.rows(range(LABELLED))
    latencies = np.exp(values[:LABELLED] / 5)
    predicted = make(name, transform="log").fit(few, latencies).predict(views)
    plain = make(name).fit(few, values[:LABELLED] / 5).predict(views)
    np.testing.assert_allclose(np.log(predicted), plain, rtol=1e-4)
    with pytest.raises(AiopError, match="-1, which has no logarithm"):
        make(name, transform="log").fit(few, np.full(LABELLED, -1.0))


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(AiopError, match=r'"forrest" is unknown .did you mean "forest"'):
        get_baseline("forrest")


def test_what_transfers_has_to_be_given(views, values):
    with pytest.raises(AiopError, match="knows no other tasks"):
        BASELINES["transfer-floor"]().fit(views, values)
    with pytest.raises(AiopError, match="no trained predictor"):
        BASELINES["aio-p"]().fit(views, values)


def test_without_xgboost_the_error_says_how_to_install_it(monkeypatch, views, values):
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(AiopError, match=r'pip install "aiop\[baselines\]"'):
        BASELINES["xgboost"]().fit(views, values)
