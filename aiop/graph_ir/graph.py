"""A network as a graph of operations. Imports neither onnx nor torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

__all__ = ["ComputeGraph", "Edge", "Operation", "TensorSpec"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Shape (elements per axis, all known) and element type (``float32``, ``int64``, ...) of a tensor."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def elements(self) -> int:
        """Number of elements; 1 for a scalar."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count


@dataclass(slots=True)
class Operation:
    """One operation of a network.

    ``op`` is the canonical operator (`aiop.graph_ir.operators.VOCABULARY`), ``onnx_type`` what the file called
    it. ``inputs`` and ``outputs`` name activations (computed tensors) only; constants are ``weights`` (shapes of the
    trained ones) or nothing. ``kernel``, ``stride``, ``dilation`` have one entry per spatial axis, ``padding`` two (all
    begins, then all ends), and are empty where the operator has none. ``macs`` are multiply-accumulates of the
    whole operation, ``params`` trained numbers not counted at an earlier operation that shares them,
    ``output_elements`` the elements of all outputs, ``elementwise`` operations on single elements, which ``macs``
    do not hold (`aiop.graph_ir.elementwise` defines them). ``domain`` is that of ``onnx_type``, empty for the ONNX
    standard. ``precision`` is the element type of the weights or, where there are none, of what is computed
    with: ``float32``, ``float16``, ``bfloat16``, ``float8``, ``int8``, ``int4`` and so on.
    """

    name: str
    op: str
    onnx_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    groups: int = 1
    bias: bool = False
    weights: tuple[TensorSpec, ...] = ()
    scalars: tuple[float, ...] = ()
    attributes: tuple[tuple[str, object], ...] = ()
    macs: int = 0
    params: int = 0
    output_elements: int = 0
    elementwise: int = 0
    domain: str = ""
    precision: str = "float32"


@dataclass(frozen=True, slots=True)
class Edge:
    """Operation ``source`` feeds operation ``target`` (indices into ``ComputeGraph.operations``) with ``tensor``."""

    source: int
    target: int
    tensor: str


@dataclass
class ComputeGraph:
    """Operations in topological order, with the typed and shaped tensors that flow between them.

    ``inputs`` are represented by operations of kind ``Input`` (one each), so every activation has a producer.
    ``params`` counts the file as given; in the canonical form it counts every weight as large as it is.
    """

    name: str
    operations: list[Operation]
    tensors: dict[str, TensorSpec]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    notes: tuple[str, ...] = ()
    opset: int = 0
    producer: str = ""

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions, transposed convolutions and matrix products."""
        return sum(operation.macs for operation in self.operations)

    @cached_property
    def elementwise(self) -> int:
        """Operations on single elements (activations, norms, pools, sums); none of them is in the MACs."""
        return sum(operation.elementwise for operation in self.operations)

    @property
    def flops(self) -> int:
        """Twice the MACs."""
        return 2 * self.macs

    @cached_property
    def params(self) -> int:
        """Trained numbers: weights, biases, norm scales and shifts; no running statistics."""
        return sum(operation.params for operation in self.operations)

    @cached_property
    def activations(self) -> int:
        """Elements written by convolutions and matrix products (the count of RegNet and fvcore)."""
        return sum(operation.output_elements for operation in self.operations if operation.macs)

    @cached_property
    def producers(self) -> dict[str, int]:
        """Tensor name -> index of the operation that computes it."""
        return {name: index for index, operation in enumerate(self.operations) for name in operation.outputs}

    def edges(self) -> list[Edge]:
        """Every (source, target, tensor), ordered by target, then by its input position."""
        producers = self.producers
        return [
            Edge(producers[name], target, name)
            for target, operation in enumerate(self.operations)
            for name in operation.inputs
        ]

    def with_operations(
        self, operations: list[Operation], outputs: tuple[str, ...] | None = None
    ) -> ComputeGraph:
        """Return a graph with other operations (and outputs) over the same tensors."""
        return replace(self, operations=operations, outputs=self.outputs if outputs is None else outputs)
