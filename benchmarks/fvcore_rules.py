"""What fvcore's flop counter adds to the multiply-accumulates of a network, and what it leaves out.

fvcore (0.1.5, `fvcore/nn/flop_count.py` and `jit_handles.py`) traces a network and counts, beside one per
multiply-accumulate, a fixed number per element of some operators. It has no rule for others, and it cannot know what
depends on no input. The rules below are fvcore's, applied to the operations of a graph; nothing is fitted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TypeVar

import onnx

from aiop.graph_ir import ComputeGraph, Operation

__all__ = ["ADDED", "CONSTANTS", "RULES", "fvcore_rules", "weights_as_inputs"]

_Message = TypeVar("_Message", onnx.ModelProto, onnx.TensorProto)

ADDED, MISSED, CONSTANTS = "added", "not counted", "of constants"


@dataclass(frozen=True)
class Rule:
    """An operator that the two counts treat differently: its name in torch, fvcore's rule, and which way."""

    operator: str
    text: str
    kind: str = ADDED


_FOLDED = Rule("aten::batch_norm", "2 per element, also where the exporter folded it into its convolution")
_TRAINING = Rule("aten::batch_norm in training", "5 per weight (4 without gain), of weight standardisation")
_LAYER = Rule("aten::layer_norm", "5 per element")
_GROUP = Rule("aten::group_norm, aten::instance_norm", "5 per element")
_POOL = Rule("aten::adaptive_avg_pool2d", "1 per element of the input")
_NEAREST = Rule("aten::upsample_nearest2d", "1 per element")
_BILINEAR = Rule("aten::upsample_bilinear2d", "4 per element")
_SAMPLER = Rule("aten::grid_sampler", "4 per element")
_SAME = Rule("aten::_convolution_mode", "no rule: convolutions with padding='same'", MISSED)
_RECURRENT = Rule("aten::lstm, aten::gru, aten::rnn", "no rule", MISSED)
_CONSTANT = Rule(
    "products of constants", "traced like any other; they depend on no input, so the IR folds them", CONSTANTS
)

RULES = (
    _FOLDED, _TRAINING, _LAYER, _GROUP, _POOL, _NEAREST, _BILINEAR, _SAMPLER, _SAME, _RECURRENT, _CONSTANT,
)  # fmt: skip

_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "BatchNormalization"})
_FOLDED_BY_EXPORTER = (
    "onnx::Conv_"  # a weight that the exporter computed has lost the name it had in the module
)


def weights_as_inputs(network: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose matrices and kernels are inputs, so that no product is one of constants.

    A graph read from it holds every product that running the module computes, those that depend on no input too
    (networks that compute position biases from coordinates, standardised weights).
    """
    network = _copy(network)
    graph = network.graph
    same = _same(network)
    wanted = {
        same.get(key, key) for node in graph.node if node.op_type in _PRODUCTS for key in node.input[:2]
    }
    kept = []
    for tensor in graph.initializer:
        if tensor.name in wanted and len(tensor.dims) > 1:
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
        else:
            kept.append(_copy(tensor))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return network


def fvcore_rules(network: onnx.ModelProto, graph: ComputeGraph, executed: ComputeGraph) -> Counter[Rule]:
    """Return what each rule adds to (or, negative, takes from) the MACs of ``graph``.

    ``executed`` is the graph of `weights_as_inputs`; what it has beyond ``graph`` works on constants. The file
    itself only tells which convolutions pad by themselves and which norms have a learned gain.
    """
    padded = {
        node.output[0]
        for node in network.graph.node
        if any(each.name == "auto_pad" and each.s not in (b"", b"NOTSET") for each in node.attribute)
    }
    same, learned = _same(network), {tensor.name for tensor in network.graph.initializer}
    with_gain = {
        node.output[0]
        for node in network.graph.node
        if node.op_type == "BatchNormalization" and same.get(node.input[1], node.input[1]) in learned
    }
    found: Counter[Rule] = Counter()
    for operation in executed.operations:
        output = operation.outputs[0]
        constant = output not in graph.tensors
        if constant and operation.macs:
            found[_CONSTANT] += operation.macs
        if output in padded:
            found[_SAME] -= operation.macs
        if constant and operation.onnx_type == "BatchNormalization":
            found[_TRAINING] += (5 if output in with_gain else 4) * executed.tensors[output].elements
        elif (each := _per_element(operation, executed)) is not None:
            found[each[0]] += each[1]
    return found


def _per_element(operation: Operation, graph: ComputeGraph) -> tuple[Rule, int] | None:
    elements = graph.tensors[operation.outputs[0]].elements
    match operation.onnx_type:
        case "Conv" if operation.bias and operation.inputs[1:2] and _is_folded(operation.inputs[1]):
            return _FOLDED, 2 * elements
        case "BatchNormalization":
            return _FOLDED, 2 * elements
        case "LayerNormalization":
            return _LAYER, 5 * elements
        case "InstanceNormalization" | "GroupNormalization":
            return _GROUP, 5 * elements
        case "GlobalAveragePool" if len(graph.tensors[operation.inputs[0]].shape) == 4:
            return _POOL, graph.tensors[operation.inputs[0]].elements
        case "Resize" if dict(operation.attributes).get("mode") == "linear":
            return _BILINEAR, 4 * elements
        case "Resize" if dict(operation.attributes).get("mode") == "nearest":
            return _NEAREST, elements
        case "GridSample":
            return _SAMPLER, 4 * elements
        case "LSTM" | "GRU" | "RNN":
            return _RECURRENT, -operation.macs
    return None


def _is_folded(weight: str) -> bool:
    return weight.startswith(_FOLDED_BY_EXPORTER)


def _same(network: onnx.ModelProto) -> dict[str, str]:
    """Identity's output -> its source, through chains of them; nodes come in topological order."""
    same: dict[str, str] = {}
    for node in network.graph.node:
        if node.op_type == "Identity":
            same[node.output[0]] = same.get(node.input[0], node.input[0])
    return same


def _copy(message: _Message) -> _Message:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied
