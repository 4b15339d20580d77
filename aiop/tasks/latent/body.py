"""The network of a ``digits-ofa`` code in torch: three feature maps of an image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from aiop.errors import AiopError
from aiop.graph_ir.checkpoint import load_checkpoint, save_checkpoint
from aiop.graph_ir.tensor_file import atomic_path
from aiop.tasks.latent.heads.base import to_input
from aiop.tasks.spaces.base import get_space
from aiop.tasks.spaces.digits_ofa import BOUNDARIES, STEM, STRIDES, DigitsBody, DigitsOfa

__all__ = ["SPACE", "Body", "export", "recalibrate"]

SPACE = cast(DigitsOfa, get_space("digits-ofa"))
EPSILON = 1e-5  # of every batch norm, here and in the file


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm and, where asked for, ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        active: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=EPSILON)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return functional.relu(x, inplace=True) if self.active else x


class InvertedResidual(nn.Module):
    """Expand, depthwise convolution, project (Sandler et al. 2018); the input is added where nothing changes shape."""

    def __init__(self, inputs: int, hidden: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.expand = ConvNorm(inputs, hidden)
        self.depthwise = ConvNorm(hidden, hidden, kernel, stride, groups=hidden)
        self.project = ConvNorm(hidden, outputs, active=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class BodyStage(nn.Module):
    """Blocks, the first of which halves the sides, and the step to the boundary's channels."""

    def __init__(self, blocks: list[InvertedResidual], out: ConvNorm) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.out = out

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, self.out(x))


class Body(nn.Module):
    """A standalone body; its parameters are named as the nodes of the file that the space writes.

    code: of the space ``digits-ofa``. channels, strides: of the feature maps, finest first; the same for every body.

    Raises:
        AiopError: for a code outside the grammar.
    """

    channels: tuple[int, ...] = BOUNDARIES
    strides: tuple[int, ...] = STRIDES

    def __init__(self, code: str) -> None:
        super().__init__()
        self.architecture: DigitsBody = SPACE.parse(code)
        self.code = code
        self.stem = ConvNorm(3, STEM, 3, stride=2)
        blocks: list[list[InvertedResidual]] = [[] for _ in self.architecture.stages]
        for at, place, inputs, hidden, outputs in self.architecture.shapes():
            kernel = self.architecture.stages[at].blocks[place].kernel
            blocks[at].append(InvertedResidual(inputs, hidden, outputs, kernel, 1 if place else 2))
        last = len(blocks) - 1
        self.stages = nn.ModuleList(
            BodyStage(blocks[at], ConvNorm(stage.width, BOUNDARIES[at], active=at == last))
            for at, stage in enumerate(self.architecture.stages)
        )
        self.reset()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights anew (He et al. 2015); norms start as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.out_channels * math.prod(module.kernel_size) // module.groups
                nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out), generator=generator)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images float ``(n, 3, H, W)`` (`to_input`) -> feature maps ``(n, C_i, H / s_i, W / s_i)``, finest first."""
        x: Tensor = self.stem(images.contiguous(memory_format=torch.channels_last))
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return tuple(features)

    def save(self, path: str | Path) -> None:
        """Write code, weights and statistics as safetensors, whole or not at all."""
        save_checkpoint(Path(path), self.state_dict(), {"body": self.code})

    @classmethod
    def load(cls, path: str | Path) -> Body:
        """Read what `save` wrote.

        Raises:
            AiopError: for a missing or damaged file, and one that holds something else.
        """
        tensors, state = load_checkpoint(Path(path))
        if not isinstance(state.get("body"), str):
            raise AiopError(f"{path} holds no body: give a file that a body was saved to")
        body = cls(state["body"])
        try:
            body.load_state_dict(tensors)
        except RuntimeError:
            raise AiopError(f"{path} does not hold the weights of body {body.code}: make it again") from None
        return body


def recalibrate(body: nn.Module, images: Tensor, batches: int = 8, batch: int = 64) -> None:
    """Estimate the statistics of all batch norms anew, as the mean over ``batches`` batches of ``images``.

    Weights taken from a supernet need it: the statistics of a body are its own.

    images: uint8 or float (`to_input`) ``(n, 3, H, W)``; the first ``batches * batch`` of them are read.

    Raises:
        AiopError: where there is no image.
    """
    if not len(images):
        raise AiopError("there is no image to estimate the statistics of batch norms from: give some")
    norms = [module for module in body.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    mode = body.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    body.train()
    try:
        with torch.no_grad():
            for part in torch.split(images[: batches * batch], batch):
                body(to_input(part) if part.dtype == torch.uint8 else part)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        body.train(mode)


def export(body: Body, linear: nn.Linear | None, path: str | Path) -> onnx.ModelProto:
    """Write a trained body as ONNX, for a 64 x 64 image, and return what was written.

    The file is that of the space (``digits-ofa:CODE``, ``digits-ofa@stages:CODE`` without a head) with the trained
    weights in it. Norms keep their place; their statistics are folded into scale and shift.

    linear: of the classification head, over the pooled coarsest features; None writes the three feature maps.

    Raises:
        AiopError: for a file that cannot be written.
    """
    network = SPACE.build(body.code, None if linear is not None else "stages", "random")
    values = dict(_values(body))
    if linear is not None:
        values["head.classifier.weight"] = linear.weight.detach()
        values["head.classifier.bias"] = linear.bias.detach()
        classes = linear.out_features
        network.graph.output[0].type.tensor_type.shape.dim[1].dim_value = classes
    for weight in network.graph.initializer:
        if weight.name in values:
            array = values[weight.name].cpu().contiguous().numpy().astype("<f4")
            weight.dims[:] = array.shape
            weight.raw_data = np.ascontiguousarray(array).tobytes()
    with atomic_path(path) as temporary:
        temporary.write_bytes(network.SerializeToString())
    return network


def _values(body: Body) -> Iterator[tuple[str, Tensor]]:
    """Name in the file and value of every weight; a norm's own statistics become those of the file, 0 and 1."""
    for name, module in body.named_modules():
        if isinstance(module, nn.Conv2d):
            yield name + ".weight", module.weight.detach()
        elif isinstance(module, nn.BatchNorm2d):
            mean, variance = cast(Tensor, module.running_mean), cast(Tensor, module.running_var)
            gain = module.weight.detach() / torch.sqrt(variance + module.eps)
            yield name + ".scale", gain * math.sqrt(1.0 + EPSILON)
            yield name + ".shift", module.bias.detach() - mean * gain
