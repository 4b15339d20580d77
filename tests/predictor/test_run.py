"""A whole pretraining run on a small table, from YAML to predictions."""

import numpy as np
import pytest
import yaml

import aiop
from aiop.errors import AiopError
from aiop.graph_ir import read_onnx
from aiop.predictor import pretrain_from_config
from aiop.tasks import get_space
from aiop.tasks.tables import Table, table

TASK = "classification/nas-bench-201/cifar10-test-top1"
LATENCY = "latency/nas-bench-201/raspi4"
CELLS = 90


@pytest.fixture
def small_table(monkeypatch, tmp_path):
    """Ninety cells whose labels are functions of their costs; no benchmark file is needed."""
    space = get_space("nas-bench-201")
    rng = np.random.default_rng(0)
    codes = list(dict.fromkeys(space.sample(rng) for _ in range(2 * CELLS)))[:CELLS]
    macs = np.array([read_onnx(space.build(code)).macs for code in codes], float)
    values = {TASK: 60 + 5 * np.log10(macs), LATENCY: macs / 1e6}
    values[LATENCY][::4] = np.nan

    def load(folder):
        return Table(
            "small", [f"nas-bench-201:{code}" for code in codes], values, [str(i % 30) for i in range(CELLS)],
            macs, macs, {"small.parquet": "0" * 64}, "Apache-2.0",
        )  # fmt: skip

    monkeypatch.setitem(table._LOADERS, "small", load)
    monkeypatch.setenv("AIOP_DATA", str(tmp_path))
    monkeypatch.setenv("AIOP_CACHE", str(tmp_path / "cache"))
    return codes


def settings(path, **more):
    values = {
        "corpora": ["small"], "out": "out", "steps": 60, "batch_size": 16, "eval_every": 0, "threads": 1,
        "backbone": {"width": 16, "layers": 2, "embedding": 16, "head": 16}, **more,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(values))
    return path


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


def test_an_unknown_table_is_one_clear_error(small_table, tmp_path):
    with pytest.raises(AiopError, match=r'did you mean "small"'):
        pretrain_from_config(settings(tmp_path / "run.yaml", corpora=["smal"]), progress=False)
    with pytest.raises(AiopError, match="no task of small matches"):
        pretrain_from_config(settings(tmp_path / "run.yaml", tasks=["*nothing*"]), progress=False)


@pytest.fixture
def own_table(monkeypatch, tmp_path):
    """Forty cells in ``tables/my.csv``, with two measurements that follow their convolutions."""
    monkeypatch.setenv("AIOP_CACHE", str(tmp_path / "cache"))
    space, rng = get_space("nas-bench-201"), np.random.default_rng(0)
    codes = [space.sample(rng) for _ in range(40)]
    lines = [f"nas-bench-201:{code},{50 + code.count('conv')},{1 + code.count('3x3')}" for code in codes]
    (tmp_path / "tables").mkdir()
    path = tmp_path / "tables" / "my.csv"
    path.write_text("\n".join(["network,top1 [%],latency/my-phone/batch1", *lines]))
    return path


def test_a_table_of_ones_own_lies_relative_to_the_settings(own_table, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    card = pretrain_from_config(settings(tmp_path / "run.yaml", corpora=["tables/my.csv"]), progress=False)
    assert set(card["tasks"]) == {"own/my/top1", "latency/my-phone/batch1"}
    assert list(card["tables"]) == ["my"]
    prediction = aiop.load(tmp_path / "out").predict(own_table.read_text().splitlines()[1].split(",")[0])
    assert (prediction["own/my/top1"].unit, prediction["latency/my-phone/batch1"].unit) == ("%", "ms")


def test_tables_that_would_be_taken_for_one_another(own_table, tmp_path):
    (tmp_path / "my.csv").write_bytes(own_table.read_bytes())
    with pytest.raises(AiopError, match='2 tables called "my"'):
        pretrain_from_config(settings(tmp_path / "run.yaml", corpora=["tables/my.csv", "my.csv"]))
    (tmp_path / "more.csv").write_text(
        own_table.read_text().replace("my-phone/batch1", "nas-bench-201/pixel3")
    )
    own_table.write_bytes((tmp_path / "more.csv").read_bytes())
    with pytest.raises(AiopError, match='2 tables with the task "latency/nas-bench-201/pixel3"'):
        pretrain_from_config(settings(tmp_path / "run.yaml", corpora=["tables/my.csv", "more.csv"]))


def test_too_few_networks_are_refused_before_training(own_table, tmp_path):
    own_table.write_text("\n".join(own_table.read_text().splitlines()[:4]))
    with pytest.raises(AiopError, match="none to validate on"):
        pretrain_from_config(settings(tmp_path / "run.yaml", corpora=["tables/my.csv"]), progress=False)
    assert not (tmp_path / "out").exists()
