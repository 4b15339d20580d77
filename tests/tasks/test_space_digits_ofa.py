"""The bodies of the digit scenes against counts by arithmetic and a network written in PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
from torch import nn
from torch_layers import Residual, conv

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx
from aiop.tasks import get_space

SPACE = get_space("digits-ofa")
EXAMPLE = "24-k3e2-k5e4/40-k3e4/80-k5e4-k3e2-k7e3"
SMALLEST = "16-k3e2/24-k3e2/48-k3e2"
LARGEST = "/".join(f"{width}-k7e4-k7e4-k7e4-k7e4" for width in (24, 40, 80))
ENDS = (24, 40, 80)


def decoded(code: str) -> list[tuple[int, list[tuple[int, int]]]]:
    stages = [part.split("-") for part in code.split("/")]
    return [(int(width), [(int(b[1]), int(b[3])) for b in blocks]) for width, *blocks in stages]


def macs(code: str) -> int:
    """Products of the convolutions and of the classifier, by hand."""
    side, channels = 32, 16
    total = side * side * 27 * 16
    for (width, blocks), end in zip(decoded(code), ENDS, strict=True):
        for place, (kernel, ratio) in enumerate(blocks):
            hidden, before = channels * ratio, side * side
            side = side if place else side // 2
            total += before * channels * hidden + side * side * hidden * (kernel**2 + width)
            channels = width
        total += side * side * width * end
        channels = end
    return total + 80 * 10


def reference(code: str) -> nn.Sequential:
    layers: list[nn.Module] = [*conv(3, 16, 3, 2), nn.ReLU()]
    x = 16
    for (width, blocks), end in zip(decoded(code), ENDS, strict=True):
        for place, (kernel, ratio) in enumerate(blocks):
            hidden = x * ratio
            path = [*conv(x, hidden, 1), nn.ReLU()]
            path += [*conv(hidden, hidden, kernel, 1 if place else 2, groups=hidden), nn.ReLU()]
            path += conv(hidden, width, 1)
            layers.append(Residual(nn.Sequential(*path)) if place else nn.Sequential(*path))
            x = width
        layers += conv(width, end, 1)
        x = end
    layers += [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(80, 10)]
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_outputs_and_counts_are_those_of_the_network_in_pytorch(
    compare_with_torch: Callable[..., None], seed: int
) -> None:
    code = SPACE.sample(np.random.default_rng(seed))
    network, module = SPACE.build(code, weights="random", seed=seed), reference(code)
    compare_with_torch(network, module)
    assert read_onnx(network).params == sum(value.numel() for value in module.parameters())


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        # stem 442,368; stage 1 524,288 + 73,728 + 131,072 + 98,304; stage 2 294,912 + 27,648 + 73,728 + 61,440;
        # stage 3 204,800 + 11,520 + 61,440 + 61,440; classifier 800
        (SMALLEST, 2_067_488),
        (LARGEST, 19_241_248),
    ],
)
def test_counts_of_the_extremes(code: str, expected: int) -> None:
    assert macs(code) == expected
    assert read_onnx(SPACE.build(code)).macs == expected


def test_codes_lie_between_the_extremes_and_differ_in_cost() -> None:
    rng = np.random.default_rng(0)
    costs = [read_onnx(SPACE.build(SPACE.sample(rng))).macs for _ in range(40)]
    assert read_onnx(SPACE.build(SMALLEST)).macs <= min(costs)
    assert max(costs) <= read_onnx(SPACE.build(LARGEST)).macs
    assert max(costs) > 2 * min(costs)


@pytest.mark.parametrize("code", [EXAMPLE, SMALLEST, LARGEST])
def test_the_features_of_all_bodies_have_the_same_shapes(code: str) -> None:
    shapes = SPACE.output_shapes(code, "stages")
    assert list(shapes.values()) == [(1, 24, 16, 16), (1, 40, 8, 8), (1, 80, 4, 4)]
    graph = read_onnx(SPACE.build(code, "stages"))
    assert graph.macs == macs(code) - 800


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (EXAMPLE + "/80-k3e2", "expected 3 stages joined by '/', found 4"),
        (EXAMPLE.replace("/", ","), "expected 3 stages joined by '/', found 1"),
        (EXAMPLE.replace("40-", "48-"), 'the width of stage 2 is "48", must be one of 24, 32, 40'),
        (EXAMPLE.replace("40-", "040-"), 'the width of stage 2 is "040"'),
        (EXAMPLE.replace("/40-k3e4/", "/40/"), "stage 2 must have 1 to 4 blocks, found 0"),
        (EXAMPLE.replace("k3e4", "-".join(["k3e4"] * 5)), "stage 2 must have 1 to 4 blocks, found 5"),
        (
            EXAMPLE.replace("k7e3", "k7e5"),
            'stage 3 has a block "k7e5", must be kKeE with K 3/5/7 and E 2/3/4',
        ),
        (EXAMPLE.replace("k7e3", "k9e3"), 'stage 3 has a block "k9e3"'),
        (EXAMPLE.replace("k7e3", "k٧e3"), "stage 3 has a block"),
        (EXAMPLE.replace("k7e3", ""), 'stage 3 has a block ""'),
    ],
)
def test_refusals_name_the_defect(code: str, reason: str) -> None:
    with pytest.raises(AiopError, match=reason):
        SPACE.parse(code)


def test_neighbours_change_one_choice() -> None:
    found = SPACE.neighbours(EXAMPLE)
    # widths 1 + 2 + 2; 6 blocks with 2 other kernels and 2 other expansions; a block less in 2 stages, more in 3
    assert len(found) == 5 + 6 * 4 + 2 + 3
    assert "24-k3e2-k5e4-k3e2/40-k3e4/80-k5e4-k3e2-k7e3" in found
    assert "24-k3e2/40-k3e4/80-k5e4-k3e2-k7e3" in found
    assert "24-k3e2-k5e4/24-k3e4/80-k5e4-k3e2-k7e3" in found
    assert "24-k3e2-k5e4/40-k3e4/80-k5e4-k3e2-k7e2" in found
    assert all(EXAMPLE in SPACE.neighbours(code) for code in found if code.count("k") >= 6)


def test_every_choice_is_sampled_about_equally_often() -> None:
    rng = np.random.default_rng(0)
    bodies = [decoded(SPACE.sample(rng)) for _ in range(600)]
    for stage, widths in enumerate([(16, 24), (24, 32, 40), (48, 64, 80)]):
        for choices, values in [
            (widths, [body[stage][0] for body in bodies]),
            ((1, 2, 3, 4), [len(body[stage][1]) for body in bodies]),
            ((3, 5, 7), [kernel for body in bodies for kernel, _ in body[stage][1]]),
            ((2, 3, 4), [ratio for body in bodies for _, ratio in body[stage][1]]),
        ]:
            shares = [values.count(choice) / len(values) for choice in choices]
            assert sum(shares) == pytest.approx(1.0)
            assert max(abs(share * len(choices) - 1) for share in shares) < 0.3


def test_the_architecture_says_its_depth() -> None:
    assert [SPACE.parse(code).depth for code in (SMALLEST, EXAMPLE, LARGEST)] == [3, 6, 12]  # type: ignore[attr-defined]


def test_only_the_coarsest_features_are_rectified() -> None:
    network = SPACE.build(EXAMPLE, "stages", weights="random")
    session = onnxruntime.InferenceSession(network.SerializeToString())
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 64), dtype=np.float32)
    lowest = [float(value.min()) for value in session.run(None, {"image": image})]
    assert lowest[0] < 0
    assert lowest[1] < 0
    assert lowest[2] == 0
