"""A compute graph as a networkx graph and as JSON."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiop.errors import AiopError
from aiop.graph_ir.graph import ComputeGraph, Operation, TensorSpec
from aiop.graph_ir.operators import INDEX
from aiop.graph_ir.passes import canonicalise

if TYPE_CHECKING:
    import networkx

__all__ = ["SCHEMA", "from_json", "to_json", "to_networkx"]

SCHEMA = "aiop.compute-graph/1"
"""What the JSON of a graph says it is; the number grows when an older reader could not read it."""

_LARGEST = 1 << 63
_GEOMETRY = ("kernel", "stride", "dilation", "padding")
_COUNTS = ("macs", "params", "output_elements", "elementwise")
_NOT_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def to_networkx(graph: ComputeGraph) -> networkx.DiGraph:
    """Return a directed graph: one node per operation, one edge per tensor that one operation hands to another.

    A node is its operation's index, with the attributes ``name``, ``op``, ``onnx_type``, ``kernel``, ``stride``,
    ``dilation``, ``padding``, ``groups``, ``bias``, ``macs``, ``params``, ``output_elements``, ``elementwise``, and
    ``shape`` and ``dtype`` of its first output. An edge has ``tensor`` (its name), ``shape`` and ``dtype``. Where an
    operation reads two tensors of one other, or one tensor twice, the result is a `networkx.MultiDiGraph`. The graph's
    own attributes are ``name``, ``inputs``, ``outputs``, ``macs`` and ``params``.
    """
    import networkx

    edges = graph.edges()
    pairs = {(edge.source, edge.target) for edge in edges}
    kind = networkx.DiGraph if len(pairs) == len(edges) else networkx.MultiDiGraph
    result = kind(
        name=graph.name, inputs=graph.inputs, outputs=graph.outputs, macs=graph.macs, params=graph.params
    )
    for index, operation in enumerate(graph.operations):
        first = graph.tensors[operation.outputs[0]]
        result.add_node(
            index,
            name=operation.name,
            op=operation.op,
            onnx_type=operation.onnx_type,
            groups=operation.groups,
            bias=operation.bias,
            shape=first.shape,
            dtype=first.dtype,
            **{key: getattr(operation, key) for key in (*_GEOMETRY, *_COUNTS)},
        )
    for edge in edges:
        spec = graph.tensors[edge.tensor]
        result.add_edge(edge.source, edge.target, tensor=edge.tensor, shape=spec.shape, dtype=spec.dtype)
    return result


def to_json(graph: ComputeGraph) -> str:
    """Return a graph as JSON (RFC 8259): `from_json` of it gives an equal graph."""
    return json.dumps(
        {
            "schema": SCHEMA,
            "name": graph.name,
            "opset": graph.opset,
            "producer": graph.producer,
            "notes": graph.notes,
            "inputs": graph.inputs,
            "outputs": graph.outputs,
            "tensors": {name: _spec_to_json(spec) for name, spec in graph.tensors.items()},
            "operations": [_operation_to_json(operation) for operation in graph.operations],
        },
        allow_nan=False,
    )


def _spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    return {"shape": spec.shape, "dtype": spec.dtype}


def _operation_to_json(operation: Operation) -> dict[str, Any]:
    return {
        "name": operation.name,
        "op": operation.op,
        "onnx_type": operation.onnx_type,
        "inputs": operation.inputs,
        "outputs": operation.outputs,
        **{key: getattr(operation, key) for key in _GEOMETRY},
        "groups": operation.groups,
        "bias": operation.bias,
        "weights": [_spec_to_json(spec) for spec in operation.weights],
        "scalars": [_number_to_json(number) for number in operation.scalars],
        "attributes": {key: _value_to_json(value) for key, value in operation.attributes},
        **{key: getattr(operation, key) for key in _COUNTS},
        "domain": operation.domain,
        "precision": operation.precision,
    }


def _number_to_json(number: float) -> float | dict[str, str]:
    """JSON has no infinity and no NaN, which networks use as limits and masks."""
    return number if math.isfinite(number) else {"float": str(number)}


def _value_to_json(value: object) -> object:
    if isinstance(value, tuple):
        return [_value_to_json(item) for item in value]
    return _number_to_json(value) if isinstance(value, float) else value


def from_json(text: str | bytes) -> ComputeGraph:
    """Return the graph that `to_json` wrote.

    Text that is not such a graph (another schema, a field missing or of another type, an operation that reads what no
    earlier one computes) is an `AiopError`.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AiopError(f"not a compute graph: not JSON ({error}); write it again with to_json") from None
    record = _Record(data, "graph")
    schema = record.get("schema", str)
    if schema != SCHEMA:
        raise AiopError(f"compute graph of schema {schema!r}: this version reads {SCHEMA!r}; write it again")
    graph = ComputeGraph(
        name=record.get("name", str),
        operations=[
            _operation(_Record(item, f"operation {index}"))
            for index, item in enumerate(record.get("operations", list))
        ],
        tensors={
            name: _spec(_Record(item, f"tensor {name!r}"))
            for name, item in record.get("tensors", dict).items()
        },
        inputs=record.items("inputs", str),
        outputs=record.items("outputs", str),
        notes=record.items("notes", str),
        opset=record.count("opset"),
        producer=record.get("producer", str),
    )
    _check(graph)
    try:
        canonicalise(graph)  # it alone looks at what settings hold
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise AiopError(
            f"not a compute graph: settings of an operation do not fit it ({type(error).__name__}: {error}); "
            "write it again with to_json"
        ) from error
    return graph


