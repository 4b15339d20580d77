"""``aiop spaces``: the registry of search spaces, random codes and neighbours, each a name that `build` takes."""

from __future__ import annotations

import numpy as np
import pytest

from aiop.tasks import get_space, list_spaces
from aiop.tasks.networks import parse_code


def test_every_space_is_listed_with_its_forms(aiop_cli):
    reports = aiop_cli("spaces", "--json").objects()
    assert [report["space"] for report in reports] == list_spaces()
    for report in reports:
        assert report["default_form"] in report["forms"]
        space, form, code = parse_code(report["example"])
        assert (space.name, form) == (report["space"], None)
        space.parse(code)
    (cells,) = aiop_cli("spaces", "nas-bench-201", "--json").objects()
    assert cells["forms"]["imagenet16-120"] == {
        "input": [1, 3, 16, 16],
        "head": "classification",
        "classes": 120,
    }


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits_the_terminal(aiop_cli, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    run = aiop_cli("spaces")
    assert max(map(len, run.out.splitlines())) <= columns
    assert "imagenet16-120" in run.out


def test_samples_follow_the_seed(aiop_cli):
    lines = aiop_cli("spaces", "nas-bench-*", "--sample", 3, "--seed", 5).out.splitlines()
    names = list_spaces("nas-bench-*")
    assert len(lines) == 3 * len(names)
    space, rng = get_space("nas-bench-201"), np.random.default_rng(5)
    drawn = [line for line in lines if line.startswith("nas-bench-201:")]
    assert drawn == [f"nas-bench-201:{space.sample(rng)}" for _ in range(3)]
    assert aiop_cli("spaces", "nas-bench-*", "--sample", 3, "--seed", 6).out.splitlines() != lines


def test_neighbours_keep_the_form(aiop_cli):
    code = get_space("nas-bench-201").example
    run = aiop_cli("spaces", "--neighbours", f"nas-bench-201@cifar10:{code}", "--json")
    found = [report["network"] for report in run.objects()]
    assert len(set(found)) == 6 * 4
    assert all(name.startswith("nas-bench-201@cifar10:") for name in found)


def test_refusals(aiop_cli):
    aiop_cli("spaces", "nas-bench-2001").is_user_error('did you mean "nas-bench-201"')
    aiop_cli("spaces", "--neighbours", "nas-bench-201:|none~0|").is_user_error("expected 3 groups")
    aiop_cli("spaces", "--neighbours", "x").is_user_error("is not an architecture code")
    code = f"nas-bench-201:{get_space('nas-bench-201').example}"
    aiop_cli("spaces", "--neighbours", code, "--sample", 2).is_user_error("give one of them")
    aiop_cli("spaces", "--sample", 0).is_user_error("--sample")
