"""Read every network of the onnx package's own conformance tests, and compare shapes with the outputs they expect.

    python -m benchmarks.conformance [--list] [--write]

The node cases are those of `onnx.backend.test.case.node.collect_testcases`, the files those under the package's
``backend/test/data``. Each comes with the arrays it has to compute: the graph's outputs must have their shapes and
element types. ``--list`` names the cases behind every number.
"""

from __future__ import annotations

import argparse
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph, read_onnx
from aiop.graph_ir.values import DTYPES
from benchmarks.document import write_section

__all__ = ["Case", "Outcome", "files", "judge", "node_cases", "summary"]

FOLLOWS_DATA = ("depends on the data", "is read as", "counted once", "only one step is followed")
"""What the notes say of a shape that is not known before the network runs."""

_REFUSALS = {
    "has no fixed size": "an input's size is open",
    "has no shape": "an input's size is open",
    "depends on the data": "a shape depends on the data",
    "is not a known constant": "a shape depends on the data",
    "the sizes given with --shape": "shapes read for data do not fit",
}


@dataclass
class Case:
    """A network with the inputs it is given and the arrays it computes from them; a list of arrays is a sequence."""

    name: str
    model: onnx.ModelProto
    inputs: Sequence[Any]
    expected: Sequence[Any]


@dataclass
class Outcome:
    """What came of a case: ``refused`` (why), ``equal``, ``exempt`` (why), ``different`` (how)."""

    case: str
    kind: str
    detail: str = ""


def node_cases() -> Iterator[Case]:
    """Yield the cases of single operators."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases:
        assert case.model is not None
        inputs, expected = case.data_sets[0] if case.data_sets else ((), ())
        yield Case(case.name, case.model, inputs, expected)


def files() -> Iterator[Case]:
    """Yield the networks that the package keeps as files."""
    root = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for path in sorted(root.rglob("*.onnx")):
        model = onnx.load(path, load_external_data=False)
        inputs = _stored(path, "input", model.graph.input)
        name = str(path.relative_to(root).with_suffix(""))
        yield Case(name, model, inputs, _stored(path, "output", model.graph.output))


def _stored(alone: Path, kind: str, values: Iterable[onnx.ValueInfoProto]) -> list[Any]:
    """Return arrays stored as messages, one file each; a single file for a network of one layer has no folder."""
    folder = alone.parent / "test_data_set_0"
    arrays: list[Any] = []
    for index, value in enumerate(values):
        path = (
            folder / f"{kind}_{index}.pb"
            if folder.is_dir()
            else alone.with_name(f"{alone.stem}_{kind}_{index}.pb")
        )
        if not path.exists():
            return []
        message: Any
        if value.type.WhichOneof("value") == "sequence_type":
            message = onnx.SequenceProto.FromString(path.read_bytes())
            arrays.append(numpy_helper.to_list(message))
        else:
            message = onnx.TensorProto.FromString(path.read_bytes())
            arrays.append(numpy_helper.to_array(message))
    return arrays


def judge(case: Case) -> Outcome:
    """Read one case and compare its outputs; whatever is no `AiopError` is raised."""
    try:
        graph = _read(case)
    except AiopError as error:
        reason = next((why for text, why in _REFUSALS.items() if text in str(error)), str(error))
        return Outcome(case.name, "refused", reason)
    found, expected = _shapes(graph, case)
    if found == expected:
        return Outcome(case.name, "equal")
    noted = [note for note in graph.notes if any(text in note for text in FOLLOWS_DATA)]
    if not case.expected:
        return Outcome(case.name, "exempt", "the case has no expected outputs")
    if noted:
        return Outcome(case.name, "exempt", f"{noted[0]} ({found} for {expected})")
    return Outcome(case.name, "different", f"{found} for {expected}")


def _read(case: Case) -> ComputeGraph:
    """Read a case; where the file leaves sizes open, at those of the arrays that it is given."""
    stored = {tensor.name for tensor in case.model.graph.initializer}
    values = [value for value in case.model.graph.input if value.name not in stored]
    shapes = {}
    for value, array in zip(values, case.inputs, strict=False):
        array = array[0] if isinstance(array, list) and array else array
        kind = value.type
        for which in ("optional_type", "sequence_type"):
            while kind.WhichOneof("value") == which:
                kind = getattr(kind, which).elem_type
        dims = kind.tensor_type.shape.dim
        open_sizes = not kind.tensor_type.HasField("shape") or not all(
            dim.HasField("dim_value") for dim in dims
        )
        if open_sizes and min(np.shape(array), default=0):
            shapes[value.name] = np.shape(array)
    return read_onnx(case.model, name=case.name, shapes=shapes)


def _shapes(graph: ComputeGraph, case: Case) -> tuple[list[Any], list[Any]]:
    """Return (shape, element type) of the outputs that the graph has, and of those expected; constants are left out."""
    left_out = {
        value.name
        for value in case.model.graph.output
        if any(note.startswith(f"output {value.name!r} ") and "left out" in note for note in graph.notes)
    }
    expected = [
        _shape_and_type(item)
        for value, array in zip(case.model.graph.output, case.expected, strict=False)
        if value.name not in left_out
        for item in (array if isinstance(array, list) else [array])
    ]
    specs = [graph.tensors[key] for key in graph.outputs]
    return [(spec.shape, spec.dtype) for spec in specs], expected


def _shape_and_type(array: Any) -> tuple[tuple[int, ...], str]:
    """Return what an array is, be it a message for the types that numpy does not have."""
    if isinstance(array, onnx.TensorProto):
        return tuple(array.dims), DTYPES[array.data_type]
    return np.shape(array), _type_name(array)


def _type_name(array: Any) -> str:
    kind = np.asarray(array).dtype
    if kind.kind in "OUS":
        return "string"
    return {"float4_e2m1fn": "float4e2m1", "float8_e8m0fnu": "float8e8m0"}.get(
        kind.name, kind.name.replace("_", "")
    )


def summary(outcomes: Iterable[Outcome]) -> dict[str, dict[str, list[str]]]:
    """Return the cases by what came of them, then by why."""
    table: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for outcome in outcomes:
        table[outcome.kind][outcome.detail if outcome.kind == "refused" else ""].append(outcome.case)
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="name the cases behind every number")
    parser.add_argument("--write", action="store_true", help="replace the table in docs/results.md")
    options = parser.parse_args()
    lines: list[str] = []
    for title, cases in (("single operators", node_cases()), ("files", files())):
        outcomes = [judge(case) for case in cases]
        lines += [*_rows(title, outcomes), ""]
        if options.list:
            shown = [outcome for outcome in outcomes if outcome.kind != "equal"]
            lines += [f"{outcome.kind} {outcome.case}: {outcome.detail}" for outcome in shown]
    print("\n".join(lines))
    if options.write:
        write_section("conformance", lines)


def _rows(title: str, outcomes: list[Outcome]) -> list[str]:
    """Return the table of one set of cases, refusals with the names of their cases."""
    count = len(outcomes)
    refused = [outcome for outcome in outcomes if outcome.kind == "refused"]
    rows = [f"| {title} of onnx {onnx.__version__} | {count} |", "|---|---|"]
    rows.append(f"| imported | {count - len(refused)} ({100 * (count - len(refused)) / count:.2f}%) |")
    for reason, names in summary(refused)["refused"].items():
        rows.append(f"| refused: {reason} ({', '.join(names)}) | {len(names)} |")
    for kind, text in (
        ("equal", "outputs equal in shape and element type"),
        ("exempt", "exempt: the shape depends on the data"),
        ("different", "different"),
    ):
        rows.append(f"| {text} | {sum(outcome.kind == kind for outcome in outcomes)} |")
    return rows


if __name__ == "__main__":
    main()
