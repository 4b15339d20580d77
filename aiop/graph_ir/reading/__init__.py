"""ONNX -> compute graph: what a file says, node by node, brought to operations."""
