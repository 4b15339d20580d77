"""MACs as the published tables count them, on top of those of a `ComputeGraph`.

Each function takes the graph of the network that a table's row denotes, as `aiop.graph_ir.read_onnx` gives it, and
returns what the table's column of MACs holds, in single operations. Tables whose counter has convolutions and linear
layers only need none: that is ``graph.macs``. Parameters are everywhere ``graph.params``.
"""

from __future__ import annotations

from aiop.graph_ir import ComputeGraph, Operation

__all__ = [
    "CONVOLUTIONS",
    "accel_nasbench_macs",
    "conv_biases",
    "gaia_det_macs",
    "inputs_of",
    "nas_bench_mr_macs",
    "outputs_of",
    "transnas_costs",
]

CONVOLUTIONS = ("Conv", "DepthwiseConv")


def outputs_of(graph: ComputeGraph, *kinds: str) -> int:
    """Elements that all operations of these kinds write."""
    return sum(operation.output_elements for operation in graph.operations if operation.op in kinds)


def inputs_of(graph: ComputeGraph, *kinds: str) -> int:
    """Elements that all operations of these kinds read."""
    return sum(_read(graph, operation) for operation in graph.operations if operation.op in kinds)


def conv_biases(graph: ComputeGraph) -> int:
    """One addition for each element that a convolution with a bias writes; transposed ones are left out."""
    return sum(
        operation.output_elements
        for operation in graph.operations
        if operation.op in CONVOLUTIONS and operation.bias
    )


def nas_bench_mr_macs(graph: ComputeGraph) -> int:
    """``gmacs`` of NAS-Bench-MR: 2 for each output of a batch norm, 1 for each of a convolution with bias."""
    return graph.macs + 2 * outputs_of(graph, "BatchNorm") + conv_biases(graph)


def accel_nasbench_macs(graph: ComputeGraph) -> int:
    """``macs_M`` of Accel-NASBench: 4 for each output of a batch norm; inputs and outputs of global pools."""
    pools = inputs_of(graph, "GlobalAvgPool") + outputs_of(graph, "GlobalAvgPool")
    return graph.macs + 4 * outputs_of(graph, "BatchNorm") + pools


def gaia_det_macs(graph: ComputeGraph) -> int:
    """``flops`` of GAIA-det: biases of convolutions, ReLUs but the one of the proposals, inputs of 3x3 max pools."""
    relus = sum(
        operation.output_elements
        for operation in graph.operations
        if operation.op == "Relu" and not operation.name.startswith("rpn.")
    )
    pools = sum(
        _read(graph, operation)
        for operation in graph.operations
        if operation.op == "MaxPool" and operation.kernel == (3, 3)
    )
    return graph.macs + conv_biases(graph) + relus + pools


#: Form -> classes of the head that the tables of TransNAS-Bench-101 count; the trained ones have 47 and 75.
TRANSNAS_CLASSES = {"class_scene": 63, "class_object": 100, "room_layout": 9, "jigsaw": 1000}


def transnas_costs(graph: ComputeGraph, form: str) -> tuple[int, int]:
    """MACs and parameters of TransNAS-Bench-101, columns ``<form>_macs_M`` and ``<form>_params_M``.

    Beside convolutions and linear layers count: biases of convolutions, 2 for each output of a batch norm, 1 for each
    of a ReLU or LeakyReLU, and of a global pool over H x W ``(H + 1) * (W + 1)`` for each channel. Transposed
    convolutions count nothing, the encoder of a jigsaw one of its nine tiles. Classifiers have `TRANSNAS_CLASSES`.
    """
    macs, params = 0, graph.params
    for operation in graph.operations:
        shape = graph.tensors[operation.outputs[0]].shape
        if operation.op in CONVOLUTIONS:
            count = operation.macs + operation.bias * operation.output_elements
        elif operation.op == "BatchNorm":
            count = 2 * operation.output_elements
        elif operation.op in ("Relu", "LeakyRelu"):
            count = operation.output_elements
        elif operation.op == "GlobalAvgPool":
            _, channels, height, width = graph.tensors[operation.inputs[0]].shape
            count = channels * (height + 1) * (width + 1)
        elif operation.op == "Linear":
            inputs = graph.tensors[operation.inputs[0]].shape[1]
            count = inputs * TRANSNAS_CLASSES[form]
            params += (inputs + 1) * (TRANSNAS_CLASSES[form] - shape[1])
        else:
            continue
        macs += count // shape[0]
    return macs, params


def _read(graph: ComputeGraph, operation: Operation) -> int:
    return sum(graph.tensors[name].elements for name in operation.inputs)
