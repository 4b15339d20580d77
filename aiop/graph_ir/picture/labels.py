"""What boxes and frames say: operator, settings, shape and share of the MACs; full details as tooltips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from aiop.graph_ir.graph import Operation, TensorSpec
from aiop.graph_ir.picture.repeats import Repeat
from aiop.graph_ir.picture.text import extents, percent, settings, shorten
from aiop.graph_ir.picture.wiring import OUTPUT, Wiring

__all__ = ["Row", "frame_rows", "group_rows", "rows", "tensor"]

_NAME_LENGTH = 160
_MOST_LISTED = 6


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a box: text at the left, text at the right, a tooltip.

    ``strong`` is for what a box is named after, ``faint`` for the shape it writes.
    """

    left: str
    right: str = ""
    strong: bool = False
    faint: bool = False
    tooltip: str = ""


def rows(
    wiring: Wiring, position: int, macs: Sequence[int], total_macs: int, head: bool, with_shape: bool
) -> Iterator[Row]:
    """Yield the lines of an operation: what it is (``head`` where the box is named after it), what it writes.

    ``macs`` are those of every copy that is drawn here, the first one's first.
    """
    operation = wiring.operations[position]
    tooltip = _details(wiring, operation, macs, total_macs)
    if operation.op in ("Input", OUTPUT):
        yield Row(f"{operation.op.lower()} {shorten(operation.name, 24)}", strong=True, tooltip=tooltip)
    else:
        text = settings(operation.kernel, operation.stride, operation.dilation, _groups(operation))
        yield Row(f"{_title(operation)} {text}".strip(), _share(macs, total_macs), head, tooltip=tooltip)
    if with_shape:
        yield Row(_shapes(wiring.shapes(position)), faint=True, tooltip=tooltip)


def frame_rows(wiring: Wiring, repeat: Repeat, alike: bool, share: float) -> tuple[Row, ...]:
    """Return the line of a frame: how often the block is there, and its share of the MACs."""
    starts = range(repeat.start, repeat.stop, repeat.period)
    words = ["in parallel"] * repeat.parallel + ["sizes differ"] * (not alike)
    words += [f"{percent(share)} of MACs"] * (share > 0)
    tooltip = [
        f"{repeat.count} copies of {repeat.period} operations, drawn once",
        "all have the same shapes"
        if alike
        else "their sizes differ: shapes and names drawn are those of the first",
        f"MACs of all copies: {percent(share)} of the network",
        "they begin at:",
        *_listed([wiring.operations[start].name for start in starts]),
    ]
    return (Row(f"× {repeat.count}", " · ".join(words), True, tooltip="\n".join(tooltip)),)


def group_rows(wiring: Wiring, group: Sequence[int], total_macs: int) -> tuple[tuple[Row, ...], int]:
    """Return the lines of a box that stands for many operations, and their MACs."""
    operations = [wiring.operations[position] for position in group]
    macs = sum(operation.macs for operation in operations)
    kinds = Counter(operation.op for operation in operations).most_common()
    texts = [f"{number} {kind}" for kind, number in kinds[:4]] + ["…"] * (len(kinds) > 4)
    tooltip = "\n".join(
        [
            f"{len(operations)} operations, one after the other",
            *(f"{number} {kind}" for kind, number in kinds),
            f"MACs {macs:,} ({percent(macs / total_macs if total_macs else 0)} of the network)",
            f"parameters {sum(operation.params for operation in operations):,}",
            f"from {shorten(operations[0].name, _NAME_LENGTH)}",
            f"to {shorten(operations[-1].name, _NAME_LENGTH)}",
        ]
    )
    plural = "s" * (len(operations) != 1)
    first = Row(f"{len(operations)} operation{plural}", _share([macs], total_macs), True, tooltip=tooltip)
    lines = [Row(" · ".join(part), tooltip=tooltip) for part in (texts[:2], texts[2:]) if part]
    return (first, *lines), macs


