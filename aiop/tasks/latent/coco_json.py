"""The entries of a JSON file of annotations, each with the line where it stands, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiop.errors import AiopError

__all__ = ["MOST_BYTES", "Entry", "Problems", "read_sections"]

MOST_BYTES = 1 << 30  # COCO's largest file has 450 MB
SHOWN = 20  # problems that are told one by one
_BLANK = " \t\r\n"
_LONGEST = 300  # characters of a problem


@dataclass(frozen=True)
class Entry:
    """One value of a list, and its line, from 1."""

    value: Any
    line: int


@dataclass
class Problems:
    """What was left out of a file and why: the first problems in words, all of them counted.

    Iterating gives one line of text each, and a last one that counts those not told.
    """

    file: Path
    count: int = 0
    told: list[str] = field(default_factory=list)

    def add(self, line: int, text: str) -> str:
        """Note one; returns its line of text."""
        self.count += 1
        # Names come from the file: no line breaks, and no control characters for a terminal to obey.
        shown = "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split()))
        told = f"{self.file}, line {line}: {shown[:_LONGEST]}; left out"
        if len(self.told) < SHOWN:
            self.told.append(told)
        return told

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[str]:
        yield from self.told
        if self.count > len(self.told):
            yield f"{self.file}: {self.count - len(self.told)} more entries left out"


def _text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise AiopError(f"{path} is no file: give the annotations as JSON in COCO's format")
        if size > MOST_BYTES:
            raise AiopError(f"{path} has {size} bytes: at most {MOST_BYTES} are read; split it")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # not UTF-8; a name that no file can have
        cause = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise AiopError(f"{path} cannot be read: {cause}") from None


class _Walk:
    """Reads a JSON object key by key and lists value by value; the values themselves by the standard library."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self._decoder = json.JSONDecoder()
        self._counted, self._line = 0, 1

    @property
    def line(self) -> int:
        """Where the next value starts; asked for in ascending order, so that every line is counted once."""
        self.blank()
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def blank(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in _BLANK:
            self.at += 1

    def take(self, signs: str) -> str:
        """One of these signs, the next that is not blank."""
        self.blank()
        found = self.text[self.at : self.at + 1]
        if not found or found not in signs:
            raise json.JSONDecodeError(
                f"Expecting {' or '.join(repr(sign) for sign in signs)}", self.text, self.at
            )
        self.at += 1
        return found

    def peek(self, sign: str) -> bool:
        self.blank()
        return self.text.startswith(sign, self.at)

    def value(self) -> Any:
        self.blank()
        found, self.at = self._decoder.raw_decode(self.text, self.at)
        return found

    def entries(self) -> Iterator[Entry]:
        """The values of a list."""
        self.take("[")
        if self.peek("]"):
            self.at += 1
            return
        while True:
            line = self.line
            yield Entry(self.value(), line)
            if self.take(",]") == "]":
                return


def read_sections(path: Path, names: Collection[str]) -> dict[str, list[Entry]]:
    """The lists of these names in the JSON object that a file holds; an absent one is empty.

    Raises:
        AiopError: the file cannot be read, is too large, is not JSON or no object, or a section is no list.
    """
    text = _text(path)
    walk = _Walk(text)
    sections: dict[str, list[Entry]] = {name: [] for name in names}
    try:
        if not walk.peek("{"):
            raise AiopError(f"{path} holds no JSON object: give annotations in COCO's format")
        walk.at += 1
        while not walk.peek("}"):
            line = walk.line
            name = walk.value()
            walk.take(":")
            if name in sections:
                if not walk.peek("["):
                    raise AiopError(f"{path}, line {line}: {name!r} is no list; give it as COCO does")
                sections[name] = list(walk.entries())
            else:
                walk.value()
            if not walk.peek("}"):
                walk.take(",")
    except json.JSONDecodeError as error:
        raise AiopError(f"{path}, line {error.lineno} is not JSON: {error.msg}; mend it") from None
    except (RecursionError, ValueError) as error:  # nested too deeply; an integer of thousands of digits
        cause = "it nests too deeply" if isinstance(error, RecursionError) else "a number is too long"
        raise AiopError(f"{path} is not read: {cause}") from None
    return sections
