"""Modules of torch as graphs: counts against torch's own, and modules that come back as they were."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode

from aiop import AiopError
from aiop.graph_ir.importers import from_torch, is_module, torch_module


class Convolutions(nn.Module):
    """Grouped, depthwise, dilated and transposed convolutions, batch norm, a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16)
        self.deep, self.norm1 = nn.Conv2d(16, 16, 5, padding=2, groups=16, bias=False), nn.BatchNorm2d(16)
        self.grouped = nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=4)
        self.up, self.head = nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.Linear(8, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = functional.relu6(self.norm(self.stem(image)))
        x = x + functional.silu(self.norm1(self.deep(x)))
        return self.head(self.up(self.grouped(x)).mean((2, 3)))


class Attention(nn.Module):
    """Patches, class token, fused attention, a tied projection."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.token, self.position = nn.Parameter(torch.zeros(1, 1, 32)), nn.Parameter(torch.zeros(1, 17, 32))
        self.qkv, self.out, self.norm = nn.Linear(32, 96), nn.Linear(32, 32), nn.LayerNorm(32)
        self.temperature = nn.Parameter(torch.ones(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        for _ in range(2):  # the same layer twice: its parameters count once
            q, k, v = self.qkv(self.norm(x)).reshape(1, 17, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
            x = x + self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x[:, 0] * self.temperature


class Tied(nn.Module):
    """A projection with the weights of the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.layer = nn.Embedding(50, 16), nn.Linear(16, 16)
        self.head = nn.Linear(16, 50, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.head(functional.gelu(self.layer(self.embedding(words))))


class Buffers(nn.Module):
    """A fixed blur, a fixed position code and a mask: none of them are parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.register_buffer("blur", torch.ones(8, 1, 3, 3) / 9)
        self.register_buffer("code", torch.rand(8, 1, 1))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return functional.conv2d(self.conv(image), self.blur, groups=8) + self.code


def reparameterised() -> nn.Module:
    return nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(3, 8, 3)),
        nn.PReLU(),
        parametrizations.spectral_norm(nn.Conv2d(8, 8, 3)),
        nn.GroupNorm(2, 8),
        nn.Conv2d(8, 4, 1),
        nn.InstanceNorm2d(4, affine=True),
    )


def encoder() -> nn.Module:
    # all layers start with equal values, matrices too
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu")
    return nn.TransformerEncoder(layer, 3)


def image(size: int = 32) -> torch.Tensor:
    return torch.rand(1, 3, size, size)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], torch.Tensor]] = {
    "convolutions": (Convolutions, image()),
    "attention": (Attention, image()),
    "tied": (Tied, torch.zeros(1, 7, dtype=torch.long)),
    "buffers": (Buffers, image(16)),
    "reparameterised": (reparameterised, image(16)),
    "encoder": (encoder, torch.rand(1, 10, 32)),
    "one dimension": (lambda: nn.Sequential(nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8)), torch.rand(1, 4, 20)),
    "three dimensions": (lambda: nn.Conv3d(2, 4, 3), torch.rand(1, 2, 6, 6, 6)),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, torch.Tensor]:
    make, example = NETWORKS[request.param]
    torch.manual_seed(0)
    return make(), example


def counted(module: nn.Module, example: torch.Tensor) -> tuple[int, int]:
    """MACs by torch, half of its FLOPs, and parameters."""
    module.eval()
    # in the forms that torch can see into: fused attention counts nothing
    torch.backends.mha.set_fastpath_enabled(False)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        module(example)
    torch.backends.mha.set_fastpath_enabled(True)
    module.train()
    return counter.get_total_flops() // 2, sum(parameter.numel() for parameter in module.parameters())


def test_counts_are_those_of_torch(network: tuple[nn.Module, torch.Tensor]) -> None:
    module, example = network
    graph = from_torch(module, example)
    assert (graph.macs, graph.params) == counted(module, example)
    assert graph.tensors[graph.inputs[0]].shape == tuple(example.shape)
    assert graph.tensors[graph.outputs[0]].shape == tuple(module.eval()(example).shape)


def test_recurrent_layers_count_every_step() -> None:
    graph = from_torch(nn.LSTM(8, 16, 2, batch_first=True, bidirectional=True), torch.rand(1, 5, 8))
    # by hand (torch counts none): two directions of four gates, from input and from state, over five steps
    assert graph.macs == 5 * 2 * 4 * 16 * ((8 + 16) + (32 + 16))
    assert graph.params == 2 * 4 * 16 * ((8 + 16 + 2) + (32 + 16 + 2))


@pytest.mark.parametrize("name", ["attention", "tied"])
def test_the_newer_exporter_gives_the_same_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    make, example = NETWORKS[name]
    module = make()
    expected = from_torch(module, example)

    def unknown(*_: Any) -> Any:
        raise RuntimeError("operator unknown")

    monkeypatch.setattr(torch_module, "_torchscript", unknown)
    graph = from_torch(module, example)
    assert (graph.macs, graph.params, graph.inputs) == (expected.macs, expected.params, expected.inputs)


def test_weights_are_not_needed() -> None:
    with torch.device("meta"):  # 40 GB, if any of it were there
        module = nn.Sequential(nn.Linear(4, 100_000), nn.ReLU(), nn.Linear(100_000, 100_000, bias=False))
        example = torch.empty(1, 4)
    graph = from_torch(module, example, name="huge")
    assert (graph.name, graph.params) == ("huge", 5 * 100_000 + 100_000**2)


class Several(nn.Module):
    """Arguments by name, one of them optional; results in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 6)

    def forward(
        self,
        x: torch.Tensor,
        other: list[torch.Tensor],
        *,
        mask: torch.Tensor | None = None,
        scale: float = 1.0,
    ) -> dict[str, Any]:
        y = self.layer(x) * scale
        return {"result": y if mask is None else y * mask, "also": [x + other[0]], "text": "none"}


def test_arguments_by_position_and_by_name() -> None:
    x, mask = torch.rand(2, 4), torch.rand(2, 6)
    graph = from_torch(Several(), (x, [torch.rand(2, 4)]))
    assert graph.inputs == ("input_0", "input_1")
    assert [graph.tensors[key].shape for key in graph.outputs] == [(2, 6), (2, 4)]
    assert graph.name == "Several"
    wrapped = from_torch(nn.Identity(), {"input": x})
    assert wrapped.inputs == ("input",)
    named = from_torch(Several(), {"mask": mask, "x": x, "other": [x * 2], "scale": 2.0})
    assert sorted(named.tensors[key].shape for key in named.inputs) == [(2, 4), (2, 4), (2, 6)]


# -- the module comes back as it was


class Stubborn(nn.Module):
    """Batch norm, dropout, a frozen part, and a `train` that must not be called."""

    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
        self.frozen = nn.BatchNorm2d(4).eval()
        self.counter = Buffers()
        self.fails = fails

    def train(self, mode: bool = True) -> nn.Module:
        raise AssertionError("train() was called")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sys.stdout.write("chatter")
        self.counter(x)
        x = self.frozen(self.body(x)) + torch.rand(1)
        return torch.linalg.eigvals(x) if self.fails else x


@pytest.mark.parametrize("fails", [False, True])
def test_the_module_comes_back_as_it_was(fails: bool, capfd: pytest.CaptureFixture[str]) -> None:
    module, example = Stubborn(fails), image(6)
    flags = [child.training for child in module.modules()]
    before = {key: value.clone() for key, value in module.state_dict().items()}
    seed, loudness = torch.get_rng_state(), logging.root.manager.disable
    capfd.readouterr()
    if fails:
        with pytest.raises(AiopError, match=r"Stubborn: cannot be exported to a graph \(.*eig.*\); replace"):
            from_torch(module, example)
    else:
        from_torch(module, example)
    assert [child.training for child in module.modules()] == flags
    after = module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())
    assert torch.equal(torch.get_rng_state(), seed)
    assert logging.root.manager.disable == loudness
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.is_grad_enabled()
    assert capfd.readouterr() == ("", "")


