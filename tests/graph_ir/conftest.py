"""Small networks written as text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from aiop.graph_ir import ComputeGraph, read_onnx
from aiop.graph_ir.passes.base import Pass


def _network(text: str, opset: int = 17, **weights: object) -> onnx.ModelProto:
    """Return a network from onnx's textual form, as in ``(float[1,8] x) => (float[1,8] y) { y = Relu(x) }``.

    ``weights`` are its initialisers: a tuple is a shape (random values), everything else the values themselves.
    """
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> network {text}')
    rng = np.random.default_rng(0)
    for name, value in weights.items():
        array = (
            rng.standard_normal(value).astype(np.float32) if isinstance(value, tuple) else np.asarray(value)
        )
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


@pytest.fixture(scope="session")
def network() -> Callable[..., onnx.ModelProto]:
    """Function: text, opset and weights -> network."""
    return _network


@pytest.fixture(scope="session")
def graph() -> Callable[..., ComputeGraph]:
    """Function: text, opset and weights -> compute graph, as read."""
    return lambda *args, **weights: read_onnx(_network(*args, **weights))


@pytest.fixture(scope="session")
def run_pass() -> Callable[[Pass, ComputeGraph], list[str]]:
    """Function: pass and graph -> what is left, as one text per operation.

    ``y = Conv(x, z)``: the pass keeps its contract that ``changed`` says whether the graph did, and that running it
    again changes nothing.
    """

    def run(step: Pass, before: ComputeGraph) -> list[str]:
        result = step(before)
        assert result.changed == (
            result.graph.operations != before.operations or result.graph.outputs != before.outputs
        )
        assert not step(result.graph).changed
        result.graph.edges()  # every tensor that is read is still computed
        assert all(key in result.graph.producers for key in result.graph.outputs)
        return [
            f"{', '.join(operation.outputs)} = {operation.op}({', '.join(operation.inputs)})"
            for operation in result.graph.operations
            if operation.op != "Input"
        ]

    return run


@pytest.fixture(scope="session")
def torch_macs() -> Callable[..., int]:
    """Function: module and inputs -> half of what `torch.utils.flop_counter` counts for it.

    The module runs on shapes alone, where torch has no fused recurrent and attention kernels that its counter could
    not see into.
    """
    import copy  # here, since most tests of this folder need no torch

    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    def count(module: torch.nn.Module, *inputs: torch.Tensor) -> int:
        module = copy.deepcopy(module).eval().requires_grad_(False).to("meta")
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
                module(*(each.to("meta") for each in inputs))
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
        assert counter.get_total_flops() % 2 == 0
        return int(counter.get_total_flops()) // 2

    return count
