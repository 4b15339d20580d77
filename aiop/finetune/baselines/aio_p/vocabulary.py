"""The published operations of AIO-P, and which of them an operation of ours becomes.

Their graphs are made from TensorFlow's: nodes are kept by words in their names, all others are left out and their
inputs passed on. So a softmax, a subtraction or a reshape is no node there, a sum or product with a constant is none
either, and resizing is "Identity". The same rules are applied here to graphs read from ONNX, before any of them is
brought to canonical form: batch norms are nodes of their own, as they are there.
"""

from __future__ import annotations

from aiop.graph_ir.graph import Operation

__all__ = ["INDEX", "JOINS", "LABELS", "WEIGHTED", "published"]

LABELS: tuple[str, ...] = (
    "<oov>", "Input", "Output", "Conv", "Depthwise", "BatchNorm", "ReLU", "ReLU6", "MatMul", "Add", "Mul", "Concat",
    "Maxpool", "Avgpool", "Sigmoid", "Tanh", "Swish", "GeLU", "Paddings", "Mean", "SpacetoBatchND", "BatchtoSpaceND",
    "SpacetoDepthND", "DepthtoSpaceND", "Global", "Identity", "Zero", "Reserved1", "Reserved2", "Reserved3",
    "Reserved4", "Reserved5",
)  # fmt: skip
"""Out-of-vocabulary, the 26 operations, and five reserved places, in their order: 32 rows of the embeddings."""

INDEX: dict[str, int] = {name: index for index, name in enumerate(LABELS)}
WEIGHTED = frozenset({"Conv", "Depthwise", "MatMul"})
"""Nodes with a kernel and a bias flag."""
JOINS = frozenset({"Add", "Mul", "Concat"})
"""Nodes that are left out where they read one thing only."""

_PLAIN: dict[str, tuple[str, ...]] = {
    "Input": ("Input",),
    "Conv": ("Conv",),
    "ConvTranspose": ("Conv",),
    "DepthwiseConv": ("Depthwise",),
    "Linear": ("MatMul",),
    "MatMul": ("MatMul",),
    "BatchNorm": ("BatchNorm",),
    # norms that their families do not have
    **dict.fromkeys(("LayerNorm", "InstanceNorm", "GroupNorm", "RMSNorm", "LpNorm", "LRN"), ("BatchNorm",)),
    "Relu": ("ReLU",),
    "LeakyRelu": ("ReLU",),
    "PRelu": ("ReLU",),
    "Sigmoid": ("Sigmoid",),
    "Tanh": ("Tanh",),
    "SiLU": ("Swish",),
    "Gelu": ("GeLU",),
    # relu6(x + 3) / 6 without its constants, and x times it
    "HardSigmoid": ("ReLU6",),
    "HardSwish": ("ReLU6", "Mul"),
    # x tanh(softplus(x)); softplus is no node
    "Mish": ("Tanh", "Mul"),
    "Add": ("Add",),
    "Mul": ("Mul",),
    "Concat": ("Concat",),
    "MaxPool": ("Maxpool",),
    "GlobalMaxPool": ("Maxpool",),
    "AvgPool": ("Avgpool",),
    "GlobalAvgPool": ("Mean",),
    "ReduceMean": ("Mean",),
    "Pad": ("Paddings",),
    "SpaceToDepth": ("SpacetoDepthND",),
    "DepthToSpace": ("DepthtoSpaceND",),
    "Resize": ("Identity",),
    "Identity": ("Identity",),
    "Zero": ("Zero",),
    # with weights, but of no kind they know
    **dict.fromkeys(
        ("Attention", "LinearAttention", "LSTM", "GRU", "RNN", "Embedding", "MoE", "Unknown", "Opaque"),
        ("<oov>",),
    ),
}


def published(operation: Operation) -> tuple[str, ...]:
    """Return the published labels of an operation, one after the other; nothing where it is left out.

    >>> from aiop.graph_ir.graph import Operation
    >>> published(Operation("a", "HardSwish", "HardSwish", ("x",), ("y",)))
    ('ReLU6', 'Mul')
    >>> published(Operation("a", "Softmax", "Softmax", ("x",), ("y",)))
    ()
    """
    if operation.op == "Clip":
        return ("ReLU6",) if operation.scalars == (0.0, 6.0) else ()
    if operation.op == "Mul" and operation.scalars == (0.0,) and len(operation.inputs) == 1:
        return ("Zero",)
    return _PLAIN.get(operation.op, ())
