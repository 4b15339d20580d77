"""Networks as ONNX that can be changed: reading, shapes, writing and checks."""
