"""The choices that an architecture of any space consists of: named parameters, learnt from samples of the space."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.tasks import get_space
from aiop.tasks.spaces import SearchSpace

__all__ = ["Choices", "Value", "code_columns", "ordered"]

Value = int | float | str | bool | None
_SAMPLES = 300


@dataclass
class _Part:
    """One place of an architecture: a single value, or parts.

    kind: of the whole (tuple, list, str, a class with fields), None of a single value.
    values: that a single one, or the number of parts, was seen to have.
    """

    kind: type | None
    values: set[Value] = field(default_factory=set)
    parts: list[_Part] = field(default_factory=list)
    names: tuple[str, ...] = ()


class Choices:
    """Architectures as named values: their parsed form with every tuple, list and class taken apart.

    Texts of digits, such as ``"2110"``, are one value per digit. What has a varying number of parts has that number as
    a value of its own, and further parts only where they are there.

    Args:
        space: whose codes are taken apart.
        codes: to learn from what values there are; by default samples of the space and its example.
    """

    def __init__(self, space: SearchSpace[object], codes: Iterable[str] | None = None) -> None:
        self.space = space
        random = np.random.default_rng(0)
        known = [space.example, *(space.sample(random) for _ in range(_SAMPLES))] if codes is None else codes
        self._root: _Part | None = None
        for code in known:
            self._root = _merge(self._root, _take_apart(space.parse(code)))

    def encode(self, code: str) -> dict[str, Value]:
        """Return the values of a code, by names such as ``.0.kernel``."""
        found: dict[str, Value] = {}
        _write(_take_apart(self.space.parse(code)), "", found)
        return found

    def decode(self, pick: Any) -> str | None:
        """Build a code from values that ``pick(name, values)`` chooses; None where they are no architecture.

        ``pick`` is asked in order for each value that is open, with all that are known to be possible, sorted.
        """
        assert self._root is not None
        try:
            return self.space.validate(self.space.format(_build(self._root, "", pick)))
        except (AiopError, ValueError, TypeError, KeyError, IndexError, AttributeError):
            return None  # values that do not go together

    def values(self) -> Mapping[str, tuple[Value, ...]]:
        """Return the values that each name may have, sorted, of one alone too."""
        found: dict[str, tuple[Value, ...]] = {}
        if self._root is not None:
            _list(self._root, "", found)
        return found


def _take_apart(value: Any) -> _Part:
    if isinstance(value, str) and len(value) > 1 and value.isdecimal():
        return _Part(str, {len(value)}, [_Part(None, {digit}) for digit in value])
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return _Part(type(value), {len(value)}, [_take_apart(item) for item in value], value._fields)
    if isinstance(value, tuple | list):
        return _Part(type(value), {len(value)}, [_take_apart(item) for item in value])
    if is_dataclass(value):
        names = tuple(one.name for one in fields(value) if one.init)
        return _Part(type(value), {len(names)}, [_take_apart(getattr(value, name)) for name in names], names)
    return _Part(None, {value})


def _merge(first: _Part | None, second: _Part) -> _Part:
    if first is None:
        return second
    if first.kind is not second.kind:
        raise ValueError(f"an architecture has {first.kind} in one code and {second.kind} in another")
    shared = [_merge(one, other) for one, other in zip(first.parts, second.parts, strict=False)]
    longer = max(first.parts, second.parts, key=len)
    return _Part(first.kind, first.values | second.values, shared + longer[len(shared) :], first.names)


def _sorted(values: set[Value]) -> tuple[Value, ...]:
    return tuple(sorted(values, key=lambda value: (isinstance(value, str), value is not None, value or 0)))


def _inner(part: _Part, name: str) -> list[tuple[str, _Part]]:
    names = part.names or tuple(map(str, range(len(part.parts))))
    return [(f"{name}.{key}", inner) for key, inner in zip(names, part.parts, strict=True)]


def _write(part: _Part, name: str, found: dict[str, Value]) -> None:
    (value,) = part.values
    found[name if part.kind is None else f"{name}#"] = value
    for key, inner in _inner(part, name):
        _write(inner, key, found)


def _list(part: _Part, name: str, found: dict[str, tuple[Value, ...]]) -> None:
    found[name if part.kind is None else f"{name}#"] = _sorted(part.values)
    for key, inner in _inner(part, name):
        _list(inner, key, found)


def _build(part: _Part, name: str, pick: Any) -> Any:
    values = _sorted(part.values)
    key = name if part.kind is None else f"{name}#"
    chosen: Any = values[0] if len(values) == 1 else pick(key, values)
    if part.kind is None:
        return chosen
    made = [_build(inner, where, pick) for where, inner in _inner(part, name)[: int(chosen or 0)]]
    if part.names:
        return part.kind(**dict(zip(part.names, made, strict=True)))
    return "".join(made) if part.kind is str else part.kind(made)


def code_columns(space: str, codes: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return codes as numbers ``(n, D)``: choices among numbers from 0 to 2, one column per option of all others.

    What a code does not have is -1; the columns of two codes that differ in everything are about 2 apart, squared.
    """
    choices = _choices(space)
    open_ = {name: values for name, values in choices.values().items() if len(values) > 1}
    rows = [_code_row(space, code) for code in codes]
    width = sum(1 if ordered(values) else len(values) for values in open_.values())
    return np.array(rows, np.float64).reshape(len(rows), width) / math.sqrt(max(1, len(open_)))


@lru_cache(maxsize=100_000)
def _code_row(space: str, code: str) -> tuple[float, ...]:
    choices = _choices(space)
    found, row = choices.encode(code), list[float]()
    for name, values in choices.values().items():
        if len(values) < 2:
            continue
        if ordered(values):
            known = name in found and found[name] in values
            row.append(2.0 * values.index(found[name]) / (len(values) - 1) if known else -1.0)
        else:
            row += [float(found.get(name) == value) for value in values]
    return tuple(row)


def ordered(values: Sequence[Value]) -> bool:
    """Whether the values of a choice are numbers, of which the nearer ones are more alike."""
    return all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        for value in values
    )


@lru_cache(maxsize=16)
def _choices(space: str) -> Choices:
    return Choices(get_space(space))
