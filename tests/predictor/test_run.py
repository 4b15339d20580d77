"""A whole pretraining run on a small table, from YAML to predictions."""

import pytest
from run_cases import LATENCY, TASK, make_own_table, make_small_table, settings

import aiop
from aiop.errors import AiopError
from aiop.predictor import pretrain_from_config


@pytest.fixture
def small_table(monkeypatch, tmp_path):
    return make_small_table(monkeypatch, tmp_path)


@pytest.fixture
def my_table(monkeypatch, tmp_path):
    return make_own_table(monkeypatch, tmp_path)


def test_from_settings_to_predictions(small_table, tmp_path):
    card = pretrain_from_config(settings(tmp_path / "run.yaml"), progress=False)
    assert set(card["tasks"]) == {TASK, LATENCY}
    assert card["tables"]["small"]["files"] == {"small.parquet": "0" * 64}
    assert card["tasks"][TASK]["labels"] == card["tables"]["small"]["rows"]["train"]
    assert card["tasks"][LATENCY]["labels"] < card["tasks"][TASK]["labels"]
    predictor = aiop.load(tmp_path / "out")
    heavy = "nas-bench-201:" + max(small_table, key=lambda code: code.count("3x3"))
    light = "nas-bench-201:" + min(small_table, key=lambda code: code.count("conv"))
    first, second = predictor.predict([heavy, light])
    assert first[TASK].value > second[TASK].value
    assert first[LATENCY].macs_only > second[LATENCY].macs_only
    # a second call finds the run complete and leaves the same weights
    assert (
        pretrain_from_config(tmp_path / "run.yaml", progress=False)["weights_sha256"]
        == card["weights_sha256"]
    )


def test_other_settings_do_not_continue_a_run_unless_told_to_begin_anew(small_table, tmp_path):
    pretrain_from_config(settings(tmp_path / "run.yaml"), progress=False)
    changed = settings(tmp_path / "run.yaml", lr=0.01)
    with pytest.raises(AiopError, match="of a run with other settings"):
        pretrain_from_config(changed, progress=False)
    before = aiop.load(tmp_path / "out").card["weights_sha256"]
    card = pretrain_from_config(changed, fresh=True, progress=False)
    assert card["weights_sha256"] != before
    assert aiop.load(tmp_path / "out").card["weights_sha256"] == card["weights_sha256"]


def test_an_unknmy_table_is_one_clear_error(small_table, tmp_path):
    with pytest.raises(AiopError, match=r'did you mean "small"'):
        pretrain_from_config(settings(tmp_path / "run.yaml", corpora=["smal"]), progress=False)
    with pytest.raises(AiopError, match="no task of small matches"):
        pretrain_from_config(settings(tmp_path / "run.yaml", tasks=["*nothing*"]), progress=False)


def test_a_table_of_ones_own_lies_relative_to_the_settings(my_table, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    card = pretrain_from_config(settings(tmp_path / "run.yaml", corpora=["tables/my.csv"]), progress=False)
    assert set(card["tasks"]) == {"own/my/top1", "latency/my-phone/batch1"}
    assert list(card["tables"]) == ["my"]
    prediction = aiop.load(tmp_path / "out").predict(my_table.read_text().splitlines()[1].split(",")[0])
    assert (prediction["own/my/top1"].unit, prediction["latency/my-phone/batch1"].unit) == ("%", "ms")


def test_tables_that_would_be_taken_for_one_another(my_table, tmp_path):
    (tmp_path / "my.csv").write_bytes(my_table.read_bytes())
    with pytest.raises(AiopError, match='2 tables called "my"'):
        pretrain_from_config(settings(tmp_path / "run.yaml", corpora=["tables/my.csv", "my.csv"]))
    (tmp_path / "more.csv").write_text(
        my_table.read_text().replace("my-phone/batch1", "nas-bench-201/pixel3")
    )
    my_table.write_bytes((tmp_path / "more.csv").read_bytes())
    with pytest.raises(AiopError, match='2 tables with the task "latency/nas-bench-201/pixel3"'):
        pretrain_from_config(settings(tmp_path / "run.yaml", corpora=["tables/my.csv", "more.csv"]))


def test_too_few_networks_are_refused_before_training(my_table, tmp_path):
    my_table.write_text("\n".join(my_table.read_text().splitlines()[:4]))
    with pytest.raises(AiopError, match="none to validate on"):
        pretrain_from_config(settings(tmp_path / "run.yaml", corpora=["tables/my.csv"]), progress=False)
    assert not (tmp_path / "out").exists()
