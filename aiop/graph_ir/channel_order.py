"""Where the order of channels is nobody's business: concatenations whose inputs may come in any order.

A convolution that sees all channels, and a fully connected layer, can take them in any order, for their weights can be
put in that order too, and weights are not part of a network's form. So two networks that concatenate the same tensors
in different orders are one network where every reader of the result comes, through nothing but operators that treat
channels alike, to such a layer. What is added on the way must be free to come in another order as well.
"""

from __future__ import annotations

from aiop.graph_ir.graph import ComputeGraph, Operation

__all__ = ["free_concats"]

# Each channel by itself, and every channel alike: the order of channels passes through.
_CHANNELWISE = frozenset(
    "Relu Clip Sigmoid HardSigmoid SiLU HardSwish Mish Gelu Tanh LeakyRelu Elu Softplus Erf Exp Sqrt Abs Neg BatchNorm "
    "Affine InstanceNorm DepthwiseConv MaxPool AvgPool GlobalAvgPool GlobalMaxPool Resize Zero".split()
)
_JOINING = frozenset({"Add", "Mul"})  # of tensors of one shape, or one per channel
_DEEPEST = (
    200  # operations from a concatenation to the layers that take it: further away it counts as ordered
)


def free_concats(graph: ComputeGraph) -> frozenset[int]:
    """Return the operations (their indices) that are concatenations of channels in no particular order."""
    concats = [index for index, operation in enumerate(graph.operations) if _joins_channels(operation, graph)]
    if not concats:
        return frozenset()
    order = _Order(graph)
    return frozenset(index for index in concats if order.is_free(graph.operations[index].outputs[0]))


def _joins_channels(operation: Operation, graph: ComputeGraph) -> bool:
    """Whether an operation concatenates activations, and nothing else, along axis 1."""
    if operation.op != "Concat" or len(operation.outputs) != 1 or len(operation.inputs) < 2:
        return False
    parts = dict(operation.attributes).get("parts")
    if not isinstance(parts, tuple) or len(parts) != len(operation.inputs):
        return False
    shape = graph.tensors[operation.outputs[0]].shape
    sources = [graph.tensors[key].shape for key in operation.inputs]
    rest = {(source[:1], source[2:]) for source in sources}
    return (
        len(shape) > 1
        and rest == {(shape[:1], shape[2:])}
        and sum(source[1] for source in sources) == shape[1]
    )


class _Order:
    """Answers whether the channels of a tensor may be put in another order without changing the network's form."""

    def __init__(self, graph: ComputeGraph) -> None:
        self._graph = graph
        self._producers: dict[str, Operation] = {}
        self._consumers: dict[str, list[Operation]] = {}
        for operation in graph.operations:
            for key in operation.outputs:
                self._producers[key] = operation
            for key in operation.inputs:
                self._consumers.setdefault(key, []).append(operation)
        self._outputs = frozenset(graph.outputs)

    def is_free(self, tensor: str) -> bool:
        """Whether every reader of ``tensor`` comes to a layer that takes its channels in any order."""
        seen = {tensor}
        waiting = [tensor]
        while waiting:
            key = waiting.pop()
            if key in self._outputs or len(seen) > _DEEPEST:
                return False
            for reader in self._consumers.get(key, ()):
                if self._takes_any_order(reader, key):
                    continue
                if not self._passes_on(reader, key, seen):
                    return False
                for output in reader.outputs:
                    if output not in seen:
                        seen.add(output)
                        waiting.append(output)
        return True

    def _takes_any_order(self, operation: Operation, key: str) -> bool:
        if operation.op in ("Conv", "ConvTranspose"):
            return operation.groups == 1 and operation.inputs == (key,)
        # rows of more than one position would be regrouped with the channels
        return operation.op == "Linear" and operation.inputs == (key,) and self._is_one_position(key)

    def _is_one_position(self, key: str) -> bool:
        return all(extent == 1 for extent in self._graph.tensors[key].shape[2:])

    def _passes_on(self, operation: Operation, key: str, seen: set[str]) -> bool:
        """Whether an operation gives the channels of ``key`` on as they come, and the other tensors follow."""
        if len(operation.outputs) != 1:
            return False
        if operation.op in _CHANNELWISE:
            return len(operation.inputs) == 1
        if operation.op == "Slice":
            shapes = [self._graph.tensors[name].shape for name in (key, operation.outputs[0])]
            return (
                len(operation.inputs) == 1
                and len(shapes[0]) == len(shapes[1])
                and shapes[0][1] == shapes[1][1]
            )
        if operation.op in _JOINING:
            channels = self._graph.tensors[key].shape[1]
            return all(
                other in seen
                or (self._graph.tensors[other].shape[1:2] == (channels,) and self._can_follow(other))
                for other in operation.inputs
            )
        return operation.op == "Concat" and _joins_channels(operation, self._graph)

    def _can_follow(self, tensor: str) -> bool:
        """Whether a layer makes ``tensor`` for one reader only, so that its filters can be put in any order."""
        key = tensor
        for _ in range(_DEEPEST):
            if key in self._outputs or len(self._consumers.get(key, ())) != 1:
                return False
            producer = self._producers[key]
            if producer.op in ("Conv", "ConvTranspose", "Linear"):
                return producer.groups == 1
            if producer.op not in _CHANNELWISE or len(producer.inputs) != 1:
                return False
            (key,) = producer.inputs
        return False