class _Record:
    """An object of untrusted JSON, read field by field."""

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, dict):
            raise AiopError(
                f"not a compute graph: {where} is a {type(data).__name__}, not an object; write it again"
            )
        self.data: Mapping[str, Any] = data
        self.where = where

    def get(self, field: str, kind: type[Any]) -> Any:
        value = self.data.get(field)
        if type(value) is not kind:  # so that true is no number
            raise self.wrong(field, f"a {kind.__name__}")
        return value

    def count(self, field: str) -> int:
        value: int = self.get(field, int)
        if not 0 <= value <= _LARGEST:
            raise self.wrong(field, "a count")
        return value

    def items(self, field: str, kind: type[Any]) -> tuple[Any, ...]:
        values = self.get(field, list)
        if any(type(value) is not kind for value in values):
            raise self.wrong(field, f"a list of {kind.__name__}")
        return tuple(values)

    def integers(self, field: str) -> tuple[int, ...]:
        values = self.items(field, int)
        if any(abs(value) > _LARGEST for value in values):
            raise self.wrong(field, "a list of sizes")
        return values

    def wrong(self, field: str, wanted: str) -> AiopError:
        return AiopError(
            f"not a compute graph: {field!r} of {self.where} is not {wanted}; write it again with to_json"
        )


def _spec(record: _Record) -> TensorSpec:
    shape = record.integers("shape")
    if min(shape, default=0) < 0 or math.prod(shape) > _LARGEST:
        raise record.wrong("shape", "a shape")
    return TensorSpec(shape, record.get("dtype", str))


def _operation(record: _Record) -> Operation:
    return Operation(
        name=record.get("name", str),
        op=record.get("op", str),
        onnx_type=record.get("onnx_type", str),
        inputs=record.items("inputs", str),
        outputs=record.items("outputs", str),
        groups=record.count("groups"),
        bias=record.get("bias", bool),
        weights=tuple(_spec(_Record(item, record.where)) for item in record.get("weights", list)),
        scalars=tuple(_scalar(record, item) for item in record.get("scalars", list)),
        attributes=tuple((key, _value(record, item)) for key, item in record.get("attributes", dict).items()),
        kernel=record.integers("kernel"),
        stride=record.integers("stride"),
        dilation=record.integers("dilation"),
        padding=record.integers("padding"),
        macs=record.count("macs"),
        params=record.count("params"),
        output_elements=record.count("output_elements"),
        elementwise=record.count("elementwise"),
        domain=record.get("domain", str),
        precision=record.get("precision", str),
    )


def _scalar(record: _Record, item: object) -> float:
    value = _plain(record, item)
    if not isinstance(value, float):
        raise record.wrong("scalars", "a list of float")
    return value


def _value(record: _Record, item: object) -> object:
    return tuple(_plain(record, value) for value in item) if isinstance(item, list) else _plain(record, item)


def _plain(record: _Record, item: object) -> float | int | str:
    if isinstance(item, dict) and item.keys() == {"float"} and item["float"] in list(_NOT_FINITE):
        return _NOT_FINITE[item["float"]]
    if type(item) is int and abs(item) <= _LARGEST:
        return item
    if isinstance(item, str | float):
        return item
    raise record.wrong("attributes", "an object of numbers and texts")


def _check(graph: ComputeGraph) -> None:
    """Refuse a graph whose parts do not fit each other."""
    known: set[str] = set()
    written = Counter(key for operation in graph.operations for key in operation.outputs)
    for index, operation in enumerate(graph.operations):
        where = f"operation {index} ({operation.name!r})"
        if operation.op not in INDEX:
            raise _misfit(f"{where} is of the unknown kind {operation.op!r}")
        missing = [key for key in operation.inputs if key not in known]
        if missing:
            raise _misfit(f"{where} reads {missing[0]!r}, which no operation before it computes")
        for key in operation.outputs:
            if key not in graph.tensors:
                raise _misfit(f"{where} computes {key!r}, which is not among the tensors")
            if written[key] > 1:
                raise _misfit(f"{key!r} is computed twice")
            known.add(key)
        if not operation.outputs:
            raise _misfit(f"{where} computes nothing")
    flowing_in = [
        key for operation in graph.operations if operation.op == "Input" for key in operation.outputs
    ]
    if sorted(flowing_in) != sorted(graph.inputs):
        raise _misfit("its inputs are not those of its Input operations")
    lost = [key for key in graph.outputs if key not in known]
    if lost:
        raise _misfit(f"no operation computes its output {lost[0]!r}")


def _misfit(what: str) -> AiopError:
    return AiopError(f"not a compute graph: {what}; write it again with to_json")
