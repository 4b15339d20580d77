"""Networks of convolutions: MACs are exactly half of what torch's own counter says."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from aiop.graph_ir import read_onnx
from aiop.graph_ir.importers import from_torch
from aiop.graph_ir.passes import canonicalise

pytestmark = pytest.mark.filterwarnings("ignore")  # of the exporters


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, **options: int) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    padding = options.pop("padding", kernel // 2)
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False, **options)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class Sum(nn.Module):
    """Sum of what several modules make of one tensor; none of them is the identity."""

    def __init__(self, *branches: nn.Module | None) -> None:
        super().__init__()
        self.branches = nn.ModuleList([branch or nn.Identity() for branch in branches])

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([branch(x) for branch in self.branches]).sum(0)


class Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Chain(nn.Sequential):
    """Each module reads the concatenation of all tensors before it (DenseNet)."""

    def forward(self, x: Tensor) -> Tensor:
        for module in self:
            x = torch.cat([x, module(x)], 1)
        return x


class Parallel(nn.Sequential):
    """Concatenation of what each module makes of one tensor (Inception, ASPP)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([module(x) for module in self], 1)


class Gate(nn.Sequential):
    """The tensor times what the modules make of it (squeeze and excitation)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * super().forward(x)


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def squeeze(channels: int, hard: bool = False) -> Gate:
    return Gate(
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels // 4, 1), nn.ReLU(),
        nn.Conv2d(channels // 4, channels, 1), nn.Hardsigmoid() if hard else nn.Sigmoid(),
    )  # fmt: skip


def head(channels: int, classes: int = 10) -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)


def shuffle(x: Tensor, groups: int = 4) -> Tensor:
    batch, channels, height, width = x.shape
    return x.view(batch, groups, channels // groups, height, width).transpose(1, 2).reshape(x.shape)


def up(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = conv(3, 8), conv(8, 16), conv(16, 32)
        self.up, self.merge = nn.ConvTranspose2d(32, 16, 2, 2), conv(32, 16)
        self.last, self.out = conv(24, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        second = self.second(functional.max_pool2d(first, 2))
        third = self.up(self.third(functional.max_pool2d(second, 2)))
        return self.out(self.last(torch.cat([first, up(self.merge(torch.cat([second, third], 1)))], 1)))


class Pyramid(nn.Module):
    """Feature pyramid with one head for the boxes and classes of all levels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleList([conv(3, 8, stride=2), conv(8, 16, stride=2), conv(16, 32, stride=2)])
        self.lateral = nn.ModuleList([nn.Conv2d(channels, 12, 1) for channels in (8, 16, 32)])
        self.tower, self.classes, self.boxes = (
            conv(12, 12),
            nn.Conv2d(12, 5, 3, padding=1),
            nn.Conv2d(12, 4, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        levels = []
        for stage, lateral in zip(self.body, self.lateral, strict=True):
            x = stage(x)
            levels.append(lateral(x))
        for fine, coarse in ((1, 2), (0, 1)):
            levels[fine] = levels[fine] + functional.interpolate(levels[coarse], scale_factor=2.0)
        towers = [self.tower(level) for level in levels]
        found = [torch.cat([self.classes(each), self.boxes(each)], 1).flatten(2) for each in towers]
        return torch.cat(found, 2).transpose(1, 2)


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, unbiased=False)
        weight = (self.weight - mean) * torch.rsqrt(variance + 1e-5)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


class ConvNext(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise, self.norm = (
            nn.Conv2d(channels, channels, 7, 1, 3, groups=channels),
            nn.LayerNorm(channels),
        )
        self.wide, self.narrow = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.narrow(functional.gelu(self.wide(inner)))).permute(0, 3, 1, 2)


class NonLocal(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.theta, self.phi, self.value = (nn.Conv2d(channels, 8, 1) for _ in range(3))
        self.out = nn.Conv2d(8, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.theta(x).flatten(2).transpose(1, 2) @ self.phi(x).flatten(2)).softmax(-1)
        mixed = (weights @ self.value(x).flatten(2).transpose(1, 2)).transpose(1, 2)
        return x + self.out(mixed.reshape(x.shape[0], 8, *x.shape[2:]))


class Conditional(nn.Module):
    """Convolution whose kernel is a mixture that the image chooses."""

    def __init__(self) -> None:
        super().__init__()
        self.route, self.kernels = nn.Linear(3, 4), nn.Parameter(torch.rand(4, 6 * 3 * 3 * 3))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.route(x.mean((2, 3))).softmax(-1) @ self.kernels
        return functional.conv2d(x, kernel.view(6, 3, 3, 3), padding=1)


class Selective(nn.Module):
    """Two kernel sizes, mixed by weights that both decide."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.small, self.large = conv(channels, channels), conv(channels, channels, dilation=2, padding=2)
        self.squeeze, self.choose = nn.Linear(channels, 4), nn.Linear(4, 2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.stack([self.small(x), self.large(x)], 1)
        weights = self.choose(functional.relu(self.squeeze(both.sum(1).mean((2, 3)))))
        return (both * weights.view(x.shape[0], 2, -1, 1, 1).softmax(1)).sum(1)


class ConvLstm(nn.Module):
    """A convolutional LSTM cell over three frames."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 + 4, 16, 3, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        hidden = state = torch.zeros_like(frames[:, 0]).repeat(1, 2, 1, 1)
        for frame in frames.unbind(1):
            keep, write, show, new = self.gates(torch.cat([frame, hidden], 1)).chunk(4, 1)
            state = keep.sigmoid() * state + write.sigmoid() * new.tanh()
            hidden = show.sigmoid() * state.tanh()
        return hidden


class WaveNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.out = nn.Conv1d(1, 8, 1), nn.Conv1d(8, 16, 1)
        self.gated = nn.ModuleList([nn.Conv1d(8, 16, 2, dilation=2**index) for index in range(3)])
        self.skip = nn.ModuleList([nn.Conv1d(8, 8, 1) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.stem(x), torch.zeros(())
        for index, (gated, skip) in enumerate(zip(self.gated, self.skip, strict=True)):
            signal, gate = gated(functional.pad(x, (2**index, 0))).chunk(2, 1)
            mixed = skip(signal.tanh() * gate.sigmoid())
            x, total = x + mixed, total + mixed
        return self.out(total.relu())


def temporal(inputs: int, outputs: int, dilation: int) -> nn.Module:
    layer = nn.Conv1d(inputs, outputs, 3, dilation=dilation)
    return nn.Sequential(
        nn.ConstantPad1d((2 * dilation, 0), 0.0), parametrizations.weight_norm(layer), nn.ReLU()
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "aspp": (lambda: nn.Sequential(
        conv(3, 8, stride=2),
        Parallel(*(conv(8, 4, dilation=rate, padding=rate) for rate in (1, 2, 4)), conv(8, 4, 1)),
        conv(16, 6, 1), nn.Upsample(scale_factor=2.0, mode="nearest"),
    ), torch.rand(1, 3, 16, 24)),
    "autoencoder": (lambda: nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(), nn.Conv2d(8, 16, 4, 2, 1), nn.Flatten(), nn.Linear(256, 12),
        nn.Linear(12, 256), nn.Unflatten(1, (16, 4, 4)), nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ELU(),
        nn.ConvTranspose2d(8, 3, 3, 2, 1, output_padding=1), nn.Sigmoid(),
    ), torch.rand(2, 3, 16, 16)),
    "causal-1d": (
        lambda: nn.Sequential(temporal(4, 8, 1), temporal(8, 8, 2), nn.Conv1d(8, 3, 1)), torch.rand(2, 4, 20)
    ),
    "conditional": (Conditional, torch.rand(1, 3, 9, 9)),
    "conv-lstm": (ConvLstm, torch.rand(1, 3, 2, 6, 7)),
    "convnext": (lambda: nn.Sequential(
        nn.Conv2d(3, 8, 4, 4), ConvNext(8), nn.Conv2d(8, 12, 2, 2), ConvNext(12), *head(12)
    ), torch.rand(1, 3, 32, 32)),
    "csp-darknet": (lambda: nn.Sequential(
        nn.PixelUnshuffle(2), conv(12, 16), Parallel(conv(16, 8, 1), nn.Sequential(
            conv(16, 8, 1), Residual(conv(8, 8, 1), conv(8, 8)))), conv(16, 16, 1), nn.Mish(),
    ), torch.rand(1, 3, 16, 20)),
    "densenet": (lambda: nn.Sequential(
        conv(3, 8), Chain(conv(8, 4), conv(12, 4), conv(16, 4)), conv(20, 10, 1), nn.AvgPool2d(2), *head(10)
    ), torch.rand(1, 3, 14, 14)),
    "discriminator": (lambda: nn.Sequential(
        parametrizations.spectral_norm(nn.Conv2d(3, 8, 4, 2, 1)), nn.LeakyReLU(0.2),
        parametrizations.spectral_norm(nn.Conv2d(8, 16, 4, 2, 1)), nn.InstanceNorm2d(16), nn.Conv2d(16, 1, 4),
    ), torch.rand(1, 3, 32, 32)),
    "even-kernels": (lambda: nn.Sequential(
        nn.Conv2d(2, 4, (2, 4), (1, 3), padding=(1, 0)), nn.Conv2d(4, 6, (1, 5), dilation=(1, 2), padding="same"),
        nn.Conv2d(6, 4, (5, 1), padding="valid", groups=2),
    ), torch.rand(3, 2, 11, 18)),
    "generator": (lambda: nn.Sequential(
        nn.ConvTranspose2d(10, 16, 4, 1, 0, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.ConvTranspose2d(16, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.ConvTranspose2d(8, 3, 4, 2, 1, groups=1), nn.Tanh(),
    ), torch.rand(2, 10, 1, 1)),
    "ghost": (lambda: nn.Sequential(
        conv(3, 8), Parallel(nn.Identity(), conv(8, 8, groups=8)), conv(16, 8, 1), *head(8)
    ), torch.rand(1, 3, 12, 12)),
    "group-norm": (lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), Standardised(8, 12, 3, 2, 1), nn.GroupNorm(3, 12),
    ), torch.rand(1, 3, 10, 10)),
    "high-resolution": (lambda: nn.Sequential(conv(3, 8), Sum(
        conv(8, 8), nn.Sequential(conv(8, 16, stride=2), conv(16, 8, 1), Call(up)),
        nn.Sequential(conv(8, 8, stride=2), conv(8, 8, stride=2), Call(up), Call(up)),
    )), torch.rand(1, 3, 16, 16)),
    "inception": (lambda: nn.Sequential(conv(3, 8), Parallel(
        conv(8, 4, 1), nn.Sequential(conv(8, 4, 1), conv(4, 6)), nn.Sequential(conv(8, 2, 1), conv(2, 4, 5)),
        nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(8, 4, 1)),
    ), *head(18)), torch.rand(1, 3, 15, 15)),
    "mobilenet-v2": (lambda: nn.Sequential(
        conv(3, 8, stride=2), Residual(conv(8, 24, 1), conv(24, 24, groups=24), nn.Conv2d(24, 8, 1, bias=False)),
        nn.ReLU6(), nn.Dropout(), *head(8),
    ), torch.rand(1, 3, 20, 20)),
    "mobilenet-v3": (lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.Hardswish(), nn.Conv2d(8, 16, 1), nn.Conv2d(16, 16, 5, 2, 2, groups=16),
        squeeze(16, hard=True), nn.Conv2d(16, 12, 1), nn.Hardswish(), *head(12),
    ), torch.rand(1, 3, 24, 24)),
    "non-local": (lambda: nn.Sequential(conv(3, 16, stride=2), NonLocal(16), *head(16)), torch.rand(2, 3, 12, 12)),
    "pyramid": (Pyramid, torch.rand(1, 3, 32, 48)),
    "repvgg": (lambda: nn.Sequential(conv(3, 8, stride=2), *(
        nn.Sequential(Sum(conv(8, 8), conv(8, 8, 1), nn.BatchNorm2d(8)), nn.ReLU()) for _ in range(2)
    ), *head(8)), torch.rand(1, 3, 16, 16)),
    "resnext": (lambda: nn.Sequential(
        conv(3, 16, 7, 2), nn.MaxPool2d(3, 2, 1),
        Sum(nn.Sequential(conv(16, 8, 1), conv(8, 8, 3, 2, groups=4), conv(8, 32, 1)), conv(16, 32, 1, 2)), *head(32),
    ), torch.rand(2, 3, 32, 32)),
    "se-resnet": (lambda: nn.Sequential(
        conv(3, 16, stride=2), Residual(conv(16, 16), conv(16, 16), squeeze(16)), *head(16)
    ), torch.rand(1, 3, 16, 16)),
    "selective": (lambda: nn.Sequential(conv(3, 8), Selective(8)), torch.rand(1, 3, 10, 10)),
    "separable": (lambda: nn.Sequential(
        conv(3, 8), Residual(*(layer for _ in range(2) for layer in (
            nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)))),
    ), torch.rand(1, 3, 12, 12)),
    "shufflenet": (lambda: nn.Sequential(
        conv(3, 16, stride=2),
        Residual(conv(16, 8, 1, groups=4), Call(lambda x: shuffle(x)), conv(8, 8, groups=8), conv(8, 16, 1, groups=4)),
    ), torch.rand(1, 3, 16, 16)),
    "super-resolution": (lambda: nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2), nn.Tanh(), nn.Conv2d(8, 4, 3, padding=1), nn.PixelShuffle(2),
        nn.ReflectionPad2d(2), nn.Conv2d(1, 1, 5), nn.PReLU(),
    ), torch.rand(1, 1, 9, 13)),
    "text-1d": (lambda: nn.Sequential(
        nn.Embedding(30, 6), Call(lambda x: x.transpose(1, 2)), Parallel(*(
            nn.Sequential(nn.Conv1d(6, 4, kernel), nn.ReLU(), nn.AdaptiveMaxPool1d(1)) for kernel in (2, 3, 4)
        )), nn.Flatten(), nn.Linear(12, 2),
    ), torch.zeros(2, 11, dtype=torch.long)),
    "transposed": (lambda: nn.Sequential(
        nn.ConvTranspose2d(4, 6, (3, 2), (2, 1), dilation=(1, 2), groups=2), nn.CELU(),
        nn.ConvTranspose2d(6, 2, 3, 3, output_padding=2, bias=False), nn.Softplus(),
    ), torch.rand(2, 4, 5, 6)),
    "transposed-1d-and-3d": (lambda: nn.Sequential(
        nn.ConvTranspose1d(4, 6, 4, 2, 1, groups=2), nn.Unflatten(2, (2, 2, 5)), nn.ConvTranspose3d(6, 4, 2, 2),
    ), torch.rand(1, 4, 10)),
    "u-net": (UNet, torch.rand(1, 3, 16, 24)),
    "vgg": (lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 4 * 4, 32), nn.Dropout(), nn.Linear(32, 10), nn.Softmax(-1),
    ), torch.rand(2, 3, 16, 16)),
    "video": (lambda: nn.Sequential(
        nn.Conv3d(3, 8, (1, 3, 3), (1, 2, 2), (0, 1, 1)), nn.BatchNorm3d(8), nn.ReLU(),
        nn.Conv3d(8, 8, (3, 1, 1), padding=(1, 0, 0), groups=8), nn.Conv3d(8, 12, 1), nn.MaxPool3d(2),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(12, 5),
    ), torch.rand(1, 3, 4, 12, 12)),
    "wavenet": (WaveNet, torch.rand(1, 1, 24)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_are_half_of_the_flops_of_torch(name: str, torch_macs: Callable[..., int]) -> None:
    make, example = NETWORKS[name]
    torch.manual_seed(0)
    module = make()
    graph = from_torch(module, example)
    assert graph.macs == torch_macs(module, example) > 0
    assert graph.flops == 2 * graph.macs
    assert canonicalise(graph).macs == graph.macs


@pytest.mark.parametrize("name", list(NETWORKS)[::3])
def test_the_newer_exporter_gives_the_same_macs(name: str, torch_macs: Callable[..., int]) -> None:
    make, example = NETWORKS[name]
    module, buffer = make().eval(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (example,), buffer, dynamo=True, verbose=False)
    assert read_onnx(buffer.getvalue()).macs == torch_macs(module, example)
