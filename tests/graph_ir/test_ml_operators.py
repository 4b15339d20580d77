"""Operators of classical learning: shapes against the outputs onnxruntime computes, MACs by arithmetic."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import helper

from aiop.graph_ir import read_onnx

FEATURES = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
CODES = np.array([[1], [2], [3]], np.int64)
TREE = {  # two trees of one split each
    "nodes_treeids": [0, 0, 0, 1, 1, 1], "nodes_nodeids": [0, 1, 2] * 2, "nodes_featureids": [0, 0, 0, 1, 0, 0],
    "nodes_values": [0.5, 0.0, 0.0] * 2, "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"] * 2,
    "nodes_truenodeids": [1, 0, 0] * 2, "nodes_falsenodeids": [2, 0, 0] * 2,
}  # fmt: skip


class Case(NamedTuple):
    type: str
    data: np.ndarray
    attributes: dict[str, Any]
    op: str
    macs: int = 0
    elementwise: int | None = None
    outputs: int = 1

    def model(self) -> onnx.ModelProto:
        outputs = [f"y{index}" for index in range(self.outputs)]
        node = helper.make_node(self.type, ["x"], outputs, domain="ai.onnx.ml", **self.attributes)
        kind = helper.np_dtype_to_tensor_dtype(self.data.dtype)
        graph = helper.make_graph(
            [node],
            "network",
            [helper.make_tensor_value_info("x", kind, self.data.shape)],
            [onnx.ValueInfoProto(name=name) for name in outputs],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


CASES = [
    Case("LinearRegressor", FEATURES, {"coefficients": [1.0] * 12, "intercepts": [0.0] * 3, "targets": 3}, "Linear",
         5 * 4 * 3),
    Case("LinearClassifier", FEATURES,
         {"coefficients": [1.0] * 12, "intercepts": [0.0] * 3, "classlabels_ints": [0, 1, 2]}, "Linear", 5 * 4 * 3,
         outputs=2),
    # 3 support vectors: a distance to each, and a weighted sum
    Case("SVMRegressor", FEATURES,
         {"kernel_type": "RBF", "kernel_params": [0.5, 0.0, 3.0], "support_vectors": [1.0] * 12, "n_supports": 3,
          "coefficients": [1.0] * 3, "rho": [0.0]}, "MatMul", 5 * (3 * 4 + 3)),
    # for each of 5 samples and 2 trees: at most 2 levels are compared, and the leaf is added
    Case("TreeEnsembleRegressor", FEATURES,
         {**TREE, "target_treeids": [0, 0, 1, 1], "target_nodeids": [1, 2] * 2, "target_ids": [0] * 4,
          "target_weights": [1.0] * 4, "n_targets": 1}, "Tree", elementwise=5 * 2 * 3),
    Case("TreeEnsembleClassifier", FEATURES,
         {**TREE, "class_treeids": [0, 0, 1, 1], "class_nodeids": [1, 2] * 2, "class_ids": [0, 1, 0, 2],
          "class_weights": [1.0] * 4, "classlabels_int64s": [0, 1, 2]}, "Tree", outputs=2),
    Case("Scaler", FEATURES, {"offset": [0.5] * 4, "scale": [2.0] * 4}, "Affine", elementwise=20),
    Case("Normalizer", FEATURES, {"norm": "L2"}, "LpNorm"),
    Case("Binarizer", FEATURES, {"threshold": 0.5}, "Compare"),
    Case("Imputer", FEATURES, {"imputed_value_floats": [0.0], "replaced_value_float": 1.0}, "Where"),
    Case("OneHotEncoder", CODES, {"cats_int64s": [1, 2, 3, 4]}, "Gather", elementwise=0),
    Case("LabelEncoder", CODES, {"keys_int64s": [1, 2], "values_int64s": [7, 8], "default_int64": 0}, "Gather"),
    Case("FeatureVectorizer", FEATURES, {"inputdimensions": [4]}, "Concat"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.type)
def test_costs(case: Case) -> None:
    found = read_onnx(case.model())
    operation = found.operations[1]
    assert (operation.op, operation.domain, operation.macs) == (case.op, "ai.onnx.ml", case.macs)
    if case.elementwise is not None:
        assert operation.elementwise == case.elementwise
    assert found.notes == ()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.type)
def test_shapes_are_those_that_onnxruntime_computes(case: Case) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = case.model()
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = read_onnx(model)
    for index, array in enumerate(session.run(None, {"x": case.data})):
        assert found.tensors[f"y{index}"].shape == array.shape
