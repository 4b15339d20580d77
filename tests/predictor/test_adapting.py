"""Adapters of a whole run: further sources for heads, trained with the predictor or afterwards."""

import json

import numpy as np
import pytest
from run_cases import LATENCY, TASK, make_small_table, settings

import aiop
from aiop.errors import AiopError
from aiop.finetune.head import FewShotHead
from aiop.predictor import pretrain_from_config
from aiop.predictor.predictor import ADAPTED
from aiop.pretrain.data import labelled_corpora

ADAPTERS = {"by": "domain", "width": 4, "steps": 10}


@pytest.fixture
def small_table(monkeypatch, tmp_path):
    return make_small_table(monkeypatch, tmp_path)


def small(path, **more):
    return settings(path, **({"steps": 20, "members": 2} | more))


def test_adapters_are_further_sources_and_change_nothing_else(small_table, tmp_path):
    plain_card = pretrain_from_config(small(tmp_path / "plain.yaml", out="plain", members=1), progress=False)
    card = pretrain_from_config(small(tmp_path / "run.yaml", members=1, adapters=ADAPTERS), progress=False)
    plain, adapted = aiop.load(tmp_path / "plain"), aiop.load(tmp_path / "out")
    assert card["tasks"] == plain_card["tasks"]  # calibration and scores of predictions
    networks = [f"nas-bench-201:{code}" for code in small_table[:5]]
    assert adapted.predict(networks) == plain.predict(networks)
    assert np.array_equal(adapted.embed(networks), plain.embed(networks))
    assert plain.sources == plain.names == (TASK, LATENCY)
    assert adapted.sources == (TASK, LATENCY, TASK + ADAPTED, LATENCY + ADAPTED)
    # what is known of a task by name comes before the mark
    assert [name.split("/")[0] for name in adapted.sources[2:]] == ["classification", "latency"]
    (item,), _ = labelled_corpora(["small"], progress=False)
    corpus, rows = item.corpus, np.arange(5)
    seen, before = adapted.views_corpus(corpus, rows), plain.views_corpus(corpus, rows)
    assert seen.sources == adapted.sources
    assert np.array_equal(seen.outputs[:, :2], before.outputs)
    assert np.array_equal(seen.embedding, before.embedding)
    assert not np.allclose(seen.outputs[:, 2:], seen.outputs[:, :2])
    assert seen.outputs[:, 2:].std() > 0.01
    again = adapted.views([f"nas-bench-201:{name.partition(':')[2]}" for name in seen.names])
    np.testing.assert_allclose(again.outputs, seen.outputs, rtol=1e-3, atol=1e-3)
    assert adapted.views([]).outputs.shape == (0, 4)
    # a head takes them
    labels = item.values[rows, 0]
    assert set(FewShotHead().fit(seen, labels).sources_) == set(adapted.sources)
    # and the card says how well they do on test rows
    document = json.loads((tmp_path / "out" / "card.json").read_text())
    found = {task["name"]: task["extra"]["adapter"] for task in document["tasks"]}
    assert found[LATENCY]["group"] == "latency"
    tested = np.isfinite(item.values[item.rows["test"], 1]).sum()
    assert found[LATENCY]["held_out"]["labels"] == tested


def test_adapters_for_a_finished_predictor(small_table, tmp_path):
    whole = pretrain_from_config(
        small(tmp_path / "whole.yaml", out="whole", adapters=ADAPTERS), progress=False
    )
    pretrain_from_config(small(tmp_path / "run.yaml"), progress=False)
    path = small(tmp_path / "run.yaml", adapters=ADAPTERS)
    for file in (tmp_path / "out").rglob("checkpoint.safetensors"):
        file.unlink()  # the finished predictor is all that is needed
    card = pretrain_from_config(path, adapters_only=True, progress=False)
    assert card["weights_sha256"] == whole["weights_sha256"]
    assert card["config"]["adapters"]["by"] == "domain"
    # other adapters take the place of those there are
    other = small(tmp_path / "run.yaml", adapters=ADAPTERS | {"by": "corpus"})
    with pytest.raises(AiopError, match="of adapters with other settings"):
        pretrain_from_config(other, adapters_only=True, progress=False)
    pretrain_from_config(other, adapters_only=True, fresh=True, progress=False)
    groups = {adapter.group.name for adapter in aiop.load(tmp_path / "out").module.adapters}
    assert groups == {"small"}


def test_adapters_need_the_settings_of_their_predictor(small_table, tmp_path):
    pretrain_from_config(small(tmp_path / "run.yaml", members=1, exclude=["latency/*"]), progress=False)
    before = aiop.load(tmp_path / "out").card["weights_sha256"]
    with pytest.raises(AiopError, match="the settings ask for no adapters"):
        pretrain_from_config(tmp_path / "run.yaml", adapters_only=True, progress=False)
    more = small(tmp_path / "run.yaml", members=1, adapters=ADAPTERS)
    with pytest.raises(AiopError, match=f'"{LATENCY}" is not one of the predictor'):
        pretrain_from_config(more, adapters_only=True, progress=False)
    with pytest.raises(AiopError, match="holds no predictor"):
        pretrain_from_config(
            small(tmp_path / "none.yaml", out="none", adapters=ADAPTERS), adapters_only=True, progress=False
        )
    assert aiop.load(tmp_path / "out").card["weights_sha256"] == before
