"""Read the data of a pickle without executing it: a small interpreter of the opcodes that plain data needs.

A pickle is a program. `pickle.Unpickler` runs it with the interpreter's own classes; restricting which names it finds
still leaves it calls, unbounded memory and references that C code trusts. Here no object of Python is ever looked up
or called: numbers, texts, lists, tuples and dictionaries come out as such, and an object of a class that the caller
names comes out as a `Record` of its state. Every other opcode refuses the file before anything of it is built.

The file is one list of items, and may be larger than memory: items are handed out one at a time, and only values that
the file refers to again are kept. What is alive at once is bounded by `LARGEST_ITEM`, whatever the file says.
"""

from __future__ import annotations

import mmap
import pickle
import pickletools
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["PickleError", "Record", "footprint", "read_items"]

LARGEST_ITEM = 128 << 20
"""Bytes that one item, with what is kept of earlier ones, may take in memory."""

LARGEST_TEXT = 1 << 16
"""Bytes of one text."""

MOST_REFERENCES = 500_000
"""Values that a file may refer to again."""

MOST_REPEATED = 256 << 20, 16
"""Bytes, and times the size of the file, that all lists and objects fetched again may take together, each time counted:
a few bytes of a file can refer to much of it again, and whoever walks what comes out would take as long every time."""

Data = bytes | mmap.mmap
Classes = Mapping[tuple[str, str], str]


class PickleError(Exception):
    """Why a file is refused; says nothing of which file."""


class Record:
    """An object of a named class: its state, none of its code."""

    __slots__ = ("kind", "state")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.state: dict[str, Any] | None = None


class _Class:
    """Stands for a class on the stack; cannot be called."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind


_LONGEST = {pickle.SHORT_BINUNICODE[0]: LARGEST_TEXT, pickle.BINUNICODE[0]: LARGEST_TEXT, pickle.LONG1[0]: 8}
_LONGEST_NAME = 200  # characters of module and class in GLOBAL, which stand in lines
_GLOBAL, _STOP, _GETS = pickle.GLOBAL[0], pickle.STOP[0], (pickle.BINGET[0], pickle.LONG_BINGET[0])
_CONSTANTS = {
    pickle.NONE[0]: None,
    pickle.NEWTRUE[0]: True,
    pickle.NEWFALSE[0]: False,
    pickle.EMPTY_TUPLE[0]: (),
}
_NEWEST_PROTOCOL = 5
_CONTAINERS = frozenset({list, tuple, dict, Record})


def read_items(path: Path, classes: Classes) -> Iterator[Any]:
    """Yield the items of the list that a pickle holds, each complete.

    ``classes`` maps (module, name) to the kind of the `Record` that stands for an object of that class. The whole
    file is checked for opcodes and its end before the first item appears.

    Raises:
        PickleError: The file is no such list, or holds anything but plain data and these classes.
        OSError: The file cannot be read.
    """
    if path.stat().st_size == 0:
        raise PickleError("the file is empty")
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield from _Machine(data, classes).items()


def _opcodes(data: Data) -> Iterator[tuple[int, int, int]]:
    """Yield (opcode, begin of its argument, end of it), up to the one that stops; refuse all that is not data."""
    at, size, table = 0, len(data), _OPCODES
    while at < size:
        opcode, begin = data[at], at + 1
        length, prefix, _ = table[opcode]
        if prefix:
            length = int.from_bytes(data[begin : begin + prefix], "little")
            if length > _LONGEST[opcode]:
                raise PickleError(f"a value of {length} bytes at byte {at} is larger than a graph has")
            begin += prefix
            end = begin + length
        elif length >= 0:
            end = begin + length
        elif opcode == _GLOBAL:
            end = begin
            for _ in range(2):
                end = data.find(b"\n", end, end + _LONGEST_NAME) + 1
                if end == 0:
                    raise PickleError(f"the name of a class at byte {at} has no end")
        else:
            raise PickleError(f"opcode {_name(opcode)} at byte {at} is not one of plain data")
        if end > size:
            break
        yield opcode, begin, end
        at = end
        if opcode == _STOP:
            if at < size:
                raise PickleError(f"{size - at} bytes follow its end")
            return
    raise PickleError("it ends too early")


def _name(opcode: int) -> str:
    return next((known.name for known in pickletools.opcodes if known.code == chr(opcode)), f"{opcode:#04x}")


class _Machine:
    """The state of interpreting one pickle: a stack per open mark, and the values to be referred to again."""

    def __init__(self, data: Data, classes: Classes) -> None:
        self.data = data
        self.classes = classes
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stacks below the open marks
        self.memo: dict[int, Any] = {}
        self.memoized = 0
        self.last_use: dict[int, int] = {}  # index of a value -> position of the last opcode that fetches it
        self.fresh: list[int] = []  # indices of values that the item under way has put into the memo
        self.room = LARGEST_ITEM  # bytes that the item under way may still take
        self.kept = 0  # bytes of earlier values that are still to be fetched
        self.repeated = MOST_REPEATED[0] + MOST_REPEATED[1] * len(
            data
        )  # bytes that may still be fetched again
        self.root: list[Any] | None = None
        self.complete: list[Any] = []

    def items(self) -> Iterator[Any]:
        for opcode, begin, end in _opcodes(self.data):
            if opcode in _GETS:
                self.last_use[int.from_bytes(self.data[begin:end], "little")] = begin
                if len(self.last_use) > MOST_REFERENCES:
                    raise PickleError(f"it refers to more than {MOST_REFERENCES} values a second time")
        try:
            for opcode, begin, end in _opcodes(self.data):
                _OPCODES[opcode][2](self, begin, end)
                if self.complete:
                    yield from self.complete
                    self.complete.clear()
        except (IndexError, UnicodeDecodeError) as error:  # a stack that runs empty, a text that is none
            raise PickleError("its opcodes do not fit together") from error
        if self.outer or len(self.stack) != 1 or self.stack[0] is not self.root:
            raise PickleError("it does not hold one list")

    # -- the item under way

    def _take(self, size: int) -> None:
        self.room -= size
        if self.room < 0:
            raise PickleError(f"one item takes more than {LARGEST_ITEM >> 20} MB of memory")

    def _push(self, value: Any, size: int) -> None:
        if size > self.room:
            self._take(size)
        self.room -= size
        self.stack.append(value)

    def _close(self) -> list[Any]:
        """Return the values above the last mark, and go back below it."""
        values, self.stack = self.stack, self.outer.pop()
        return values

    def _begin_item(self) -> None:
        """Hand out what stands complete in the list's open batch when the next dictionary of it begins."""
        if len(self.outer) == 1 and len(self.stack) == 1 and type(self.stack[0]) is dict:
            below = self.outer[0]
            if len(below) == 1 and below[0] is self.root:
                self._hand_out(self.stack)
                self.stack.clear()

    def _hand_out(self, values: list[Any]) -> None:
        self.complete += values
        alive = [self.memo[index] for index in self.fresh if index in self.memo]
        self.kept += footprint(alive)
        self.fresh.clear()
        self.room = LARGEST_ITEM - self.kept

    # -- opcodes

    def _nothing(self, begin: int, end: int) -> None:
        pass

    def _protocol(self, begin: int, end: int) -> None:
        if self.data[begin] > _NEWEST_PROTOCOL:
            raise PickleError(f"its protocol {self.data[begin]} is newer than {_NEWEST_PROTOCOL}")

    def _mark(self, begin: int, end: int) -> None:
        self._take(64)
        self.outer.append(self.stack)
        self.stack = []

    def _constant(self, begin: int, end: int) -> None:
        self._push(_CONSTANTS[self.data[begin - 1]], 8)

    def _unsigned(self, begin: int, end: int) -> None:
        self._push(int.from_bytes(self.data[begin:end], "little"), 40)

    def _signed(self, begin: int, end: int) -> None:
        self._push(int.from_bytes(self.data[begin:end], "little", signed=True), 40)

    def _float(self, begin: int, end: int) -> None:
        self._push(struct.unpack(">d", self.data[begin:end])[0], 32)

    def _text(self, begin: int, end: int) -> None:
        text = self.data[begin:end].decode("utf-8")
        self._push(text, 8 + sys.getsizeof(text))

    def _list(self, begin: int, end: int) -> None:
        values: list[Any] = []
        if self.root is None and not self.stack and not self.outer:
            self.root = values
        self._push(values, 72)

    def _append(self, begin: int, end: int) -> None:
        value = self.stack.pop()
        self._extend([value])

    def _appends(self, begin: int, end: int) -> None:
        self._extend(self._close())

    def _extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise PickleError("it appends to what is no list")
        if target is self.root and not self.outer and len(self.stack) == 1:
            self._hand_out(values)
        else:
            self._take(10 * len(values))
            target += values

    def _tuple(self, begin: int, end: int) -> None:
        values = tuple(self._close())
        self._push(values, 56 + 8 * len(values))

    def _short_tuple(self, begin: int, end: int) -> None:
        count = self.data[begin - 1] - pickle.TUPLE1[0] + 1
        values = tuple(reversed([self.stack.pop() for _ in range(count)]))
        self._push(values, 56 + 8 * count)

    def _dict(self, begin: int, end: int) -> None:
        self._begin_item()
        self._push({}, 72)

    def _set_item(self, begin: int, end: int) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def _set_items(self, begin: int, end: int) -> None:
        self._update(self._close())

    def _update(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        keys = pairs[::2]
        if type(target) is not dict or len(pairs) % 2:
            raise PickleError("its opcodes do not fit together")
        if not all(type(key) is str or type(key) is int for key in keys):
            raise PickleError("a dictionary has a key that is neither text nor a number")
        self._take(184 + 80 * len(keys))
        target.update(zip(keys, pairs[1::2], strict=True))

    def _put(self, begin: int, end: int) -> None:
        self._remember(int.from_bytes(self.data[begin:end], "little"))

    def _memoize(self, begin: int, end: int) -> None:
        self._remember(self.memoized)

    def _remember(self, index: int) -> None:
        value = self.stack[-1]
        self.memoized += 1
        if index in self.last_use:
            self.memo[index] = value
            self.fresh.append(index)
            self._take(48)

    def _get(self, begin: int, end: int) -> None:
        index = int.from_bytes(self.data[begin:end], "little")
        if index not in self.memo:
            raise PickleError(f"it refers to value {index}, which does not exist")
        value = self.memo[index]
        self._push(value, 16)
        if type(value) in _CONTAINERS:
            self.repeated -= footprint([value])
            if self.repeated < 0:
                raise PickleError("it repeats its lists or objects beyond any use")
        if self.last_use[index] == begin:
            del self.memo[index]

    def _global(self, begin: int, end: int) -> None:
        module, name = self.data[begin : end - 1].decode("utf-8").split("\n")
        self._class(module, name)

    def _stack_global(self, begin: int, end: int) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise PickleError("the name of a class is no text")
        self._class(module, name)

    def _class(self, module: str, name: str) -> None:
        kind = self.classes.get((module, name))
        if kind is None:
            raise PickleError(f"it holds an object of class {f'{module}.{name}'[:120]!r}")
        self._push(_Class(kind), 48)

    def _new_object(self, begin: int, end: int) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if type(kind) is not _Class or type(arguments) is not tuple or arguments:
            raise PickleError("an object is made with arguments")
        self._push(Record(kind.kind), 56)

    def _build(self, begin: int, end: int) -> None:
        state, record = self.stack.pop(), self.stack[-1]
        if type(record) is not Record or record.state is not None or type(state) is not dict:
            raise PickleError("the state of an object is no dictionary")
        record.state = state


# Opcode -> bytes of its argument, bytes of the length that stands before it where that varies, what it does.
_OPCODES: list[tuple[int, int, Callable[[_Machine, int, int], None]]] = [(-1, 0, _Machine._nothing)] * 256
for _code, _size, _prefix, _does in (
    (pickle.PROTO, 1, 0, _Machine._protocol), (pickle.FRAME, 8, 0, _Machine._nothing),
    (pickle.STOP, 0, 0, _Machine._nothing), (pickle.MARK, 0, 0, _Machine._mark),
    (pickle.NONE, 0, 0, _Machine._constant), (pickle.EMPTY_TUPLE, 0, 0, _Machine._constant),
    (pickle.NEWTRUE, 0, 0, _Machine._constant), (pickle.NEWFALSE, 0, 0, _Machine._constant),
    (pickle.BININT, 4, 0, _Machine._signed), (pickle.LONG1, 0, 1, _Machine._signed),
    (pickle.BININT1, 1, 0, _Machine._unsigned), (pickle.BININT2, 2, 0, _Machine._unsigned),
    (pickle.BINFLOAT, 8, 0, _Machine._float),
    (pickle.SHORT_BINUNICODE, 0, 1, _Machine._text), (pickle.BINUNICODE, 0, 4, _Machine._text),
    (pickle.EMPTY_LIST, 0, 0, _Machine._list),
    (pickle.APPEND, 0, 0, _Machine._append), (pickle.APPENDS, 0, 0, _Machine._appends),
    (pickle.TUPLE, 0, 0, _Machine._tuple), (pickle.TUPLE1, 0, 0, _Machine._short_tuple),
    (pickle.TUPLE2, 0, 0, _Machine._short_tuple), (pickle.TUPLE3, 0, 0, _Machine._short_tuple),
    (pickle.EMPTY_DICT, 0, 0, _Machine._dict),
    (pickle.SETITEM, 0, 0, _Machine._set_item), (pickle.SETITEMS, 0, 0, _Machine._set_items),
    (pickle.BINPUT, 1, 0, _Machine._put), (pickle.LONG_BINPUT, 4, 0, _Machine._put),
    (pickle.MEMOIZE, 0, 0, _Machine._memoize),
    (pickle.BINGET, 1, 0, _Machine._get), (pickle.LONG_BINGET, 4, 0, _Machine._get),
    (pickle.GLOBAL, -1, 0, _Machine._global), (pickle.STACK_GLOBAL, 0, 0, _Machine._stack_global),
    (pickle.NEWOBJ, 0, 0, _Machine._new_object), (pickle.BUILD, 0, 0, _Machine._build),
):  # fmt: skip
    _OPCODES[_code[0]] = (_size, _prefix, _does)


def footprint(values: list[Any]) -> int:
    """Return about how many bytes values take, with all they hold, each counted once."""
    total, seen, waiting = 0, set[int](), list(values)
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        total += 64 + sys.getsizeof(value)
        if type(value) is Record:
            waiting.append(value.state)
        elif type(value) is dict:
            waiting += value.values()
            waiting += value
        elif type(value) is list or type(value) is tuple:
            waiting += value
    return total
