"""MACs and parameters of well-known networks against what is published, or follows from their published layers."""

from __future__ import annotations

import pytest

from aiop.graph_ir import ComputeGraph, read_onnx

# Convolutions: (input channels / groups, output channels, kernel, output size); matrices: (inputs, outputs).
ALEXNET = [  # Krizhevsky et al. 2012, in two groups, read at 224 pixels
    (3, 96, 11, 54), (48, 256, 5, 26), (256, 384, 3, 12), (192, 384, 3, 12), (192, 256, 3, 12),
    (9216, 4096), (4096, 4096), (4096, 1000),
]  # fmt: skip
ZFNET512 = [  # Zeiler and Fergus 2013, as the ONNX model zoo has it: 512 maps, matrices of 4096 and 1024
    (3, 96, 7, 109), (96, 256, 5, 25), (256, 512, 3, 12), (512, 512, 3, 12), (512, 512, 3, 12),
    (18432, 4096), (4096, 1024), (1024, 1000),
]  # fmt: skip
VGG19 = [  # Simonyan and Zisserman 2014, configuration E
    (3, 64, 3, 224), (64, 64, 3, 224), (64, 128, 3, 112), (128, 128, 3, 112), (128, 256, 3, 56),
    *[(256, 256, 3, 56)] * 3, (256, 512, 3, 28), *[(512, 512, 3, 28)] * 3, *[(512, 512, 3, 14)] * 4,
    (25088, 4096), (4096, 4096), (4096, 1000),
]  # fmt: skip


def macs_of(layers: list[tuple[int, ...]]) -> int:
    return sum(a * b if not rest else a * b * rest[0] ** 2 * rest[1] ** 2 for a, b, *rest in layers)


def params_of(layers: list[tuple[int, ...]]) -> int:
    return sum((a * b if not rest else a * b * rest[0] ** 2) + b for a, b, *rest in layers)


def shufflenet() -> tuple[int, int]:
    """MACs and parameters of ShuffleNet (Zhang et al. 2017) with four groups, widths 136, 272 and 544.

    The file is Caffe2's network: bottlenecks as wide as the units, where the paper's are a quarter of twice that, so
    the paper's count of 133 M is that of another network.
    """
    macs, params = 24 * 27 * 112**2, 24 * 27 + 3 * 24  # with a bias beside scale and shift
    channels, groups = 24, 4
    for width, units, size in ((136, 4, 28), (272, 8, 14), (544, 4, 7)):
        for unit in range(units):
            stride = 2 if unit == 0 else 1
            inner = 112 if channels == 24 else channels if stride == 2 else width
            out = width - channels if stride == 2 else width  # the other half of a strided unit is pooled
            first, depthwise, last = channels // groups * inner, 9 * inner, inner // groups * out
            macs += first * (size * stride) ** 2 + (depthwise + last) * size**2
            params += first + depthwise + last + 2 * (inner + inner + out)
            channels = width
    return macs + 544 * 1000, params + 544 * 1000 + 1000


@pytest.fixture
def light(onnx_light):
    return lambda name: read_onnx(onnx_light / f"light_{name}.onnx")


# MACs in G: torchvision's tables for DenseNet-121, ResNet-50, SqueezeNet 1.1 (0.35) and VGG-19; Sze et al. 2017 for
# GoogLeNet; OpenVINO's model zoo for Inception v2 (4.058 GFLOPs).
@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("densenet121", 2.834),
        ("inception_v1", 1.43),
        ("inception_v2", 4.058 / 2),
        ("resnet50", 4.089),
        ("squeezenet", 0.349),
        ("vgg19", 19.632),
    ],
)
def test_macs_as_published(light, name: str, published: float) -> None:
    assert light(name).macs / 1e9 == pytest.approx(published, rel=0.01)


# The networks that torchvision publishes have these. Caffe's DenseNet-121 has a scale and a shift of its own after
# each of the 83,648 / 2 channels that torchvision's 7,978,856 parameters normalise.
@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("densenet121", 7_978_856 + 83_648),
        ("resnet50", 25_557_032),
        ("squeezenet", 1_235_496),
        ("vgg19", 143_667_240),
    ],
)
def test_params_as_published(light, name: str, published: int) -> None:
    assert light(name).params == published


@pytest.mark.parametrize(
    ("name", "layers"), [("bvlc_alexnet", ALEXNET), ("zfnet512", ZFNET512), ("vgg19", VGG19)]
)
def test_counts_follow_from_the_layers(light, name: str, layers: list[tuple[int, ...]]) -> None:
    network: ComputeGraph = light(name)
    assert network.macs == macs_of(layers)
    assert network.params == params_of(layers)


def test_shufflenet_follows_from_its_units(light) -> None:
    network = light("shufflenet")
    assert (network.macs, network.params) == shufflenet()


@pytest.mark.parametrize("name", ["resnet50", "vgg19", "shufflenet"])
def test_flops_are_twice_the_macs(light, name: str) -> None:
    assert light(name).flops == 2 * light(name).macs


def test_activations_as_published(light) -> None:
    # RegNet (Radosavovic et al. 2020, table of timm): 11.11 M for ResNet-50 at 224 pixels
    assert light("resnet50").activations / 1e6 == pytest.approx(11.11, abs=0.01)
