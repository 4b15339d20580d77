"""Einstein sums: the extent of every index, the shape they give and what multiplying them out takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from aiop.graph_ir.values import Shape

__all__ = ["Einsum", "EinsumError", "parse_einsum"]

Labels = tuple[str, ...]
"""Indices of a tensor's axes: letters, and ``.0``, ``.1``, ... for the axes of an ellipsis, counted from the last."""


class EinsumError(Exception):
    """An equation that does not fit its operands; the message goes on after the operator's name."""


class Einsum(NamedTuple):
    """An equation over operands of known shapes.

    ``factors`` has the indices along which each operand is longer than 1, ``extents`` the extent of every index.
    """

    factors: tuple[frozenset[str], ...]
    output: Labels
    extents: dict[str, int]

    @property
    def shape(self) -> Shape:
        """Shape of the output."""
        return tuple([self.extents[label] for label in self.output])

    @property
    def macs(self) -> int:
        """Multiply-accumulates of contracting the operands from left to right, two at a time.

        That is how onnxruntime and torch do it. An index that neither the output nor a later operand has is summed
        over in the step where it is last met: before the product where only one of the two operands has it. A step
        that sums over nothing the two share is an element-wise product, and takes none; so does one operand alone.
        """
        total = 0
        left = self.factors[0]
        for position, right in enumerate(self.factors[1:], 2):
            kept = frozenset(self.output).union(*self.factors[position:])
            if (left & right) - kept:
                summed_before = (left ^ right) - kept
                total += math.prod([self.extents[label] for label in (left | right) - summed_before])
            left = (left | right) & kept
        return total


def parse_einsum(equation: str, shapes: Sequence[Shape]) -> Einsum:
    """Return an equation such as ``...ij,jk->...ik`` over operands of the given shapes.

    An ellipsis stands for any number of leading axes, which broadcast; an index that an operand has twice is its
    diagonal; without ``->`` the output has the ellipsis, then every index met once, in alphabetical order. Raises
    `EinsumError`.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise EinsumError(f"equation {equation!r} is for {len(terms)} inputs, not {len(shapes)}")
    extents: dict[str, int] = {}
    factors: list[frozenset[str]] = []
    for term, shape in zip(terms, shapes, strict=True):
        labels = _labels(term, len(shape), equation)
        factors.append(frozenset(label for label, extent in zip(labels, shape, strict=True) if extent != 1))
        for label, extent in zip(labels, shape, strict=True):
            known = extents.get(label, 1)
            if known != extent and 1 not in (known, extent):
                raise EinsumError(
                    f"equation {equation!r} does not fit inputs {[list(shape) for shape in shapes]}"
                )
            extents[label] = extent if known == 1 else known
    broadcast = sorted((label for label in extents if label[0] == "."), key=lambda label: -int(label[1:]))
    if arrow:
        output = _labels(right, len(right.replace("...", "")) + len(broadcast) * ("..." in right), equation)
    else:
        met = Counter(left.replace(".", "").replace(",", ""))
        output = (*broadcast, *sorted(letter for letter, count in met.items() if count == 1))
    if not set(output) <= set(extents) or len(set(output)) < len(output):
        raise EinsumError(f"equation {equation!r} has an output index that no input has, or one twice")
    return Einsum(tuple(factors), output, extents)


def _labels(term: str, rank: int, equation: str) -> Labels:
    """Return the index of every axis of a tensor of ``rank`` axes."""
    before, dots, after = term.partition("...")
    letters = before + after
    between = rank - len(letters)
    if between < 0 or (between and not dots) or not (letters.isalpha() or not letters):
        raise EinsumError(f"equation {equation!r} does not fit an input of {rank} axes")
    return (*before, *(f".{position}" for position in reversed(range(between))), *after)