def tensor(name: str, spec: TensorSpec) -> str:
    """Return the tooltip of an edge."""
    return f"{shorten(name, _NAME_LENGTH)}\n{extents(spec.shape)} {spec.dtype}"


def _title(operation: Operation) -> str:
    return shorten(operation.onnx_type, 24) + "?" if operation.op == "Unknown" else operation.op


def _groups(operation: Operation) -> int:
    return 1 if operation.op == "DepthwiseConv" else operation.groups


def _share(macs: Sequence[int], total: int) -> str:
    """Return the share of an operation: ``4 × 2.50 %`` where four copies cost the same, ``Σ 8.13 %`` where they do not.

    >>> _share([5], 200), _share([5] * 4, 200), _share([5, 10], 200), _share([0, 0], 200)
    ('2.50 %', '4 × 2.50 %', 'Σ 7.50 %', '')
    """
    if not total or not any(macs):
        return ""
    if len(set(macs)) > 1:
        return f"Σ {percent(sum(macs) / total)}"
    share = percent(macs[0] / total)
    return share if len(macs) == 1 else f"{len(macs)} × {share}"


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    """Return the shapes of all outputs, equal ones once.

    >>> _shapes([(1, 8, 4), (1, 8, 4)]), _shapes([(1, 2), (1, 3)]), _shapes([(1,), (2,), (3,), (4,)])
    ('2 × (1×8×4)', '1×2, 1×3', '1, 2, 3, …')
    """
    if len(shapes) > 1 and len(set(shapes)) == 1:
        return f"{len(shapes)} × ({extents(shapes[0])})"
    texts = [extents(shape) for shape in shapes]
    return shorten(", ".join(texts[:3] + ["…"] * (len(texts) > 3)), 48)


def _details(wiring: Wiring, operation: Operation, macs: Sequence[int], total: int) -> str:
    lines = [shorten(operation.name, _NAME_LENGTH)]
    if operation.op == OUTPUT:
        return "\n".join(["output of the network", *lines, *_tensors(wiring, operation.inputs)])
    if operation.op == "Input":
        return "\n".join(["input of the network", *lines, *_tensors(wiring, operation.outputs)])
    lines.append(f"{operation.op} (ONNX {shorten(operation.onnx_type, 60)})")
    form = [
        f"{name} {extents(values)}"
        for name in ("kernel", "stride", "dilation", "padding")
        if (values := getattr(operation, name))
    ]
    if operation.groups != 1:
        form.append(f"groups {operation.groups}")
    if form:
        lines.append(", ".join(form))
    lines += [f"{name} {shorten(str(value), 60)}" for name, value in operation.attributes[:_MOST_LISTED]]
    lines += [f"reads {text}" for text in _tensors(wiring, operation.inputs)]
    lines += [
        f"weights {extents(weight.shape)} {weight.dtype}" for weight in operation.weights[:_MOST_LISTED]
    ]
    lines += [f"writes {text}" for text in _tensors(wiring, operation.outputs)]
    lines.append(f"MACs {operation.macs:,}, FLOPs {2 * operation.macs:,} (2 × MACs)")
    if operation.macs and total:
        lines.append(f"{percent(operation.macs / total)} of the MACs of the network")
    lines.append(f"parameters {operation.params:,}")
    if len(macs) > 1:
        lines.append(f"drawn once for {len(macs)} copies, {sum(macs):,} MACs together")
    return "\n".join(lines)


def _tensors(wiring: Wiring, names: Iterable[str]) -> list[str]:
    specs = [wiring.tensors[name] for name in names]
    return _listed([f"{extents(spec.shape)} {spec.dtype}" for spec in specs])


def _listed(texts: Sequence[str]) -> list[str]:
    shown = [shorten(text, _NAME_LENGTH) for text in texts[:_MOST_LISTED]]
    return shown + ([f"… and {len(texts) - _MOST_LISTED} more"] if len(texts) > _MOST_LISTED else [])
