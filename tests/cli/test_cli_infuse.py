"""``aiop infuse``: the shipped predictor learns a table, and the folder serves the other commands."""

from __future__ import annotations

import pytest
from own_labels import codes, value

NETWORKS = codes(40)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("AIOP_CACHE", str(tmp_path_factory.getbasetemp() / "own-cache"))


def write(path, networks, column="top1 [%]", slope=0.5):
    lines = [f"{name},{20 + slope * value(name):.4f}" for name in networks]
    path.write_text("\n".join([f"network,{column}", *lines]))
    return path


def test_infuse_then_predict(aiop_cli, tmp_path):
    cheap = write(tmp_path / "cheap.csv", NETWORKS[:30])
    true = write(tmp_path / "true.csv", NETWORKS[30:], slope=1.0)
    out = tmp_path / "out"
    run = aiop_cli("infuse", cheap, "-o", out, "--steps", 2, "--truth", true, "--json")
    assert run.status == 0, run.err
    (report,) = run.objects()
    task = report["infused"]["tasks"]["own/cheap/top1"]
    assert report["infused"]["networks"] == 30
    assert task["truth"]["labels"] == 10
    assert task["held_out"]["n"] == 30
    (found,) = aiop_cli("predict", NETWORKS[0], "--weights", out, "--task", "own/*", "--json").objects()
    assert found["predictions"][0]["task"] == "own/cheap/top1"
    assert report["notes"] == []
    # goes on from what is there, and says for people what there is, and what is wrong with their labels
    mixed = write(tmp_path / "mixed.csv", NETWORKS[26:36], slope=1.0)
    again = aiop_cli("infuse", cheap, "-o", out, "--steps", 2, "--metric", "top1", "--truth", mixed)
    assert again.status == 0
    assert "note: 4 of the 10 true labels of own/cheap/top1" in again.err
    assert "own/cheap/top1" in again.out
    assert str(out) in again.out


def test_infuse_refuses_in_one_line(aiop_cli, tmp_path):
    cheap = write(tmp_path / "cheap.csv", NETWORKS[:30])
    aiop_cli("infuse", cheap, "-o", tmp_path / "x", "--metric", "top5").is_user_error("top5", "top1")
    aiop_cli("infuse", "nowhere.csv", "-o", tmp_path / "x").is_user_error("nowhere.csv")
    aiop_cli("infuse", cheap, "-o", tmp_path / "x", "--predictor", tmp_path).is_user_error(
        "holds no predictor"
    )
    aiop_cli("infuse", cheap, "-o", tmp_path / "x", "--truth", tmp_path / "no.csv").is_user_error("no.csv")
