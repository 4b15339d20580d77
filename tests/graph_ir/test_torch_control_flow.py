"""Loops and branches as torch exports them: MACs against torch's own flop counter, which runs them."""

from __future__ import annotations

import io
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from aiop.graph_ir import ComputeGraph, read_onnx


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 16)
        self.outer = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        state = torch.zeros([2, 16])
        states = [state]
        for step in range(x.shape[0]):
            state = torch.tanh(self.inner(x[step]) + self.outer(state))
            states.append(state)
        return torch.stack(states), state


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        step = 0
        while step < x.shape[0] * 20:
            x = torch.relu(self.layer(x))
            step += 2
        return x


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x)) if float(x.sum()) > 0 else torch.relu(x)


def exported(module: nn.Module, x: Tensor) -> ComputeGraph:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(torch.jit.script(module), (x,), file, dynamo=False, opset_version=17)
    return read_onnx(file.getvalue())


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (Recurrent(), (5, 2, 8)),
        (Recurrent(), (300, 2, 8)),
        (Counter(), (3, 16)),
        (Counter(), (30, 16)),
        (Branch(), (3, 16)),
    ],
    ids=["5 steps", "300 steps", "30 steps by a counter", "300 steps by a counter", "the costly branch"],
)
def test_macs_are_half_of_the_flops_that_torch_counts(module: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.ones(shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        expected = module(x)
    found = exported(module, x)
    assert found.flops == counter.get_total_flops()
    assert found.params == sum(parameter.numel() for parameter in module.parameters())
    outputs = expected if isinstance(expected, tuple) else (expected,)
    assert [found.tensors[key].shape for key in found.outputs] == [tuple(output.shape) for output in outputs]
    assert not any("counted once" in note for note in found.notes)
