"""A search space's network against a torch module of the same architecture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn


def _norm_values(name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Values of norms and biases that change what is computed: as written, scales are 1, shifts and biases 0."""
    rng = np.random.default_rng(sum(map(ord, name)))
    if name.startswith("running_variance."):  # large ones keep activations near 1, and rounding errors small
        return rng.uniform(2.0, 4.0, shape).astype(np.float32)
    if name.endswith(".scale"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if name.endswith((".shift", ".bias")) or name.startswith("running_mean."):
        return rng.normal(0, 0.3, shape).astype(np.float32)
    return None


def _compare(network: onnx.ModelProto, module: nn.Module, rtol: float = 1e-5) -> None:
    values: dict[str, np.ndarray] = {}
    for weight in network.graph.initializer:
        drawn = _norm_values(weight.name, tuple(weight.dims))
        if drawn is not None:
            weight.raw_data = drawn.tobytes()
        values[weight.name] = numpy_helper.to_array(weight).copy()
    learned = [
        value
        for name, value in values.items()
        if name.rpartition(".")[2] in ("weight", "bias", "scale", "shift")
    ]
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), learned, strict=True):
            assert tuple(parameter.shape) == value.shape
            parameter.copy_(torch.from_numpy(value))
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean.copy_(torch.from_numpy(values[f"running_mean.{norm.num_features}"]))
                norm.running_var.copy_(torch.from_numpy(values[f"running_variance.{norm.num_features}"]))
        shape = [axis.dim_value for axis in network.graph.input[0].type.tensor_type.shape.dim]
        image = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        expected = module.eval()(torch.from_numpy(image)).numpy()
    session = onnxruntime.InferenceSession(network.SerializeToString())
    (output,) = session.run(None, {"image": image})
    assert np.std(expected) > 0
    np.testing.assert_allclose(output, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


@pytest.fixture
def compare_with_torch() -> Callable[..., None]:
    """``compare(network, module)``: both compute one function, given one image and the weights of ``network``.

    ``network`` is built with ``weights="random"``; the parameters of ``module`` are registered in the order in
    which the network applies them. Biases, scales, shifts and statistics are drawn at random.
    """
    return _compare
