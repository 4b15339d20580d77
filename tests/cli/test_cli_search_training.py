"""``aiop search relative --train``: a search by duels from the command line, and what cannot be trained."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from aiop.search.weight_sharing import images, settings

GIVEN = ("--space", "darts", "--train", "digits")


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The reduced search on a few drawn numbers in the place of images."""

    def drawn(split, count):
        generator = torch.Generator().manual_seed(len(split))
        return torch.randint(256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8), torch.arange(
            count
        ) % 10

    tiny = replace(
        settings.PRESETS["reduced"],
        population=4, generations=2, cells=3, channels=2, images=24, held_out=4, steps=2, batch=4, judged=6, rounds=1,
    )  # fmt: skip
    monkeypatch.setattr(settings, "PRESETS", {"reduced": tiny, "paper": settings.PRESETS["paper"]})
    monkeypatch.setattr(images, "IMAGES", {"digits": drawn})
    monkeypatch.setenv("AIOP_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("small")
def test_cells_are_searched_by_training_and_the_same_command_goes_on(aiop_cli, tmp_path):
    out = tmp_path / "out"
    first = aiop_cli("search", "relative", *GIVEN, "-o", out, "--json")
    assert first.status == 0
    document = json.loads(first.out)
    assert (document["images"], document["duels"]) == ("digits", 4)
    assert document["best"]["network"].startswith("darts:")
    before = (out / "state.safetensors").read_bytes()
    assert json.loads(aiop_cli("search", "relative", *GIVEN, "-o", out, "--json").out) == document
    assert (out / "state.safetensors").read_bytes() == before
    shown = aiop_cli("search", "relative", *GIVEN, "-o", out).out
    assert shown.startswith(document["best"]["network"])
    assert "after 4 duels" in shown


@pytest.mark.usefixtures("small")
def test_evaluations_are_networks_trained_in_duels(aiop_cli, tmp_path):
    run = aiop_cli("search", "relative", *GIVEN, "-o", tmp_path / "out", "--evaluations", 4, "--json")
    assert json.loads(run.out)["duels"] == 2


@pytest.mark.parametrize(
    ("method", "more", "parts"),
    [
        ("relative", ("--space", "darts", "--train", "digit"), ('did you mean "digits"',)),
        ("relative", ("--space", "darts", "--train", "digits:pape"), ('did you mean "paper"',)),
        ("evolution", GIVEN, ("evolution does not", "aiop search relative --space darts")),
        ("relatve", GIVEN, ('did you mean "relative"',)),
        ("relative", ("--space", "nats-size", "--train", "digits"), ("nats-size cannot", "darts")),
        ("relative", ("--space", "dart", "--train", "digits"), ('did you mean "darts"',)),
        ("relative", (*GIVEN, "--task", "x"), ("leave --task out",)),
        ("relative", (*GIVEN, "--unguided"), ("leave --unguided out",)),
        ("relative", (*GIVEN, "--macs", "1M"), ("give a budget between",)),
        ("relative", ("--space", "darts", "--task", "*"), ("no task is measured on darts", "--train digits")),
        ("relative", ("--space", "nats-size"), ("needs a task", "its tasks are")),
    ],
)
@pytest.mark.usefixtures("small")
def test_what_cannot_be_trained_is_one_line(aiop_cli, tmp_path, method, more, parts):
    aiop_cli("search", method, *more, "-o", tmp_path / "out").is_user_error(*parts)
    assert not (tmp_path / "out").exists()