# -- what is refused


def test_what_is_no_module_or_no_tensor_is_refused() -> None:
    with pytest.raises(AiopError, match="not a str; give the module"):
        from_torch("resnet18.onnx", image())  # type: ignore[arg-type]
    with pytest.raises(AiopError, match="Linear: the example inputs hold no tensor; give"):
        from_torch(nn.Linear(3, 4), [3, None])


def test_an_example_that_does_not_fit_is_refused() -> None:
    with pytest.raises(
        AiopError, match=r"net: its forward pass fails .*\(RuntimeError: mat1 and mat2.*\); give"
    ):
        from_torch(nn.Linear(3, 4), torch.rand(1, 5), name="net")
    with pytest.raises(AiopError, match="fails on the example inputs"):
        from_torch(nn.Linear(3, 4), (torch.rand(1, 3), torch.rand(1)))


def test_a_compiled_module_is_refused() -> None:
    with pytest.raises(AiopError, match="is compiled by TorchScript; give"):
        from_torch(torch.jit.trace(nn.Linear(3, 4), torch.rand(1, 3)), torch.rand(1, 3))


def test_the_newer_exporter_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(AiopError, match=r'"pip install onnxscript"'):
        from_torch(Stubborn(fails=True), image(6))


def test_torch_is_only_loaded_by_who_has_a_module() -> None:
    assert is_module(nn.ReLU())
    assert not is_module(nn.ReLU)
    script = (
        "import sys; from aiop.graph_ir.importers import is_module; assert not is_module(3); "
        "assert not {'torch', 'dgl', 'onnxscript'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
