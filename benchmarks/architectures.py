"""Real networks of many families, with weights as if trained: what the benchmarks of reading export."""

from __future__ import annotations

import functools
import sys
import types
import zlib
from dataclasses import dataclass, field
from typing import Any

from aiop.errors import AiopError

__all__ = ["NETWORKS", "Architecture", "build", "library"]

_INSTALL = 'pip install "aiop[benchmarks]"'


@dataclass(frozen=True)
class Architecture:
    """A network to export: where it comes from, the shape of its input, and arguments of its constructor."""

    library: str
    name: str
    shape: tuple[int, ...]
    arguments: dict[str, Any] = field(default_factory=dict)


def _timm(name: str, size: int, **arguments: Any) -> Architecture:
    return Architecture("timm", name, (1, 3, size, size), arguments)


def _torchvision(name: str, *shape: int) -> Architecture:
    return Architecture("torchvision", name, (1, 3, *shape))


# Small members of many families, kinds mixed so that the first ones already cover much; those without a small member
# lose depth or width, nothing else.
_LISTED = (
    _timm("resnet18", 128),
    _timm("vit_tiny_patch16_224", 224),
    _timm("mobilenetv3_small_100", 128),
    _timm("swin_tiny_patch4_window7_224", 224),
    _timm("efficientnet_b0", 128),
    _timm("convnext_atto", 128),
    _timm("levit_128s", 224),
    _torchvision("lraspp_mobilenet_v3_large", 128, 128),
    _timm("mobilevit_xxs", 128),
    _timm("resnetv2_50", 128),
    _timm("cait_xxs24_224", 224, depth=8),
    _timm("regnety_002", 128),
    _timm("mixer_s32_224", 224),
    _timm("resnetv2_50x1_bit", 128),
    _timm("ghostnet_050", 128),
    _timm("densenet121", 128),
    _timm("pvt_v2_b0", 224),
    _timm("repvgg_a0", 128),
    _timm("eva02_tiny_patch14_224", 224),
    _timm("poolformer_s12", 128),
    _timm("mobilenetv2_050", 128),
    _timm("xcit_nano_12_p16_224", 224),
    _timm("nfnet_l0", 128),
    _torchvision("shufflenet_v2_x0_5", 128, 128),
    _timm("beit_base_patch16_224", 224, embed_dim=192, depth=4, num_heads=3),
    _timm("edgenext_xx_small", 128),
    _timm("hrnet_w18_small", 128),
    _timm("swinv2_cr_tiny_ns_224", 224),
    _timm("coatnet_pico_rw_224", 224),
    _torchvision("squeezenet1_1", 128, 128),
    _timm("pit_ti_224", 224),
    _timm("efficientformer_l1", 224),
    _timm("convnextv2_atto", 128),
    _timm("inception_v3", 128),
    _timm("gmlp_ti16_224", 224),
    _torchvision("deeplabv3_mobilenet_v3_large", 128, 128),
    _timm("deit_tiny_distilled_patch16_224", 224),
    _timm("mnasnet_small", 128),
    _timm("tnt_s_patch16_224", 224, depth=4),
    _timm("vgg11_bn", 224),
    _timm("maxvit_rmlp_pico_rw_256", 256),
    _timm("resmlp_12_224", 224),
    _timm("efficientvit_b0", 128),
    _timm("crossvit_tiny_240", 240),
    _timm("fastvit_t8", 128),
    _torchvision("vit_b_32", 224, 224),
    _timm("skresnet18", 128),
    _timm("twins_svt_small", 224),
    _timm("sequencer2d_s", 224),
    _torchvision("r3d_18", 8, 64, 64),
    _timm("lambda_resnet26rpt_256", 256),
    _timm("mobilevitv2_050", 128),
    _timm("focalnet_tiny_srf", 224),
    _timm("davit_tiny", 224),
    _timm("repvit_m0_9", 128),
    _timm("mobilenetv4_conv_small", 128),
    _timm("hiera_tiny_224", 224),
    _timm("botnet26t_256", 256),
    _torchvision("fcn_resnet50", 128, 128),
    _torchvision("swin_t", 224, 224),
)

NETWORKS = {each.name: each for each in _LISTED}


def build(architecture: Architecture, *, fused: bool = True) -> tuple[Any, Any]:
    """Return a network ready to export, with seeded random weights as if trained, and an input for it.

    Exporters drop zero biases and merge equal vectors, so nothing may keep its initial value. ``fused=False`` spells
    timm's attention out as products, as opsets without the operator need.
    """
    import torch

    torch.manual_seed(seed := zlib.crc32(architecture.name.encode()))
    if architecture.library == "timm":
        timm = library("timm")
        timm.layers.set_fused_attn(fused)
        network = timm.create_model(architecture.name, **architecture.arguments)
    else:
        network = _torchvision_network(architecture.name, architecture.arguments)
    network.eval()
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=noise) * 0.05 + 0.01)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=noise) * 0.05)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=noise) + 0.5)
    return network, torch.randn(architecture.shape, generator=noise)


def _torchvision_network(name: str, arguments: dict[str, Any]) -> Any:
    import torch

    torchvision = library("torchvision")
    arguments = dict(arguments)
    if hasattr(torchvision.models.segmentation, name):
        arguments["weights_backbone"] = None
    network = torchvision.models.get_model(name, weights=None, **arguments)
    if not hasattr(torchvision.models.segmentation, name):
        return network

    class Segmentation(torch.nn.Module):
        """The main output alone, since not every exporter writes dictionaries."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: Any) -> Any:
            return self.network(image)["out"]

    return Segmentation()


@functools.cache
def library(name: str) -> Any:
    """Import an optional library."""
    # torchvision's wheel registers shape functions of compiled operators, which are absent beside a torch of another
    # build. Nothing here uses these operators, so an empty module in place of the registrations lets it import.
    sys.modules.setdefault(
        "torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations")
    )
    try:
        return __import__(name, fromlist=["_"])
    except ImportError as error:
        raise AiopError(f"{name} is not installed, which this benchmark needs; {_INSTALL}") from error
