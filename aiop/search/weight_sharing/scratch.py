"""Cells trained alone, from fresh weights and all alike: what a search by duels is to be judged by."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from aiop.search.weight_sharing.images import Images
from aiop.search.weight_sharing.network import CellNetwork, load
from aiop.search.weight_sharing.settings import DuelSettings
from aiop.search.weight_sharing.training import batches, judge, train
from aiop.tasks import get_space
from aiop.tasks.latent.training import one_cycle

__all__ = ["Alone", "network_costs", "train_alone"]

_WARMUP = 0.1
_SAMPLE = 1000  # images that running statistics are estimated on, in batches


class Alone(NamedTuple):
    """A cell trained from fresh weights: loss in nats and top-1 in percent on held-out images, parameters and MACs."""

    loss: float
    top1: float
    params: int
    macs: int


def train_alone(
    code: str, images: Images, settings: DuelSettings, *, steps: int, rate: float, seed: int = 0
) -> Alone:
    """Train the network of a code on all images for training and judge it on the held-out ones.

    What two codes have in common begins with the same weights, and all see the same images in the same order. The
    norms' statistics are estimated on images for training when the training is over.

    Args:
        code: of `darts`.
        images: to train and judge on.
        settings: cells, channels, batch, momentum, decay, clip and shift of the training.
        steps: of SGD.
        rate: its highest learning rate; it rises over a tenth of the steps and falls on a cosine to 0.
        seed: of weights and order.

    Raises:
        AiopError: an unknown code, or a loss that stops being a number.
    """
    network = _network(code, images.classes, settings)
    load(network, {}, seed)
    plan = batches(torch.arange(len(images.train)), settings, seed, steps)
    train(
        network,
        images.train,
        images.train_labels,
        plan,
        lambda step: rate * one_cycle(step, steps, _WARMUP),
        settings,
    )
    network = _with_statistics(network, code, images, settings)
    found = judge(network, images.test, images.test_labels)
    macs, params = network_costs(code, images, settings)
    return Alone(found.loss, found.top1, params, macs)


def network_costs(code: str, images: Images, settings: DuelSettings) -> tuple[int, int]:
    """Return MACs of an image (half of the FLOPs that PyTorch counts) and parameters of a code's network."""
    network = _network(code, images.classes, settings).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images.test[:1])
    return counter.get_total_flops() // 2, sum(weight.numel() for weight in network.parameters())


def _network(code: str, classes: int, settings: DuelSettings, *, statistics: bool = False) -> CellNetwork:
    genotype = get_space("darts").parse(code)
    return CellNetwork(
        genotype,  # type: ignore[arg-type]
        cells=settings.cells,
        channels=settings.channels,
        classes=classes,
        statistics=statistics,
    )


@torch.no_grad()
def _with_statistics(network: CellNetwork, code: str, images: Images, settings: DuelSettings) -> CellNetwork:
    """Return the network with running statistics: means over batches of images for training."""
    found = _network(code, images.classes, settings, statistics=True)
    load(found, dict(network.named_parameters()), 0)
    for module in found.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # a plain mean
    found.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found.train()
    for part in torch.split(images.train[:_SAMPLE], 250):
        found(part)
    return found
