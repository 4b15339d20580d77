"""Dataclasses from plain JSON or YAML values, read strictly."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from aiop.errors import AiopError, suggest

__all__ = ["at_least", "between", "strict_dataclass", "strict_value"]

T = typing.TypeVar("T")


def strict_dataclass(kind: type[T], values: Mapping[str, Any], source: str) -> T:
    """Build dataclass ``kind`` from plain JSON or YAML types, refusing unknown keys and other types."""
    hints = typing.get_type_hints(kind)
    built = {}
    for name, value in values.items():
        if name not in hints:
            hint = suggest(str(name), hints)
            raise AiopError(f"{source}: setting {str(name)!r} is unknown{hint}: known are {', '.join(hints)}")
        built[name] = strict_value(value, hints[name], f"{source}: setting {name!r}")
    return kind(**built)


def strict_value(value: Any, hint: Any, where: str) -> Any:
    """Return ``value`` as what the type ``hint`` asks for; an `AiopError` begins with ``where``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType or origin is typing.Union:
        if value is None and type(None) in arguments:
            return None
        return strict_value(value, next(item for item in arguments if item is not type(None)), where)
    if origin is Literal:
        if value in arguments:
            return value
        raise AiopError(
            f"{where} is {value!r}{suggest(str(value), arguments)}: choose one of {', '.join(arguments)}"
        )
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(strict_value(item, arguments[0], where) for item in value)
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {
            strict_value(key, str, where): strict_value(item, arguments[1], where)
            for key, item in value.items()
        }
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        if isinstance(value, Mapping):
            return strict_dataclass(hint, value, where)
    if hint is float:
        # YAML reads 3e-3 (without a point) as text.
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                raise _wrong_type(where, value, hint) from None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise _wrong_type(where, value, hint)


def _wrong_type(where: str, value: Any, hint: Any) -> AiopError:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    wanted = names.get(hint) or ("a list" if typing.get_origin(hint) is tuple else "a mapping of settings")
    return AiopError(f"{where} is {value!r} ({type(value).__name__}): give {wanted}")


def at_least(config: object, least: float, *names: str) -> None:
    """Refuse settings below ``least``, and infinite ones."""
    for name in names:
        value = getattr(config, name)
        if not value >= least or value == float("inf"):
            raise AiopError(f"setting {name!r} is {value}: give a number of at least {least}")


def between(config: object, low: float, high: float, *names: str) -> None:
    """Refuse settings outside ``low`` to below ``high``."""
    for name in names:
        value = getattr(config, name)
        if not low <= value < high:
            raise AiopError(f"setting {name!r} is {value}: give a number from {low} to below {high}")
