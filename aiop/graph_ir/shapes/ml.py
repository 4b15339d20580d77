"""Output shapes of ``ai.onnx.ml`` and ``ai.onnx.preview.training``: classical learning, and steps of optimisers."""

from __future__ import annotations

import math

from aiop.graph_ir.shapes.base import ShapeError, ShapeRule, first, rules
from aiop.graph_ir.values import Node, Shape

__all__ = ["RULES", "TRAINING", "rows_of"]


def rows_of(node: Node) -> int:
    """Return how many samples there are: all axes but the last."""
    return math.prod(first(node).shape[:-1])


def _labels(node: Node) -> int:
    """Return the number of classes a classifier knows."""
    for name in ("classlabels_ints", "classlabels_int64s", "classlabels_strings"):
        if labels := node.get(name):
            return len(labels)
    return 0


def _same(node: Node) -> list[Shape]:
    return [first(node).shape]


def _classifier(node: Node) -> list[Shape]:
    rows, classes = rows_of(node), _labels(node)
    if not classes:
        raise ShapeError("has no class labels")
    return [(rows,), (rows, classes)]


def _regressor(node: Node) -> list[Shape]:
    return [(rows_of(node), int(node.get("n_targets", node.get("targets", 1))))]


def _chosen(node: Node) -> list[Shape]:
    """Some features of every sample."""
    indices = node.input(1)
    shape = first(node).shape
    count = indices.elements if indices else 0
    return [(*shape[:-1], count) if len(shape) > 1 else (1, count)]


def _one_hot(node: Node) -> list[Shape]:
    categories = node.get("cats_int64s") or node.get("cats_strings") or []
    return [(*first(node).shape, len(categories))]


def _joined(node: Node) -> list[Shape]:
    widths = [tensor.shape[-1] if tensor.shape else 1 for tensor in node.inputs if tensor is not None]
    return [(rows_of(node), sum(widths))]


def _vocabulary(node: Node) -> list[Shape]:
    words = node.get("string_vocabulary") or node.get("int64_vocabulary") or []
    return [(1, len(words))]


def _cast_map(node: Node) -> list[Shape]:
    return [(1, max(1, int(node.get("max_map", 1))))]


def _updated(node: Node) -> list[Shape]:
    """What an optimiser writes: the tensors it was given, without their gradients (rate and step count come first).

    Inputs are all weights, all gradients, then every state; weights and states come out.
    """
    given = [tensor.shape for tensor in node.inputs[2:] if tensor is not None]
    kinds = 4 if node.type == "Adam" else 3
    count = len(given) // kinds
    return given[:count] + given[2 * count :]


RULES: dict[str, ShapeRule] = {
    **rules(_same, "Scaler Normalizer Binarizer Imputer LabelEncoder CategoryMapper ZipMap"),
    **rules(_classifier, "LinearClassifier SVMClassifier TreeEnsembleClassifier"),
    **rules(_regressor, "LinearRegressor SVMRegressor TreeEnsembleRegressor TreeEnsemble"),
    **rules(_chosen, "ArrayFeatureExtractor"),
    **rules(_one_hot, "OneHotEncoder"),
    **rules(_joined, "FeatureVectorizer"),
    **rules(_vocabulary, "DictVectorizer"),
    **rules(_cast_map, "CastMap"),
}
"""Rules of ``ai.onnx.ml``."""

TRAINING: dict[str, ShapeRule] = rules(_updated, "Adagrad Adam Momentum")
"""Rules of ``ai.onnx.preview.training``."""
