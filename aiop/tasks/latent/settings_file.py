"""A YAML file of settings as a dataclass: every problem at once, each with the line where it stands."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from aiop.errors import AiopError, suggest
from aiop.strict import strict_value

__all__ = ["MOST_BYTES", "SettingsFile"]

MOST_BYTES = 1 << 20
_SHOWN = 8
_LONGEST = 400  # characters of one problem

T = TypeVar("T")


class SettingsFile:
    """The settings in a file, and where each of them stands.

    Raises:
        AiopError: the file cannot be read, or is not a mapping in YAML.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[str, int] = {}
        self._problems: list[tuple[int, str]] = []
        text = _text(path)
        self._loader = yaml.SafeLoader(text)
        try:
            # Written out, nested aliases can grow beyond all bounds.
            alias = next((token for token in yaml.scan(text) if isinstance(token, yaml.AliasToken)), None)
            self._node = None if alias else self._loader.get_single_node()
        except (yaml.YAMLError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            place = f", line {mark.line + 1}" if mark else ""
            cause = getattr(error, "problem", None) or "it nests too deeply"
            raise AiopError(f"{path}{place} is not YAML: {cause}; mend it") from None
        if alias:
            raise AiopError(
                f"{self._place(alias.start_mark.line + 1)}: *{alias.value} is an alias: write it out"
            )
        if not isinstance(self._node, yaml.MappingNode):
            raise AiopError(f"{path} holds no settings: give `name: value` lines")

    def read(self, kind: type[T]) -> T:
        """Build ``kind``; afterwards `problem` knows the lines.

        Raises:
            AiopError: for unknown and repeated settings, values of a wrong type or out of range: all of them.
        """
        built = self._section(kind, self._node, "")
        self._raise()
        assert built is not None
        return built

    def problem(self, setting: str, text: str) -> str:
        """One line about a setting, by its dotted path, with file and line."""
        return f"{self._place(self._lines.get(setting, 1))}: {text}"

    def _place(self, line: int) -> str:
        return f"{self.path}, line {line}"

    def _raise(self) -> None:
        if not self._problems:
            return
        found = [f"line {line}: {_short(text)}" for line, text in sorted(self._problems)]
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise AiopError(f"{self.path}, {'; '.join(found[:_SHOWN])}{more}")

    def _section(self, kind: type[T], node: yaml.MappingNode, prefix: str) -> T | None:
        """One mapping as a dataclass; None where it has problems, which are noted."""
        hints = typing.get_type_hints(kind)
        before = len(self._problems)
        values: dict[str, Any] = {}
        for key, child in self._entries(node, prefix):
            if key not in hints:
                known = f"known are {', '.join(hints)}"
                self._note(child, f"setting {key!r} is unknown{suggest(key, hints)}: {known}", prefix + key)
            else:
                values[key] = self._value(hints[key], child, prefix + key)
        for field in dataclasses.fields(typing.cast(Any, kind)):
            needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if needed and field.name not in values:
                self._problems.append(
                    (node.start_mark.line + 1, f"setting {prefix + field.name!r} is missing")
                )
        if len(self._problems) > before:
            return None
        try:
            return kind(**values)
        except AiopError as error:
            named = re.search(r"setting '(\w+)'", str(error))
            line = self._lines.get(prefix + named[1]) if named else None
            self._problems.append((line or node.start_mark.line + 1, str(error)))
            return None

    def _entries(self, node: yaml.MappingNode, prefix: str) -> list[tuple[str, yaml.Node]]:
        found = []
        seen = set()
        for key, child in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            if name in seen:
                self._problems.append((key.start_mark.line + 1, f"setting {name!r} stands there twice"))
                continue
            seen.add(name)
            self._lines[prefix + name] = key.start_mark.line + 1
            found.append((name, child))
        return found

    def _value(self, hint: Any, node: yaml.Node, path: str) -> Any:
        inner = next(
            (part for part in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(part)), None
        )
        if isinstance(node, yaml.MappingNode) and inner is not None:
            if not _is_mapping(hint):
                return self._section(typing.cast(type, inner), node, path + ".")
            return {
                name: self._section(typing.cast(type, inner), child, f"{path}.{name}.")
                if isinstance(child, yaml.MappingNode)
                else self._plain(inner, child, f"{path}.{name}")
                for name, child in self._entries(node, path + ".")
            }
        return self._plain(hint, node, path)

    def _plain(self, hint: Any, node: yaml.Node, path: str) -> Any:
        try:
            value = self._loader.construct_object(node, deep=True)
            return strict_value(value, hint, f"setting {path!r}")
        except AiopError as error:
            self._note(node, str(error), path)
        except (yaml.YAMLError, ValueError, TypeError, RecursionError):
            self._note(node, f"setting {path!r} cannot be read: write a plain value", path)
        return None

    def _note(self, node: yaml.Node, text: str, path: str) -> None:
        self._problems.append((self._lines.get(path, node.start_mark.line + 1), text))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


def _is_mapping(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise AiopError(f"{path} has more than {MOST_BYTES >> 20} MiB: give a file of settings")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise AiopError(f"{path} is not UTF-8 text: give a file of settings in YAML") from None
    except OSError as error:
        raise AiopError(f"{path} cannot be read ({error.strerror}): check the path") from None
