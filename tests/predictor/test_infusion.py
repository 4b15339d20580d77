"""Infusion into a small predictor: what is new, what stays to the bit, and what is refused."""

import json
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from own_labels import codes, value
from run_cases import make_small_table, settings
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import aiop
from aiop.errors import AiopError
from aiop.graph_ir.features import encode
from aiop.predictor import pretrain_from_config
from aiop.predictor.infusion import InfusionSettings, infuse
from aiop.predictor.truth_scale import TruthWarning, scaled_to_truth
from aiop.tasks.networks import read
from aiop.tasks.tables.table import sha256

SMALL = InfusionSettings(steps=30, adapters=3, width=8, batch_size=32, threads=1, device="cpu")
CHEAP, NOISY = "own/cheap/top1", "own/cheap/ap"
NETWORKS = codes(80)
NEW = [name for name in codes(120, seed=1) if name not in NETWORKS][:40]


def write_cheap(path: Path, networks=NETWORKS, change=0.0) -> Path:
    """Half of the true value and an offset; and the number of the network's third operations."""
    lines = [f"{name},{20 + 0.5 * value(name) + change:.4f},{10 + name.count('2')}" for name in networks]
    path.write_text("\n".join(["network,top1 [%],AP [%]", *lines]) + "\n")
    return path


