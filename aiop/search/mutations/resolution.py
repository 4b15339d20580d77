"""Lower input resolution."""

from __future__ import annotations

import math
from typing import ClassVar

import onnx_ir as ir

from aiop.errors import AiopError
from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import Decision, Edit, Mutation, NotApplicableError, Refusal, Site, register
from aiop.search.mutations.following import Plan, follow
from aiop.search.mutations.local import check_amount, is_product

__all__ = ["Resolution"]

_AMOUNTS = (0.875, 0.75, 0.625, 0.5)
_COARSE, _COARSE_FROM = (
    32,
    128,
)  # what vision networks are built for, and the least side for which it is fine enough
_FEWEST_SIDES = 8
_MOST_CHANNELS = 16


@register
class Resolution(Mutation):
    """Smaller images: the sides of the input by .875, .75, .625 or .5, and every size that follows from them.

    Sides that are multiples of 32 stay so (from 128 on), others stay multiples of the network's stride. Constants
    that hold sizes follow where there is one way to: targets of reshapes and resizes, windows over the whole map.
    A network that holds weights for positions (embeddings, biases, mixing of tokens) is refused. Dense outputs
    shrink with the input. ``where`` is the name of the first image among the inputs.
    """

    name: ClassVar[str] = "resolution"

    def sites(self, network: EditableNetwork) -> list[Site]:
        return [found for found in self._found(network) if isinstance(found, Site)]

    def refusals(self, network: EditableNetwork) -> list[Refusal]:
        return [found for found in self._found(network) if isinstance(found, Refusal)]

    def _found(self, network: EditableNetwork) -> list[Site | Refusal]:
        found: list[Site | Refusal] | None = network.memo.get("resolution")
        if found is None:
            found = network.memo["resolution"] = [self._look(network)]
        return found

    def _look(self, network: EditableNetwork) -> Site | Refusal:
        where = network.graph.inputs[0].name or "" if len(network.graph.inputs) else ""
        try:
            images = _images(network)
        except NotApplicableError as error:
            return Refusal(self.name, where, str(error))
        where = images[0][0].name or ""
        amounts: dict[tuple[int, ...], float] = {}
        cheaper: tuple[str, ...] = ()
        reason = ""
        for amount in _AMOUNTS:
            try:
                sizes, plan = _plan(network, images, amount)
            except NotApplicableError as error:
                reason = reason or str(error)
                continue
            if sizes not in amounts:
                amounts[sizes] = amount
                cheaper = cheaper or _cheaper(network, plan)
        if not amounts:
            return Refusal(self.name, where, reason)
        return Site(self.name, where, tuple(amounts.values()), cheaper)

    def apply(self, network: EditableNetwork, where: str, amount: float) -> Edit:
        images = _images(network)
        if where != images[0][0].name:
            raise NotApplicableError(f'the image is the input "{images[0][0].name}", not "{where}"')
        check_amount(Site(self.name, where, _AMOUNTS, ()), amount)
        sizes, plan = _plan(network, images, amount)
        # on a copy, since only inference over the whole network shows that all of it follows
        changed = network.clone()
        for value in changed.graph.inputs:
            if value.name in plan.inputs:
                value.shape = ir.Shape(plan.inputs[value.name or ""])
        for change in plan.constants:
            node = changed.node(change.node)
            assert node is not None
            constant = changed.own(node, change.index)
            constant.const_value = ir.Tensor(change.values, name=constant.name)
            constant.shape = ir.Shape(change.values.shape)
        for kernel in plan.kernels:
            node = changed.node(kernel.node)
            assert node is not None
            node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", list(kernel.sides))
        try:
            changed.infer()
        except AiopError as error:
            raise NotApplicableError(f"at {_by(sizes)} its shapes do not fit together") from error
        network.model = changed.model
        network.infer()
        old = tuple(images[0][0].shape[axis] for axis in images[0][1])  # type: ignore[index]
        return Edit(Decision(self.name, where, amount), f"{where}: {_by(old)} -> {_by(sizes)}")


def _by(sides: tuple[object, ...]) -> str:
    return "x".join(map(str, sides))


def _images(network: EditableNetwork) -> list[tuple[ir.Value, tuple[int, int]]]:
    """Return the inputs that are images, with their axes of rows and columns."""
    images = []
    for value in network.graph.inputs:
        shape = network.shape(value)
        if shape is None or len(shape) != 4:
            continue
        channels_first = shape[1] is not None and shape[1] <= _MOST_CHANNELS
        channels_last = not channels_first and shape[3] is not None and shape[3] <= _MOST_CHANNELS
        axes = (1, 2) if channels_last else (2, 3)
        if not (channels_first or channels_last) or any((shape[axis] or 0) < _FEWEST_SIDES for axis in axes):
            continue
        images.append((value, axes))
    if not images:
        raise NotApplicableError("no input is an image with rows and columns")
    sizes = {tuple(value.shape[axis] for axis in axes) for value, axes in images if value.shape is not None}
    if len(sizes) > 1:
        raise NotApplicableError("its inputs are images of different sizes")
    return images


def _plan(
    network: EditableNetwork, images: list[tuple[ir.Value, tuple[int, int]]], amount: float
) -> tuple[tuple[int, ...], Plan]:
    first, axes = images[0]
    shape = network.shape(first)
    assert shape is not None
    old = [shape[axis] or 0 for axis in axes]
    stride = _stride(network)
    sizes = tuple(_smaller(side, amount, stride) for side in old)
    if sizes == tuple(old):
        raise NotApplicableError("no smaller size keeps its sides multiples of its stride")
    inputs = {}
    for value, places in images:
        known = list(network.shape(value) or ())
        for axis, size in zip(places, sizes, strict=True):
            known[axis] = size
        inputs[value.name or ""] = tuple(known)
    key = ("resolution plan", sizes)
    plan: Plan | NotApplicableError | None = network.memo.get(key)  # type: ignore[call-overload]
    if plan is None:
        try:
            plan = follow(network, inputs)
        except NotApplicableError as error:
            plan = error
        network.memo[key] = plan  # type: ignore[index]
    if isinstance(plan, NotApplicableError):
        raise plan
    return sizes, plan


def _smaller(side: int, amount: float, stride: int) -> int:
    step = _COARSE if side % _COARSE == 0 and side >= _COARSE_FROM else stride
    return max(math.ceil(side * amount / step - 0.5), 1) * step


def _stride(network: EditableNetwork) -> int:
    """Return how many rows of an image lie between two of the smallest map that a convolution gives."""
    steps: dict[ir.Value, int] = {}
    largest = 1
    for node in network.graph:
        step = max((steps.get(value, 1) for value in node.inputs if value is not None), default=1)
        attribute = node.attributes.get("strides")
        if attribute is not None and node.op_type in ("Conv", "MaxPool", "AveragePool"):
            sides = network.shape(node.outputs[0])
            if sides is None or any(side != 1 for side in sides[2:]):
                step *= max(attribute.as_ints(), default=1)
        if node.op_type == "Conv":
            largest = max(largest, step)
        for output in node.outputs:
            steps[output] = step
    return largest


def _cheaper(network: EditableNetwork, plan: Plan) -> tuple[str, ...]:
    return tuple(
        node.name or ""
        for node in network.graph
        if is_product(node) and any(value is not None and value.name in plan.shapes for value in node.inputs)
    )
