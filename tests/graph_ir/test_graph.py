from __future__ import annotations

import subprocess
import sys

from aiop.graph_ir import ComputeGraph, Edge, Operation, TensorSpec


def two_layers() -> ComputeGraph:
    return ComputeGraph(
        name="net",
        operations=[
            Operation("x", "Input", "Input", (), ("x",), output_elements=12),
            Operation("one", "Linear", "Gemm", ("x",), ("a",), macs=24, params=10, output_elements=8),
            Operation("two", "Add", "Add", ("a", "x", "a"), ("y",), output_elements=8),
        ],
        tensors={"x": TensorSpec((3, 4)), "a": TensorSpec((2, 4)), "y": TensorSpec((2, 4))},
        inputs=("x",),
        outputs=("y",),
    )


def test_elements() -> None:
    assert TensorSpec((2, 3, 4)).elements == 24
    assert TensorSpec(()).elements == 1
    assert TensorSpec((5, 0)).elements == 0


def test_totals() -> None:
    graph = two_layers()
    assert (graph.macs, graph.flops, graph.params) == (24, 48, 10)
    assert graph.activations == 8  # of operations that multiply


def test_edges_follow_the_inputs() -> None:
    assert two_layers().edges() == [Edge(0, 1, "x"), Edge(1, 2, "a"), Edge(0, 2, "x"), Edge(1, 2, "a")]


def test_other_operations_leave_the_graph_as_it_was() -> None:
    graph = two_layers()
    assert graph.macs == 24
    smaller = graph.with_operations(graph.operations[:1], outputs=("x",))
    assert (smaller.macs, smaller.outputs, smaller.name) == (0, ("x",), "net")
    assert (graph.macs, graph.outputs) == (24, ("y",))
    assert graph.with_operations(graph.operations).outputs == ("y",)


def test_reading_loads_neither_torch_nor_networkx() -> None:
    program = "import sys, aiop.graph_ir; print(sorted({'torch', 'dgl', 'networkx'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
