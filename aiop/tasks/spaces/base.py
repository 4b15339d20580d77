"""What every search space is: a grammar of architecture codes, and the network each code denotes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import numpy as np

from aiop.errors import AiopError, suggest

if TYPE_CHECKING:
    import onnx

    from aiop.tasks.spaces.writer import WeightMode

__all__ = ["Form", "SearchSpace", "get_space", "list_spaces", "register_space"]

Architecture = TypeVar("Architecture")


@dataclass(frozen=True)
class Form:
    """What a task asks of a body: the image it reads and the head on top.

    ``shape`` is ``(channels, height, width)`` of the image (of a space whose code holds the resolution: of the
    largest one), ``head`` the kind of head, such as ``"classification"`` or ``"segmentation"``, and ``classes``
    its outputs. ``batch`` images are read at once: 1, or the tiles of a puzzle.
    """

    shape: tuple[int, int, int]
    classes: int
    head: str = "classification"
    batch: int = 1


class SearchSpace(ABC, Generic[Architecture]):
    """A set of architectures, each named by a code (the text after ``space:``).

    ``parse`` and ``format`` are inverse to each other; ``build`` writes the network that a code denotes in
    one of the space's ``forms``. Every operation is a function of its arguments alone. The code is the text of
    the benchmark's own column: lists joined by ``,``, several columns by ``/`` in the order of the table.
    """

    name: str
    forms: ClassVar[Mapping[str, Form]]
    default_form: str
    example: str  # a valid code, quoted by every refusal

    @abstractmethod
    def parse(self, code: str) -> Architecture:
        """Read a code; one outside the grammar is an `AiopError` that says what is wrong."""

    @abstractmethod
    def format(self, architecture: Architecture) -> str:
        """The code of an architecture."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> str:
        """Draw a code uniformly from the grammar."""

    @abstractmethod
    def neighbours(self, code: str) -> list[str]:
        """Every other code one mutation away, once each and in a fixed order.

        A mutation changes one choice (one operation, one edge, one number); positions that the network does
        not read are left alone, so that a neighbour is another network wherever the space allows it.
        """

    def validate(self, code: str) -> str:
        """The code as `format` spells it; one outside the grammar is an `AiopError`."""
        return self.format(self.parse(code))

    def mutate(self, code: str, rng: np.random.Generator) -> str:
        """Draw one of the `neighbours` uniformly."""
        found = self.neighbours(code)
        return found[int(rng.integers(len(found)))]

    def form(self, form: str | None = None) -> Form:
        """The `Form` of that name, ``default_form`` where None; an unknown name is an `AiopError`."""
        key = form or self.default_form
        if key not in self.forms:
            raise AiopError(
                f'search space "{self.name}" has no form "{key}"{suggest(key, self.forms)}: '
                f"it has {', '.join(self.forms)}"
            )
        return self.forms[key]

    def input_shape(self, code: str, form: str | None = None) -> tuple[int, int, int, int]:
        """Shape ``(batch, channels, height, width)`` of the network's input ``image``."""
        self.parse(code)
        described = self.form(form)
        return (described.batch, *described.shape)

    def output_shapes(self, code: str, form: str | None = None) -> dict[str, tuple[int, ...]]:
        """Name and shape of each output of the network; a space with other heads than a classifier says so."""
        self.parse(code)
        return {"logits": (1, self.form(form).classes)}

    @abstractmethod
    def _write(
        self, architecture: Architecture, name: str, form: Form, weights: WeightMode, seed: int
    ) -> onnx.ModelProto:
        """Write the network of ``architecture`` in ``form``; ``name`` becomes the graph's name."""

    def build(
        self, code: str, form: str | None = None, weights: WeightMode = "shapes", seed: int = 0
    ) -> onnx.ModelProto:
        """Write the network of ``code`` at batch 1.

        ``form`` is one of ``forms`` (``default_form`` where None). ``weights="shapes"`` gives a file of a few
        dozen kB whose large weights are constants, ``"random"`` He-initialised weights drawn by ``seed``.
        An unknown form and a code outside the grammar are `AiopError`.
        """
        described = self.form(form)
        architecture = self.parse(code)
        prefix = self.name if form in (None, self.default_form) else f"{self.name}@{form}"
        return self._write(architecture, f"{prefix}:{code}", described, weights, seed)

    def refuse(self, code: str, reason: str) -> AiopError:
        """The error for a code outside the grammar, with a valid code as the next step."""
        shown = code if len(code) <= 120 else code[:117] + "..."
        shown = "".join(
            letter if letter.isprintable() else " " for letter in shown
        )  # the message is one line
        return AiopError(
            f'"{shown}" is not a {self.name} code: {reason}; a valid code is "{self.name}:{self.example}"'
        )


_SPACES: dict[str, SearchSpace[object]] = {}

Space = TypeVar("Space", bound=type)


def register_space(space: Space) -> Space:
    """Class decorator: make one instance of a `SearchSpace` available under its ``name``."""
    instance = space()
    if instance.name in _SPACES:
        raise ValueError(f"search space {instance.name!r} is registered twice")
    _SPACES[instance.name] = instance
    return space


def get_space(name: str) -> SearchSpace[object]:
    """The search space ``name``; an unknown name is an `AiopError` with the nearest one.

    >>> get_space("nas-bench-201").default_form
    'cifar100'
    """
    if name not in _SPACES:
        raise AiopError(
            f'search space "{name}" is unknown{suggest(name, _SPACES)}: '
            f"the spaces are {', '.join(list_spaces())}"
        )
    return _SPACES[name]


def list_spaces(glob: str = "*") -> list[str]:
    """Names of the search spaces that match a shell-style pattern, sorted; empty where none matches."""
    return sorted(name for name in _SPACES if fnmatchcase(name, glob))
