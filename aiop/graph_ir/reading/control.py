"""Control flow: branches and loops become the operations that run, without the node that decides.

Of a branch whose condition is not known both sides are read, and the more costly one stays. A loop of a few known
steps is unrolled. Of others the body stays once, as operations that ``repeat``: its MACs are those of all steps, its
parameters count once, and data flows from what goes into the loop, through the body, to what comes out of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from aiop.errors import AiopError
from aiop.graph_ir.reading.inference import label
from aiop.graph_ir.reading.loop import read_loop
from aiop.graph_ir.reading.scan import read_scan
from aiop.graph_ir.reading.scopes import Taken, inline, subgraph
from aiop.graph_ir.reading.sequence_values import Absent, is_constant, varies
from aiop.graph_ir.values import Node, Tensor

if TYPE_CHECKING:
    from aiop.graph_ir.reading.reader import Reader

__all__ = ["HANDLERS"]


def _branch(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    condition = node.input(0)
    value = None if condition is None else condition.value
    if value is not None and value.size:
        side = "then_branch" if bool(value.reshape(-1)[0]) else "else_branch"
        outputs = inline(reader, subgraph(node, proto, side), [], f"{names[0]} {side}")
        _hand_out(reader, node, proto, names, outputs)
        return True
    outputs = _costlier(reader, node, proto, names)
    reader.notes.append(
        f"which branch {label(node, proto)} takes depends on the data: the more costly one is read"
    )
    if condition is not None and varies(condition):
        outputs = _chosen(reader, node, proto, names, condition, outputs)
    _hand_out(reader, node, proto, names, outputs)
    return True


def _costlier(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> list[Tensor]:
    """Read both branches, keep the operations of the more costly one, and return its outputs."""
    readings: list[tuple[tuple[int, ...], list[Tensor], Taken]] = []
    failure: AiopError | None = None
    mark = reader.mark()
    for side in ("then_branch", "else_branch"):
        try:
            outputs = inline(reader, subgraph(node, proto, side), [], f"{names[0]} {side}")
        except AiopError as error:  # a branch for another size of the input
            failure = error
            reader.take_back(mark)
            continue
        taken = reader.take_back(mark)
        present = sum(not isinstance(output, Absent) for output in outputs)
        macs = sum(operation.macs for operation in taken.operations)
        params = sum(operation.params for operation in taken.operations)
        readings.append(((macs, params, len(taken.operations), present), outputs, taken))
    if not readings:
        raise failure or AiopError(f"{label(node, proto)} has no branches; export the network again")
    _, outputs, taken = max(readings, key=lambda reading: reading[0])
    reader.put_back(taken)
    return outputs


def _chosen(
    reader: Reader,
    node: Node,
    proto: onnx.NodeProto,
    names: list[str],
    condition: Tensor,
    outputs: list[Tensor],
) -> list[Tensor]:
    """Return outputs of which constants depend on the condition: which constant it is does."""
    constants = [tensor for tensor in outputs if is_constant(tensor)]
    if not constants:
        return outputs
    results = iter(
        [Tensor(f"{names[0]}#{index}", tensor.shape, tensor.dtype) for index, tensor in enumerate(constants)]
    )
    replaced = [next(results) if is_constant(tensor) else tensor for tensor in outputs]
    made = [new for new, old in zip(replaced, outputs, strict=True) if new is not old]
    reader.record(
        reader.node("If", [condition, *constants], node.name), proto, [tensor.name for tensor in made], made
    )
    return replaced


def _hand_out(
    reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str], outputs: list[Tensor]
) -> None:
    if len(outputs) < len(names):
        raise AiopError(
            f"{label(node, proto)} has {len(names)} outputs where its subgraph has {len(outputs)}; "
            "check the file with onnx.checker"
        )
    for name, tensor in zip(names, outputs, strict=False):
        if name:
            reader.alias(name, tensor)


HANDLERS = {"If": _branch, "Loop": read_loop, "Scan": read_scan}
"""ONNX operator -> what reads it: reader, node, message and output names -> whether it could be read."""
