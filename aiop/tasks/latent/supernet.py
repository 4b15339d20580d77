"""Weights shared by all bodies of the space: every body is a part of the largest (Cai et al., ICLR 2020)."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from aiop.errors import AiopError
from aiop.graph_ir.checkpoint import load_checkpoint, save_checkpoint
from aiop.tasks.latent.body import SPACE, Body, BodyStage, InvertedResidual
from aiop.tasks.spaces.digits_ofa import BLOCKS, BOUNDARIES, KERNELS, LARGEST, SMALLEST, STRIDES

__all__ = ["LARGEST_CODE", "SMALLEST_CODE", "Supernet"]

LARGEST_CODE = SPACE.format(LARGEST)
SMALLEST_CODE = SPACE.format(SMALLEST)
SKELETONS = 512  # bodies without weights that are kept
NORM = ("norm.weight", "norm.bias")


class Supernet(nn.Module):
    """The largest body, a classifier, and how a smaller body is cut out of them.

    A body takes the first blocks of a stage, the first channels of a width or an expansion, and of a kernel of 7 the
    middle, through a matrix learnt for each block and kernel (OFA's). Its statistics of batch norms are its own:
    `forward` uses those of the batch, a body made by `extract` needs `recalibrate`.

    classes: of the classifier.
    """

    channels: tuple[int, ...] = BOUNDARIES
    strides: tuple[int, ...] = STRIDES

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.body = Body(LARGEST_CODE)
        self.classifier = nn.Linear(BOUNDARIES[-1], classes)
        # From 7 to 5 and from 5 to 3, block by block; the identity cuts out the middle.
        self.kernels = nn.ModuleList(
            nn.ParameterList(torch.eye(kernel**2) for kernel in KERNELS[:-1])
            for _ in range(len(LARGEST.stages) * BLOCKS)
        )
        self._skeletons: OrderedDict[str, Body] = OrderedDict()

    def forward(self, images: Tensor, code: str = LARGEST_CODE) -> Tensor:
        """Logits ``(n, classes)`` of the images ``(n, 3, H, W)`` by the body of that code, statistics of this batch."""
        return self.classify(self.features(images, code))

    def features(self, images: Tensor, code: str) -> tuple[Tensor, ...]:
        """Feature maps of the body of that code, differentiable in the shared weights; statistics of this batch."""
        skeleton = self._skeleton(code)
        found: tuple[Tensor, ...] = functional_call(skeleton, self._weights(skeleton), (images,))
        return found

    def classify(self, features: tuple[Tensor, ...]) -> Tensor:
        """Logits from feature maps: the mean of the coarsest, then a linear layer."""
        logits: Tensor = self.classifier(features[-1].mean(dim=(2, 3)))
        return logits

    def extract(self, code: str) -> Body:
        """A body of its own with a copy of the shared weights, its batch norms not yet calibrated (`recalibrate`).

        Raises:
            AiopError: for a code outside the grammar.
        """
        body = Body(code)
        with torch.no_grad():
            values = self._weights(body)
            for name, parameter in body.named_parameters():
                parameter.copy_(values[name])
        return body

    def sort(self) -> None:
        """Order channels by importance, most important first; what the largest body computes does not change.

        Importance of a hidden channel: the sum of absolute weights that read it when projecting; of a channel of a
        stage's width: the sum over all that read it.
        """
        with torch.no_grad():
            for stage in cast(list[BodyStage], list(self.body.stages)):
                blocks = cast(list[InvertedResidual], list(stage.blocks))
                for block in blocks:
                    order = _order(block.project.conv.weight.flatten(1))
                    for layer in (block.expand, block.depthwise):
                        _permute(order, layer.conv.weight, layer.norm.weight, layer.norm.bias)
                    _permute_inputs(order, block.project.conv.weight)
                readers = [*(block.expand.conv.weight for block in blocks[1:]), stage.out.conv.weight]
                order = _order(torch.cat([reader.flatten(1) for reader in readers]))
                for block in blocks:
                    norm = block.project.norm
                    _permute(order, block.project.conv.weight, norm.weight, norm.bias)
                for reader in readers:
                    _permute_inputs(order, reader)

    def save(self, path: str | Path) -> None:
        """Write all weights as safetensors, whole or not at all."""
        save_checkpoint(
            Path(path), self.state_dict(), {"supernet": {"classes": self.classifier.out_features}}
        )

    @classmethod
    def load(cls, path: str | Path) -> Supernet:
        """Read what `save` wrote.

        Raises:
            AiopError: for a missing or damaged file, and one that holds something else.
        """
        tensors, state = load_checkpoint(Path(path))
        try:
            supernet = cls(int(state["supernet"]["classes"]))
            supernet.load_state_dict(tensors)
        except (KeyError, TypeError, ValueError, RuntimeError):
            raise AiopError(f"{path} does not hold the weights of a supernet: make it again") from None
        return supernet

    def _skeleton(self, code: str) -> Body:
        """The body of a code without weights, its norms without statistics."""
        skeleton = self._skeletons.pop(code, None)
        if skeleton is None:
            with torch.device("meta"):
                skeleton = Body(code)
            for module in skeleton.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.track_running_stats = False
                    module.running_mean = module.running_var = module.num_batches_tracked = None
        self._skeletons[code] = skeleton
        if len(self._skeletons) > SKELETONS:
            self._skeletons.popitem(last=False)
        return skeleton

    def _weights(self, body: Body) -> dict[str, Tensor]:
        """Parameters of a body as parts of the shared ones, by their names in the body."""
        shared: dict[str, Tensor] = dict(self.body.named_parameters())
        taken = {name: value for name, value in shared.items() if name.startswith("stem.")}
        for at, place, inputs, hidden, outputs in body.architecture.shapes():
            block = f"stages.{at}.blocks.{place}"
            for layer, size in (("expand", hidden), ("depthwise", hidden), ("project", outputs)):
                taken |= {f"{block}.{layer}.{end}": shared[f"{block}.{layer}.{end}"][:size] for end in NORM}
            weight = shared[f"{block}.expand.conv.weight"]
            taken[f"{block}.expand.conv.weight"] = weight[:hidden, :inputs]
            weight = shared[f"{block}.project.conv.weight"]
            taken[f"{block}.project.conv.weight"] = weight[:outputs, :hidden]
            kernel = body.architecture.stages[at].blocks[place].kernel
            weight = shared[f"{block}.depthwise.conv.weight"][:hidden]
            taken[f"{block}.depthwise.conv.weight"] = self._kernel(weight, BLOCKS * at + place, kernel)
        for at, stage in enumerate(body.architecture.stages):
            out = f"stages.{at}.out"
            taken[f"{out}.conv.weight"] = shared[f"{out}.conv.weight"][:, : stage.width]
            taken |= {f"{out}.{end}": shared[f"{out}.{end}"] for end in NORM}
        return taken

    def _kernel(self, weight: Tensor, block: int, kernel: int) -> Tensor:
        """``(c, 1, 7, 7)`` -> ``(c, 1, kernel, kernel)``, from each size to the next smaller one."""
        for index in reversed(range(len(KERNELS) - 1)):
            side = KERNELS[index]
            if side < kernel:
                break
            middle = weight[:, :, 1:-1, 1:-1].flatten(1)
            weight = functional.linear(middle, self.kernels[block][index]).view(-1, 1, side, side)  # type: ignore[index]
        return weight


def _order(readers: Tensor) -> Tensor:
    """Columns of ``(outputs, inputs)``, that of the largest absolute weights first; equal ones keep their order."""
    return readers.abs().sum(dim=0).argsort(descending=True, stable=True)


def _permute(order: Tensor, *values: Tensor) -> None:
    for value in values:
        value.copy_(value[order].clone())


def _permute_inputs(order: Tensor, weight: Tensor) -> None:
    weight.copy_(weight[:, order].clone())
