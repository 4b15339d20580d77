from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from aiop.errors import AiopError
from aiop.strict import at_least
from aiop.tasks.latent.settings_file import SettingsFile


@dataclass(frozen=True, kw_only=True)
class Inner:
    steps: int = 5
    lr: float = 0.1

    def __post_init__(self) -> None:
        at_least(self, 1, "steps")


@dataclass(frozen=True, kw_only=True)
class Outer:
    out: str
    mode: Literal["fast", "slow"] = "fast"
    inner: Inner = field(default_factory=Inner)
    other: Inner | None = None
    groups: Mapping[str, Inner] = field(default_factory=dict)
    names: tuple[str, ...] = ()


def read(tmp_path: Path, text: str) -> Outer:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return SettingsFile(path).read(Outer)


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(AiopError) as caught:
        read(tmp_path, text)
    return str(caught.value).replace(str(tmp_path / "config.yaml"), "F")


def test_a_file_becomes_the_dataclass(tmp_path: Path) -> None:
    text = "out: runs\nmode: slow\ninner: {lr: 3e-3}\nother:\n  steps: 7\ngroups:\n  a: {steps: 2}\nnames: [x, y]\n"
    expected = Outer(
        out="runs",
        mode="slow",
        inner=Inner(lr=0.003),
        other=Inner(steps=7),
        groups={"a": Inner(steps=2)},
        names=("x", "y"),
    )
    assert read(tmp_path, text) == expected


def test_all_problems_come_at_once_with_their_lines(tmp_path: Path) -> None:
    text = "inner:\n  stepps: 3\n  lr: often\nother:\n  steps: 0\ngroups:\n  a:\n    steps: -1\nmode: fats\n"
    text += "mode: fast\n"
    message = refusal(tmp_path, text)
    assert message.startswith(
        "F, line 1: setting 'out' is missing; line 2: setting 'stepps' is unknown (did you mean"
    )
    for part in (
        "line 3: setting 'inner.lr' is 'often'",
        "line 5: setting 'steps' is 0: give a number of at least 1",
        "line 8: setting 'steps' is -1",
        "line 9: setting 'mode' is 'fats' (did you mean \"fast\"?)",
        "line 10: setting 'mode' stands there twice",
    ):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "F holds no settings"),
        ("- a\n", "F holds no settings"),
        ("out: a\ninner: [\n", "F, line 3 is not YAML"),
        ("out: a\nnames: &x [a]\ninner: *x\n", "F, line 3: *x is an alias: write it out"),
        ("out: a\ninner: 7\n", "line 2: setting 'inner' is 7 (int): give a mapping"),
        ("out: [1]\n", "line 1: setting 'out' is [1] (list): give text"),
        ("out: a\ngroups:\n  b: 3\n", "line 3: setting 'groups.b' is 3"),
        ("out: a\n? [x]\n: 3\n", "line 2: setting '?' is unknown"),
        ("out: !!python/object:os.system a\n", "line 1: setting 'out' cannot be read"),
        ("out: 2026-13-45\n", "line 1: setting 'out' cannot be read"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(AiopError, match="cannot be read"):
        SettingsFile(tmp_path / "absent.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AiopError, match="not UTF-8"):
        SettingsFile(binary)


def test_a_later_problem_is_placed_by_its_setting(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("out: a\ninner:\n  steps: 3\n", encoding="utf-8")
    file = SettingsFile(path)
    file.read(Outer)
    assert file.problem("inner.steps", "too many") == f"{path}, line 3: too many"
