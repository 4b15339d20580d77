"""A network as a graph: reading ONNX, counting, features, batches and corpora."""

from aiop.graph_ir.graph import ComputeGraph, Edge, Operation, TensorSpec
from aiop.graph_ir.onnx_reader import read_onnx

__all__ = ["ComputeGraph", "Edge", "Operation", "TensorSpec", "read_onnx"]
