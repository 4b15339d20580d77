"""Smaller kernels: the centre of a kernel stays, its rim goes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import NotApplicableError, Site, register
from aiop.search.mutations.local import LocalMutation, extents, is_product, none_of_them, weight_of

__all__ = ["Kernel"]


@dataclass(frozen=True)
class _Window:
    """Kernel, padding and the like of a convolution, one number per spatial axis."""

    kernel: tuple[int, ...]
    dilation: tuple[int, ...]
    stride: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    automatic: bool  # the padding follows from the kernel by itself


@register
class Kernel(LocalMutation):
    """Crop kernels around their centre: 7 -> 5 -> 3 -> 1, each axis that is longer than 1 by the same number of taps.

    The padding shrinks by what the kernel reaches less far, so that every output stays where it is and the cropped
    taps are the only difference. Amounts are the new over the old longest side of a kernel.
    """

    name = "kernel"

    def candidates(self, network: EditableNetwork) -> Iterable[ir.Node]:
        return (node for node in network.graph if is_product(node) and self._might(network, node))

    def _might(self, network: EditableNetwork, node: ir.Node) -> bool:
        if not self.looks_like_one(node):
            return (
                none_of_them(node) is not None and "MatMul" not in node.op_type and "Gemm" not in node.op_type
            )
        shape = network.shape(node.inputs[1])
        return shape is None or any(side is None or side > 1 for side in shape[2:])

    def looks_like_one(self, node: ir.Node) -> bool:
        return node.op_type in ("Conv", "ConvTranspose") and none_of_them(node) is None

    def fits(self, network: EditableNetwork, node: ir.Node) -> Site:
        reason = none_of_them(node)
        if reason is not None:
            raise NotApplicableError(reason)
        sides, _ = _choices(network, node)
        longest = max(_window(network, node).kernel)
        return Site(self.name, node.name or "", tuple(side / longest for side in sides), (node.name or "",))

    def change(self, network: EditableNetwork, node: ir.Node, amount: float) -> str:
        sides, window = _choices(network, node)
        longest = max(window.kernel)
        side = min(sides, key=lambda choice: (abs(choice - amount * longest), -choice))
        smaller, off = _cropped(window, (longest - side) // 2)
        shape = extents(weight_of(node, 1))
        crop = (
            slice(None),
            slice(None),
            *(slice(cut, cut + kept) for cut, kept in zip(off, smaller.kernel, strict=True)),
        )
        value = network.own(node, 1)
        network.derive(value, shape[:2] + smaller.kernel, lambda array: np.ascontiguousarray(array[crop]))
        node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", list(smaller.kernel))
        if not window.automatic:
            node.attributes["pads"] = ir.AttrInt64s("pads", [*smaller.before, *smaller.after])
            node.attributes.pop("auto_pad", None)
        return f"{node.name}: kernel {_by(window.kernel)} -> {_by(smaller.kernel)}"


def _choices(network: EditableNetwork, node: ir.Node) -> tuple[list[int], _Window]:
    """Return the longest sides that a kernel can have, from the longest, and the window as it is."""
    window = _window(network, node)
    longest = max(window.kernel)
    if longest == 1:
        raise NotApplicableError("the kernel is 1 wide already")
    if longest == 2:
        raise NotApplicableError(f"a kernel of {_by(window.kernel)} has no centre to crop to")
    sides: list[int] = []
    reason = ""
    for taps in range(1, (longest - 1) // 2 + 1):
        problem = _problem(window, taps)
        if problem is None:
            sides.append(longest - 2 * taps)
        else:
            reason = reason or problem
    if not sides:
        raise NotApplicableError(reason)
    return sides, window


def _problem(window: _Window, taps: int) -> str | None:
    smaller, off = _cropped(window, taps)
    for axis, side in enumerate(window.kernel):
        if off[axis] == 0 and side > 1:
            return f"a side of {side} has no centre to crop to"
        if not window.automatic and min(smaller.before[axis], smaller.after[axis]) < 0:
            found = f"{window.before[axis]} and {window.after[axis]}"
            return f"a kernel of {_by(window.kernel)} with padding {found} cannot get smaller without moving its output"
    return None


def _cropped(window: _Window, taps: int) -> tuple[_Window, tuple[int, ...]]:
    """Return the window with up to ``taps`` less on each side, and what is cut from each axis' beginning."""
    off = tuple(min(taps, (side - 1) // 2) for side in window.kernel)
    reach = [cut * step for cut, step in zip(off, window.dilation, strict=True)]
    return _Window(
        tuple(side - 2 * cut for side, cut in zip(window.kernel, off, strict=True)),
        window.dilation,
        window.stride,
        tuple(pad - less for pad, less in zip(window.before, reach, strict=True)),
        tuple(pad - less for pad, less in zip(window.after, reach, strict=True)),
        window.automatic,
    ), off


def _window(network: EditableNetwork, node: ir.Node) -> _Window:
    kernel = extents(weight_of(node, 1))[2:]
    if not kernel:
        raise NotApplicableError("its kernel has no sides")
    ones = (1,) * len(kernel)
    dilation, stride = _numbers(node, "dilations", ones), _numbers(node, "strides", ones)
    attribute = node.attributes.get("auto_pad")
    mode = attribute.as_string() if attribute is not None else "NOTSET"
    pads = _numbers(node, "pads", (0,) * (2 * len(kernel)))
    automatic = False
    if mode == "VALID":
        pads = (0,) * (2 * len(kernel))
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        odd = all(side % 2 for side in kernel)
        if node.op_type == "Conv" and odd and set(stride) == {1}:
            automatic = True
        else:
            pads = _same(network, node, kernel, dilation, stride, mode)
    return _Window(kernel, dilation, stride, pads[: len(kernel)], pads[len(kernel) :], automatic)


def _same(
    network: EditableNetwork,
    node: ir.Node,
    kernel: tuple[int, ...],
    dilation: tuple[int, ...],
    stride: tuple[int, ...],
    mode: str,
) -> tuple[int, ...]:
    shape = network.shape(node.inputs[0])
    if node.op_type != "Conv" or shape is None or None in shape[2:]:
        raise NotApplicableError(f"how much auto_pad={mode} pads is not known")
    before, after = [], []
    for size, side, spread, step in zip(shape[2:], kernel, dilation, stride, strict=True):
        assert size is not None
        total = max((-(-size // step) - 1) * step + spread * (side - 1) + 1 - size, 0)
        first = total // 2 if mode == "SAME_UPPER" else total - total // 2
        before.append(first)
        after.append(total - first)
    return (*before, *after)


def _numbers(node: ir.Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    attribute = node.attributes.get(name)
    return tuple(attribute.as_ints()) if attribute is not None else default


def _by(sides: tuple[int, ...]) -> str:
    return "x".join(map(str, sides))
