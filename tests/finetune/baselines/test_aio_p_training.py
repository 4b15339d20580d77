from dataclasses import replace

import numpy as np
import pytest
import torch

from aiop.errors import AiopError
from aiop.finetune.baselines.aio_p import (
    AioP,
    FewShotAioP,
    GraphStore,
    PublishedGraph,
    Settings,
    load_aio_p,
    train_adapter,
    train_base,
)
from aiop.finetune.baselines.aio_p.labels import per_flops
from aiop.finetune.baselines.aio_p.store import pack
from aiop.finetune.baselines.aio_p.training import outputs
from aiop.finetune.baselines.aio_p.vocabulary import INDEX
from aiop.finetune.metrics import mae, srcc
from aiop.finetune.views import Views

QUICK = Settings(scaling="stand", epochs=12, rate=3e-3)


@pytest.fixture(scope="module")
def graphs():
    """Chains of 5 to 8 nodes, each a convolution or a pool of some width."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(160):
        count = int(rng.integers(5, 9))
        nodes = np.zeros((count, 10), np.int32)
        nodes[:, 0] = np.where(rng.random(count) < 0.5, INDEX["Conv"], INDEX["Avgpool"])
        nodes[:, 1:5], nodes[:, 5:7] = 32, rng.integers(16, 512)
        nodes[nodes[:, 0] == INDEX["Conv"], 7:9] = 3
        edges = np.stack([np.arange(count - 1), np.arange(1, count)]).astype(np.int32)
        found.append(PublishedGraph(nodes, edges, (256, 256, 512), float(rng.uniform(0.1, 3))))
    return found


@pytest.fixture(scope="module")
def values(graphs):
    """Share of convolutions: what a mean over nodes can tell."""
    return np.array([60 + 30 * np.mean(graph.nodes[:, 0] == INDEX["Conv"]) for graph in graphs])


@pytest.fixture(scope="module")
def base(graphs, values):
    return train_base(graphs[:120], values[:120], "shares", QUICK, progress=False)


def few_shot(graphs, **options):
    """A few-shot AIO-P over these graphs, and views of them."""
    names = [f"g{i}" for i in range(len(graphs))]
    count = len(names)
    nothing, ones = np.zeros((count, 1)), np.ones(count)
    views = Views(tuple(names), nothing, np.zeros((count, 0)), nothing, ones, ones, ())
    return FewShotAioP(store=GraphStore(names, pack(graphs)), **options), views


def test_a_small_training_learns_and_repeats_itself(graphs, values, base):
    found = outputs(base.network.base, graphs[120:])
    assert srcc(found, values[120:]) > 0.9
    again = train_base(graphs[:120], values[:120], "shares", QUICK, progress=False)
    np.testing.assert_array_equal(outputs(again.network.base, graphs[120:]), found)


def test_an_adapter_learns_beside_a_base_that_stays(graphs, values, base):
    pools = 200 - 2 * values
    holed = pools.copy()
    holed[::7] = np.nan
    adapted = train_adapter(base, graphs[:120], holed[:120], "pools", QUICK, progress=False)
    assert adapted.adapters == ("pools",)
    assert not base.network.adapters
    assert srcc(outputs(adapted.network, graphs[120:])[:, 0], pools[120:]) > 0.9
    for name, tensor in base.network.state_dict().items():
        assert torch.equal(adapted.network.state_dict()[name], tensor), name


def test_an_interrupted_run_goes_on_to_the_same_end(graphs, values, tmp_path):
    settings = replace(QUICK, epochs=4)
    whole = train_base(graphs[:60], values[:60], "shares", settings, progress=False)
    state = tmp_path / "base.state"
    train_base(
        graphs[:60], values[:60], "shares", replace(settings, epochs=2), checkpoint=state, progress=False
    )
    resumed = train_base(graphs[:60], values[:60], "shares", settings, checkpoint=state, progress=False)
    np.testing.assert_array_equal(outputs(resumed.network, graphs[:9]), outputs(whole.network, graphs[:9]))
    with pytest.raises(AiopError, match="other data or settings"):
        train_base(graphs[:60], values[:60] + 1, "shares", settings, checkpoint=state, progress=False)
    with pytest.raises(AiopError, match="at least 10"):
        train_base(graphs[:9], values[:9], "shares", settings, progress=False)
    with pytest.raises(AiopError, match="give one each"):
        train_base(graphs[:60], values[:20], "shares", settings, progress=False)


def test_files_hold_everything(graphs, base, tmp_path):
    adapted = train_adapter(
        base, graphs[:40], np.arange(40.0), "order", replace(QUICK, epochs=1), progress=False
    )
    adapted.save(tmp_path / "aio_p.safetensors")
    loaded = load_aio_p(tmp_path / "aio_p.safetensors")
    assert (loaded.task, loaded.adapters) == ("shares", ("order",))
    assert loaded.settings["order"]["epochs"] == 1
    np.testing.assert_array_equal(outputs(loaded.network, graphs[:5]), outputs(adapted.network, graphs[:5]))
    (tmp_path / "other").write_bytes(b"nothing of the kind")
    with pytest.raises(AiopError, match="other"):
        load_aio_p(tmp_path / "other")


def test_without_fine_tuning_labels_give_mean_and_deviation_only(graphs, values, base):
    baseline, views = few_shot(graphs, pretrained=base, scaling="stand")
    labels = 3 * values[:20] - 50
    predicted = baseline.fit(views.rows(range(20)), labels).predict(views)
    raw = outputs(base.network, graphs)[:, 0]
    np.testing.assert_allclose(predicted, raw * labels.std() + labels.mean())
    by_flops, _ = few_shot(graphs, pretrained=base)
    gflops = np.array([graph.gflops for graph in graphs])
    quotient = labels / per_flops(gflops[:20])
    expected = (raw * quotient.std() + quotient.mean()) * per_flops(gflops)
    np.testing.assert_allclose(by_flops.fit(views.rows(range(20)), labels).predict(views), expected)


def test_adapters_are_combined_by_their_mean(graphs, values, base):
    both = base
    for task, sign in (("shares again", 1), ("turned round", -1)):
        both = train_adapter(
            both, graphs[:60], sign * values[:60], task, replace(QUICK, epochs=2), progress=False
        )
    baseline, views = few_shot(graphs, pretrained=both, scaling="stand")
    predicted = baseline.fit(views.rows(range(20)), values[:20]).predict(views)
    mean = outputs(both.network, graphs).mean(axis=1)
    np.testing.assert_allclose(predicted, mean * values[:20].std() + values[:20].mean())


@pytest.mark.parametrize(
    ("tuning", "moves"),
    [
        ("heads", {"adapter head"}),
        ("heads+base", {"adapter head", "layers"}),
        ("heads+adapters", {"adapter head", "adapter layers"}),
        ("all", {"adapter head", "adapter layers", "layers"}),
    ],
)
def test_fine_tuning_moves_what_it_says(graphs, values, base, tuning, moves):
    adapted = train_adapter(
        base, graphs[:40], -values[:40], "turned round", replace(QUICK, epochs=1), progress=False
    )
    before = {name: tensor.clone() for name, tensor in adapted.network.state_dict().items()}
    baseline, views = few_shot(graphs, pretrained=adapted, scaling="stand", tuning=tuning, epochs=3)
    fitted = baseline.fit(views.rows(range(20)), values[:20])
    after = fitted._network.state_dict()
    moved = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    kinds = {
        "adapter head"
        if ".head." in name
        else "adapter layers"
        if name.startswith("adapters")
        else name.split(".")[0]
        for name in moved
    }
    assert kinds == moves
    for name, tensor in adapted.network.state_dict().items():
        assert torch.equal(before[name], tensor), name  # what was given stays as it was
    untouched, _ = few_shot(graphs, pretrained=adapted, scaling="stand")
    at_first = untouched.fit(views.rows(range(20)), values[:20]).predict(views.rows(range(20)))
    assert mae(fitted.predict(views.rows(range(20))), values[:20]) < mae(at_first, values[:20])


def test_an_unknown_tuning_is_refused(base):
    with pytest.raises(AiopError, match='"everything" is unknown'):
        FewShotAioP(pretrained=base, tuning="everything")
    assert isinstance(base, AioP)