def write_truth(path: Path, networks) -> Path:
    path.write_text(
        "\n".join(["network,top1 [%]", *(f"{name},{value(name):.4f}" for name in networks)]) + "\n"
    )
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A predictor in ``out``, with adapters, and one infused from it in ``infused``."""
    folder = tmp_path_factory.mktemp("infusion")
    with pytest.MonkeyPatch.context() as patch:
        make_small_table(patch, folder)
        path = settings(
            folder / "run.yaml", heads="description", adapters={"by": "domain", "width": 4, "steps": 5}
        )
        pretrain_from_config(path, progress=False)
        infuse(
            write_cheap(folder / "cheap.csv"),
            out=folder / "infused",
            predictor=folder / "out",
            settings=SMALL,
        )
        yield folder


@pytest.fixture(scope="module")
def infused(folder):
    return aiop.load(folder / "infused")


def test_what_was_known_stays_to_the_bit(folder, infused):
    base = aiop.load(folder / "out")
    assert infused.names == (*base.names, CHEAP, NOISY)
    assert infused.infused == (CHEAP, NOISY)
    asked = [*NETWORKS[:5], "nas-bench-201:|none~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|none~2|"]
    for before, after in zip(base.predict(asked), infused.predict(asked), strict=True):
        assert all(after[found.task] == found for found in before.predictions)
    seen, told = base.views(asked), infused.views(asked)
    assert np.array_equal(seen.embedding, told.embedding)
    for place, source in enumerate(seen.sources):
        assert np.array_equal(seen.outputs[:, place], told.outputs[:, told.sources.index(source)])
    assert np.array_equal(base.zero_shot(seen, base.names), infused.zero_shot(told, base.names))
    for name, said in base.card["tasks"].items():
        assert infused.card["tasks"][name] == said


def test_the_new_tasks_are_learnt_and_described(folder, infused):
    predicted = [found[CHEAP] for found in infused.predict(NEW)]
    truth = np.array([20 + 0.5 * value(name) for name in NEW])
    assert np.corrcoef([item.value for item in predicted], truth)[0, 1] > 0.6
    assert {item.unit for item in predicted} == {"%"}
    held = np.mean([item.low <= real <= item.high for item, real in zip(predicted, truth, strict=True)])
    assert held > 0.5
    assert np.isfinite([item.macs_only for item in predicted]).all()
    # outputs are the mean of the adapters, and the card says what they learnt from
    document = json.loads((folder / "infused" / "card.json").read_text())
    assert document["infused"] == [{"name": "cheap", "width": 8, "adapters": 3, "tasks": [CHEAP, NOISY]}]
    (record,) = infused.card["infusions"]
    assert record["networks"] == len(NETWORKS)
    assert record["files"] == {"cheap.csv": sha256(folder / "cheap.csv")}
    assert record["predictor"] == aiop.load(folder / "out").card["weights_sha256"]
    assert record["settings"]["steps"] == 30
    assert infused.card["tasks"][CHEAP]["labels"] == len(NETWORKS)
    assert infused.card["tasks"][CHEAP]["held_out"]["n"] == len(NETWORKS)


def test_heads_see_what_was_infused(infused, folder):
    head = aiop.fit_head(write_truth(folder / "truth.csv", NEW[:20]), predictor=infused)
    assert {CHEAP, NOISY} <= set(head.head.sources_)
    head.save(folder / "my.head")
    again = aiop.load_head(folder / "my.head", folder / "infused").predict(NEW[20])
    assert again.predictions == head.predict(NEW[20]).predictions


def test_the_same_seed_makes_the_same_files_after_an_interruption_too(folder, monkeypatch):
    from aiop.predictor import infusion

    def stop_once(*arguments, **more):
        def stop(step, loss):
            if step == 12:
                raise KeyboardInterrupt

        return train(*arguments, **more, on_step=stop)

    train = infusion.train_adapters
    monkeypatch.setattr(infusion, "train_adapters", stop_once)
    monkeypatch.setattr(
        "aiop.pretrain.schedule.CheckpointClock.due", lambda self, step, last: last or step == 10
    )
    with pytest.raises(KeyboardInterrupt):
        infuse(folder / "cheap.csv", out=folder / "again", predictor=folder / "out", settings=SMALL)
    assert not (folder / "again" / "card.json").exists()
    monkeypatch.setattr(infusion, "train_adapters", train)
    infuse(folder / "cheap.csv", out=folder / "again", predictor=folder / "out", settings=SMALL)
    for file in ("card.json", "predictor.safetensors"):
        assert (folder / "again" / file).read_bytes() == (folder / "infused" / file).read_bytes()


def test_true_labels_give_the_scale_and_leave_ranks(folder, infused):
    truth = {name: value(name) for name in NEW[:20]}
    scaled = scaled_to_truth(infused, truth, [CHEAP], method="shrunk")
    before, after = infused.predict(NEW[20:]), scaled.predict(NEW[20:])
    raw, put = (np.array([found[CHEAP].value for found in side]) for side in (before, after))
    assert np.array_equal(np.argsort(raw), np.argsort(put))
    real = np.array([value(name) for name in NEW[20:]])
    assert np.abs(put - real).mean() < np.abs(raw - real).mean() / 3
    assert all(a[NOISY] == b[NOISY] for a, b in zip(before, after, strict=True))
    assert np.array_equal(scaled.views(NEW).outputs, infused.views(NEW).outputs)
    # by hand: a line through what was said before, whose slope the card tells
    scale = scaled.task_card(CHEAP).extra["truth"]
    np.testing.assert_allclose(put, scale["intercept"] + scale["slope"] * raw, rtol=1e-5)
    inside = np.array([found[CHEAP].in_distribution for found in after])
    width = np.array([found[CHEAP].high - found[CHEAP].low for found in after])[inside]
    assert np.ptp(width) < 1e-3 * width.max()
    # saved and read again, it says the same; and from a table too
    scaled.save(folder / "scaled")
    assert aiop.load(folder / "scaled").predict(NEW[25])[CHEAP] == scaled.predict(NEW[25])[CHEAP]
    table = scaled_to_truth(infused, write_truth(folder / "true.csv", NEW[:20]), method="shrunk")
    assert table.predict(NEW[25])[CHEAP].value == pytest.approx(
        scaled.predict(NEW[25])[CHEAP].value, abs=1e-3
    )


def test_true_labels_correct_what_cheap_ones_miss(folder, infused):
    """The labels of the task that counts one operation are corrected to the true value, which it knows nothing of."""
    truth = {name: value(name) for name in NEW[:20]}
    real = np.array([value(name) for name in NEW[20:]])
    errors = {}
    for method in ("shrunk", "corrected"):
        found = scaled_to_truth(infused, truth, [NOISY], method=method)
        put = np.array([item[NOISY].value for item in found.predict(NEW[20:])])
        errors[method] = np.abs(put - real).mean()
    assert errors["corrected"] < errors["shrunk"]
    # the views that heads see stay, and so does every other task
    assert np.array_equal(found.views(NEW).outputs, infused.views(NEW).outputs)
    assert found.predict(NEW[20])[CHEAP] == infused.predict(NEW[20])[CHEAP]
    # one network, views and files say the same; and so does a line that takes the correction's place
    place = found.names.index(NOISY)
    views = found.values(place, found.corrected(found.views(NEW[20:]))[:, place])
    np.testing.assert_allclose(views, put, rtol=1e-5)
    found.save(folder / "corrected")
    again = aiop.load(folder / "corrected")
    assert again.predict(NEW[20], NOISY) == found.predict(NEW[20], NOISY)
    line = scaled_to_truth(found, truth, [NOISY], method="shrunk").predict(NEW[20])[NOISY]
    first = scaled_to_truth(infused, truth, [NOISY], method="shrunk").predict(NEW[20])[NOISY]
    assert line.value == pytest.approx(first.value)
    with pytest.raises(AiopError, match='did you mean "corrected"'):
        scaled_to_truth(infused, truth, [NOISY], method="correct")


def test_truth_of_networks_that_were_infused_is_told(folder, infused):
    truth = {name: value(name) for name in (*NEW[:17], *NETWORKS[:3])}
    with pytest.warns(TruthWarning, match="3 of the 20 true labels of own/cheap/top1"):
        found = scaled_to_truth(infused, truth, [CHEAP])
    assert found.task_card(CHEAP).extra["truth"]["infused"] == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled_to_truth(infused, {name: value(name) for name in NEW[:20]}, [CHEAP])


def test_the_table_of_a_build_gives_cheap_and_true_labels(folder, tmp_path):
    networks, true = NETWORKS[:30], NEW[:10]
    table = {
        "network": [*networks, *true],
        "role": ["pseudo"] * 30 + ["truth"] * 10,
        "repeat": [0] * 40,
        "depth": list(range(40)),
        "latent/top1": [20 + 0.5 * value(name) for name in (*networks, *true)],
        "truth/top1": [None] * 30 + [value(name) for name in true],
    }
    pq.write_table(pa.table(table), tmp_path / "labels.parquet")
    quick = InfusionSettings(steps=2, adapters=2, width=4, expert=False, threads=1, device="cpu")
    path = tmp_path / "labels.parquet"
    found = infuse(path, out=tmp_path / "new", predictor=folder / "out", truth=path, settings=quick)
    assert found.infused == ("own/labels/top1",)
    assert found.card["infusions"][-1]["networks"] == 30
    assert found.task_card("own/labels/top1").extra["truth"]["labels"] == 10
    assert found.task_card("own/labels/top1").extra["truth"]["infused"] == 0


def test_the_expert_has_the_share_that_its_file_says(folder, infused):
    entry = infused._card.extra["experts"]["cheap"]
    assert 0 < entry["share"] <= 1
    assert entry["tasks"] == [CHEAP, NOISY]
    # by hand: what adapters say and what the expert says, mixed
    views, features = infused.views(NEW), infused.views(NEW).graph
    network = infused._forward([encode(read(name)) for name in NEW])[1]
    (blend,) = [blend for blend in infused.blends if infused.names.index(CHEAP) in blend.columns]
    mixed = (1 - entry["share"]) * network[:, -2:] + entry["share"] * blend.expert.predict(features)
    cards = [infused.task_card(name).extra for name in (CHEAP, NOISY)]
    for column, card in enumerate(cards):
        wanted = card["offset"] + card["slope"] * mixed[:, column]
        np.testing.assert_allclose(
            views.outputs[:, infused.names.index((CHEAP, NOISY)[column])], wanted, rtol=1e-4
        )


def test_infusing_again_adds(folder, infused):
    path = write_cheap(folder / "other.csv", NETWORKS[:40], change=5)
    quick = InfusionSettings(steps=2, adapters=2, width=4, threads=1, device="cpu")
    found = infuse(path, ["AP"], out=folder / "twice", predictor=folder / "infused", settings=quick)
    assert found.infused == (CHEAP, NOISY, "own/other/ap")
    assert found.predict(NEW[0])[CHEAP] == infused.predict(NEW[0])[CHEAP]
    assert [record["name"] for record in found.card["infusions"]] == ["cheap", "other"]


def test_what_is_refused(folder, infused, tmp_path):
    cheap, out = folder / "cheap.csv", folder / "out"

    def refused(match, labels=cheap, metrics=(), to=tmp_path / "new", predictor=out, **more):
        with pytest.raises(AiopError, match=match) as found:
            infuse(labels, metrics, out=to, predictor=predictor, settings=SMALL, **more)
        assert "\n" not in str(found.value)
        assert not (tmp_path / "new" / "predictor.safetensors").exists()

    refused("no table of your own", labels="nas-bench-201")
    refused("no column of numbers", metrics=["top2"])
    refused("holds the predictor to add to", to=out)
    refused("holds another predictor", to=out, predictor=folder / "infused")
    refused("holds no predictor", predictor=tmp_path)
    refused("it is a file", to=cheap)
    refused('learnt from a table "cheap"', predictor=folder / "infused")
    refused("19 labels", labels=write_cheap(tmp_path / "few.csv", NETWORKS[:19]))
    flat = tmp_path / "flat.csv"
    flat.write_text("\n".join(["network,top1", *(f"{name},1" for name in NETWORKS)]))
    refused("nothing to learn", labels=flat)
    doubtful = tmp_path / "nan.csv"
    doubtful.write_text(
        "\n".join(["network,top1", *(f"{name},{i or 'nan'}" for i, name in enumerate(NETWORKS))])
    )
    refused("not finite", labels=doubtful)
    refused("no column of true values", truth=write_truth(tmp_path / "true.csv", NEW[:20]))
    refused("has 3 labels", metrics=["top1"], truth=write_truth(tmp_path / "three.csv", NEW[:3]))
    with pytest.raises(AiopError, match="nothing was infused"):
        scaled_to_truth(aiop.load(out), {})
    with pytest.raises(AiopError, match=r"was not infused.*did you mean"):
        scaled_to_truth(infused, {NEW[0]: 1.0}, ["own/cheap/top2"])
    with pytest.raises(AiopError, match="at least 2"):
        InfusionSettings(adapters=1)
    assert not list(tmp_path.glob("new/*"))


def test_a_card_that_was_tampered_with(folder, tmp_path):
    path = folder / "infused" / "predictor.safetensors"
    tensors = load_file(path)
    with safe_open(path, "np") as file:
        card = json.loads(file.metadata()["card"])
    for change in ({"width": 1 << 40}, {"tasks": [NOISY, CHEAP]}, {"adapters": 0}, {"tasks": 3}):
        broken = card | {"infused": [card["infused"][0] | change]}
        save_file(tensors, tmp_path / "predictor.safetensors", {"card": json.dumps(broken)})
        with pytest.raises(AiopError, match="infused tasks that cannot be"):
            aiop.load(tmp_path)
