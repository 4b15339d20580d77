"""NAS-Bench-201 against published counts and a closed form."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx
from aiop.tasks import get_space

SPACE = get_space("nas-bench-201")


def uniform(operation: str) -> str:
    return f"|{operation}~0|+|{operation}~0|{operation}~1|+|{operation}~0|{operation}~1|{operation}~2|"


# (parameters, MACs) of the 10-class and 100-class networks at 32 x 32 and the 120-class one at 16 x 16,
# counted on the reference implementation's modules.
WORKED = [
    (
        uniform("nor_conv_3x3"),
        [(1_531_546, 220_119_680), (1_537_396, 220_125_440), (1_538_696, 55_037_440)],
    ),
    (
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
        [(129_306, 15_647_360), (135_156, 15_653_120), (136_456, 3_919_360)],
    ),
    (uniform("none"), [(73_306, 7_783_040), (79_156, 7_788_800), (80_456, 1_953_280)]),
]


@pytest.mark.parametrize(("code", "counts"), WORKED)
def test_worked_examples(code: str, counts: list[tuple[int, int]]) -> None:
    for form, (params, macs) in zip(("cifar10", "cifar100", "imagenet16-120"), counts, strict=True):
        graph = read_onnx(SPACE.build(code, form))
        assert (graph.params, graph.macs) == (params, macs)


def test_closed_form_on_300_random_cells() -> None:
    rng = np.random.default_rng(201)
    for _ in range(300):
        code = SPACE.sample(rng)
        large, small = code.count("nor_conv_3x3"), code.count("nor_conv_1x1")
        graph = read_onnx(SPACE.build(code))
        assert graph.macs == 7_788_800 + 35_389_440 * large + 3_932_160 * small
        assert graph.params == 79_156 + 243_040 * large + 28_000 * small


def test_dead_convolutions_stay_in_the_file() -> None:
    # Node 1 feeds nothing but `none` edges, yet its convolution belongs to the network.
    network = SPACE.build("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    kinds = [node.op_type for node in network.graph.node]
    assert kinds.count("Conv") == 15 + 7  # 15 cells; stem and two residual blocks of three convolutions
    assert kinds.count("Mul") == 15 * 4


def cell_outputs(codes: list[str]) -> list[np.ndarray]:
    """Logits of random networks that share their stem, reductions and head (one seed, no cell weights)."""
    image = np.random.default_rng(0).standard_normal((1, 3, 32, 32), dtype=np.float32)
    outputs = []
    for code in codes:
        network = SPACE.build(code, weights="random", seed=1).SerializeToString()
        outputs.append(onnxruntime.InferenceSession(network).run(None, {"image": image})[0])
    return outputs


def test_sums_and_zeros_of_a_cell() -> None:
    # Both cells are 2x: as 0->1->3 plus 0->3, and as 0->2->3 plus 0->3; the third is 1x and must differ.
    first, second, third = cell_outputs(
        [
            "|skip_connect~0|+|none~0|none~1|+|skip_connect~0|skip_connect~1|none~2|",
            "|none~0|+|skip_connect~0|none~1|+|skip_connect~0|none~1|skip_connect~2|",
            "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
        ]
    )
    np.testing.assert_allclose(first, second, rtol=1e-5)
    assert not np.allclose(first, third, rtol=1e-2)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (uniform("none") + "+|none~0|", "expected 3 groups"),
        ("none~0|+|none~0|none~1|+|none~0|none~1|none~2|", "group 1 must start and end"),
        ("|none~0|+|none~0|+|none~0|none~1|none~2|", "group 2 must have 2 operations, found 1"),
        (
            uniform("nor_conv_5x5"),
            'operation "nor_conv_5x5"|"nor_conv_5x5" is not an operation .did you mean',
        ),
        ("|none~1|+|none~0|none~1|+|none~0|none~1|none~2|", '"none~1" must read "none~0"'),
        ("|none|+|none~0|none~1|+|none~0|none~1|none~2|", '"none" must read "none~0"'),
    ],
)
def test_refusals_name_the_defect(code: str, reason: str) -> None:
    with pytest.raises(AiopError, match=reason):
        SPACE.parse(code)
