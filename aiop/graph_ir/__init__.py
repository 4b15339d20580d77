"""A network as a graph: reading ONNX, counting, features, batches and corpora."""

from aiop.graph_ir.graph import ComputeGraph, Edge, Operation, TensorSpec
from aiop.graph_ir.reading.reader import read_onnx
from aiop.graph_ir.views import from_json, to_json, to_networkx

__all__ = [
    "ComputeGraph",
    "Edge",
    "Operation",
    "TensorSpec",
    "from_json",
    "read_onnx",
    "to_json",
    "to_networkx",
]
