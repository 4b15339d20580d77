"""What the options of a run do to the predictor it leaves."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from run_cases import LATENCY, TASK, make_own_table, make_small_table, settings
from scipy import stats

import aiop
from aiop.errors import AiopError
from aiop.graph_ir.batch import collate
from aiop.graph_ir.features import GRAPH_FEATURES, encode
from aiop.predictor import pretrain_from_config, search_from_config
from aiop.pretrain.data import labelled_corpora
from aiop.pretrain.weights_io import load_predictor
from aiop.tasks import get_task
from aiop.tasks.networks import read
from aiop.tasks.tables import table


@pytest.fixture
def small_table(monkeypatch, tmp_path):
    return make_small_table(monkeypatch, tmp_path)


@pytest.fixture
def my_table(monkeypatch, tmp_path):
    return make_own_table(monkeypatch, tmp_path)


def test_an_excluded_task_leaves_no_trace(small_table, tmp_path, monkeypatch):
    kept_out = pretrain_from_config(settings(tmp_path / "out.yaml", exclude=["latency/*"]), progress=False)
    assert list(kept_out["tasks"]) == [TASK]
    load = table._LOADERS["small"]

    def without(folder):
        found = load(folder)
        return replace(found, values={TASK: found.values[TASK]})

    monkeypatch.setitem(table._LOADERS, "small", without)
    never = pretrain_from_config(settings(tmp_path / "never.yaml", out="never"), progress=False)
    # weights, calibration, references and scores are those of a table that never had the column
    assert never["weights_sha256"] == kept_out["weights_sha256"]
    assert never["tasks"] == kept_out["tasks"]
    assert never["tables"] == kept_out["tables"]


@pytest.mark.parametrize("scaling", ["flops", "residual"])
def test_values_come_back_with_each_networks_own_cost(small_table, tmp_path, scaling):
    pretrain_from_config(settings(tmp_path / "run.yaml", scaling=scaling, tasks=["*top1"]), progress=False)
    module, card, _ = load_predictor(tmp_path / "out")
    (item,), _ = labelled_corpora(["small"], ["*top1"], progress=False)
    batch, train = item.corpus.batch(range(20)), item.rows["train"]
    with torch.no_grad():
        targets, labels = module.members[0].targets(batch)[:, 0].double().numpy(), module(batch)[:, 0]
    scaler = card.tasks[0].scaler
    sizes = item.corpus.graph_features()[:, GRAPH_FEATURES.index("log_macs")].astype(float)
    if scaling == "flops":
        divisor = np.log10(2 * (np.exp2(sizes) - 1) / 1e9 + 1) + 1
        divided = item.values[train, 0] / divisor[train]
        expected = (targets * divided.std() + divided.mean()) * divisor[:20]
    else:
        known = scaler.transform(item.values[train, 0])
        line = stats.linregress(sizes[train], known)
        deviation = np.std(known - line.slope * sizes[train])
        expected = scaler.inverse(targets * deviation + line.intercept + line.slope * sizes[:20])
    np.testing.assert_allclose(scaler.inverse(labels), expected, atol=2e-3)


def test_described_tasks_have_outputs_before_anyone_trained_on_them(small_table, tmp_path):
    path = settings(tmp_path / "run.yaml", heads="description", exclude=["latency/*"], scaling="residual")
    pretrain_from_config(path, progress=False)
    predictor = aiop.load(tmp_path / "out")
    networks = [f"nas-bench-201:{code}" for code in small_table[:8]]
    views = predictor.views(networks)
    found = predictor.zero_shot(views, [LATENCY, TASK, get_task(TASK)])
    assert found.shape == (8, 3)
    assert np.isfinite(found).all()
    assert not np.allclose(found[:, 0], found[:, 1])
    np.testing.assert_array_equal(found[:, 1], found[:, 2])
    # the outputs of the task that was trained on differ by its residual only: they are near
    assert np.corrcoef(found[:, 1], predictor.module(corpus_batch(networks)).numpy()[:, 0])[0, 1] > 0.8
    with pytest.raises(AiopError, match="views have embeddings of 3 numbers"):
        predictor.zero_shot(replace(views, embedding=views.embedding[:, :3]), [TASK])


def corpus_batch(networks):
    return collate([encode(read(network)) for network in networks])


def test_heads_of_indices_know_no_descriptions(small_table, tmp_path):
    pretrain_from_config(settings(tmp_path / "run.yaml", steps=2), progress=False)
    predictor = aiop.load(tmp_path / "out")
    views = predictor.views([f"nas-bench-201:{small_table[0]}"])
    assert predictor.zero_shot(views, []).shape == (1, 0)
    with pytest.raises(AiopError, match="`heads: index` and knows no task by its description"):
        predictor.zero_shot(views, [LATENCY])
    with pytest.raises(AiopError, match="unknown"):
        predictor.zero_shot(views, ["latency/no/such"])


def test_a_watched_table_gives_ranks_and_no_task(small_table, my_table, tmp_path):
    path = settings(tmp_path / "run.yaml", watch=["tables/my.csv"], exclude=["own/*"], steps=5)
    card = pretrain_from_config(path, progress=False)
    assert set(card["tasks"]) == {TASK, LATENCY}
    assert list(card["tables"]) == ["small"]
    records = [json.loads(line) for line in (tmp_path / "out/run/0/log.jsonl").read_text().splitlines()]
    # excluded tasks are not looked at here either
    assert list(records[-1]["ranks"]["my"]) == ["latency/my-phone/batch1"]
    assert -1 < records[-1]["ranks"]["my"]["latency/my-phone/batch1"]["macs"] < 1
    with pytest.raises(AiopError, match="of the watched corpus 'small' is trained on"):
        pretrain_from_config(settings(path, watch=["small"], out="other"), progress=False)


def test_a_limit_of_graphs_is_on_the_card(small_table, tmp_path):
    card = pretrain_from_config(settings(tmp_path / "run.yaml", most_graphs=20), progress=False)
    assert 17 < card["tables"]["small"]["rows"]["train"] <= 20
    assert card["tasks"][TASK]["labels"] == card["tables"]["small"]["rows"]["train"]


def test_settings_are_searched_from_a_file(my_table, tmp_path):
    path = settings(
        tmp_path / "run.yaml", corpora=["tables/my.csv"], search={"lr": [1e-3, 1e-2]}, search_steps=5
    )
    found = search_from_config(path, 2, progress=False)
    assert found["config"] == str(tmp_path / "out" / "search" / "best.yaml")
    assert len(search_from_config(path, 3, progress=False)["trials"]) == 3
    assert len(search_from_config(path, 1, fresh=True, progress=False)["trials"]) == 1
    card = pretrain_from_config(found["config"], progress=False)  # finds its tables from where it lies
    assert card["config"]["steps"] == 60
    assert (tmp_path / "out" / "card.json").exists()
    with pytest.raises(AiopError, match="a search of 0 trials"):
        search_from_config(path, 0, progress=False)
