"""DARTS against published counts, and against torch modules written from the papers' description."""

from __future__ import annotations

import time

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx
from aiop.tasks import get_space
from aiop.tasks.spaces.darts import DARTS_V1, DARTS_V2, RELATIVE_NAS, Cell, Genotype

SPACE = get_space("darts")
SKIP_CELL = "+".join(["|skip_connect~0|skip_connect~1|"] * 4)

# Parameters without and with the auxiliary head, MACs without it: CIFAR-10, ImageNet, ImageNet with 46 channels.
WORKED = {
    DARTS_V1: [
        (3_169_414, 3_645_840, 500_987_520),
        (4_510_432, 5_771_208, 505_864_704),
        (4_179_341, 5_436_021, 465_889_472),
    ],
    DARTS_V2: [
        (3_349_342, 3_825_768, 528_359_040),
        (4_718_752, 5_979_528, 529_911_552),
        (4_371_253, 5_627_933, 488_068_832),
    ],
    RELATIVE_NAS: [
        (3_928_222, 4_404_648, 616_832_640),
        (5_452_768, 6_713_544, 610_632_192),
        (5_050_029, 6_306_709, 562_973_760),
    ],
}

V1_LITERAL = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1), "
    "('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], "
    "normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 0), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], "
    "reduce_concat=[2, 3, 4, 5])"
)


@pytest.mark.parametrize("code", WORKED)
def test_worked_examples(code: str) -> None:
    for form, (params, trained, macs) in zip(
        ("cifar10", "imagenet", "imagenet-46"), WORKED[code], strict=True
    ):
        graph = read_onnx(SPACE.build(code, form))
        assert (graph.params, graph.macs) == (params, macs)
        if form != "imagenet-46":
            assert read_onnx(SPACE.build(code, form + "-aux")).params == trained


def test_cifar100_and_search_networks_of_darts_v2() -> None:
    # 90 more classes on 16 * 36 channels; the search network is narrower and shallower, 10 classes.
    assert read_onnx(SPACE.build(DARTS_V2, "cifar100")).params == 3_349_342 + 90 * (16 * 36 + 1)
    kinds = [node.op_type for node in SPACE.build(DARTS_V2, "search").graph.node]
    # Normal cells: 2 inputs, 5 sep_conv of 4 convolutions and a dil_conv of 2; one stem.
    # Reductions: 2 inputs. The cell after a reduction has one convolution more (FactorizedReduce).
    assert kinds.count("Conv") == 1 + 6 * (2 + 5 * 4 + 2) + 2 * 2 + 2
    assert kinds.count("MaxPool") == 2 * 5


# ---- the reference: DARTS as torch modules ---------------------------------------------------------------------------


def relu_conv_norm(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


def separable(channels: int, kernel: int, stride: int, dilation: int) -> list[nn.Module]:
    padding = dilation * (kernel - 1) // 2
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    ]


class FactorizedReduce(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))


def operation(name: str, channels: int, stride: int) -> nn.Module:
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, 1)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    kernel = int(name[-1])
    if name.startswith("dil_conv"):
        return nn.Sequential(*separable(channels, kernel, stride, 2))
    return nn.Sequential(*separable(channels, kernel, stride, 1), *separable(channels, kernel, 1, 1))


class TorchCell(nn.Module):
    def __init__(
        self, cell: Cell, sizes: tuple[int, int], channels: int, halved: bool, reduces: bool
    ) -> None:
        super().__init__()
        self.cell = cell
        before, previous = sizes
        self.input0 = FactorizedReduce(before, channels) if halved else relu_conv_norm(before, channels)
        self.input1 = relu_conv_norm(previous, channels)
        self.edges = nn.ModuleList(
            operation(name, channels, 2 if reduces and source < 2 else 1) for name, source in cell.edges
        )

    def forward(self, before: Tensor, previous: Tensor) -> Tensor:
        states = [self.input0(before), self.input1(previous)]
        for i in range(0, 8, 2):
            left, right = self.cell.edges[i].source, self.cell.edges[i + 1].source
            states.append(self.edges[i](states[left]) + self.edges[i + 1](states[right]))
        return torch.cat([states[node] for node in self.cell.concat], dim=1)


class TorchNetwork(nn.Module):
    """Modules in the order in which the file stores their weights."""

    def __init__(
        self, genotype: Genotype, channels: int, cells: int, classes: int, imagenet: bool, aux: bool
    ):
        super().__init__()
        half = channels // 2

        def norm(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)]

        if imagenet:
            self.stem0 = nn.Sequential(*norm(3, half, 2), nn.ReLU(), *norm(half, channels, 2))
            self.stem1 = nn.Sequential(nn.ReLU(), *norm(channels, channels, 2))
        else:
            self.stem0, self.stem1 = nn.Sequential(*norm(3, 3 * channels, 1)), nn.Identity()
        sizes = (channels, channels) if imagenet else (3 * channels, 3 * channels)
        self.last_reduction = 2 * cells // 3
        self.cells = nn.ModuleList()
        halved = imagenet
        for index in range(cells):
            reduces = index in (cells // 3, 2 * cells // 3)
            channels *= 1 + reduces
            cell = genotype.reduction if reduces else genotype.normal
            self.cells.append(TorchCell(cell, sizes, channels, halved, reduces))
            sizes, halved = (sizes[1], channels * len(cell.concat)), reduces
            if index == self.last_reduction:
                trained = sizes[1]
        self.classifier = nn.Linear(sizes[1], classes)
        norm_or_not: list[nn.Module] = [] if imagenet else [nn.BatchNorm2d(768)]
        self.auxiliary = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(5, 2 if imagenet else 3, count_include_pad=False),
            nn.Conv2d(trained, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            *norm_or_not,
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(768, classes),
        )
        if not aux:
            del self.auxiliary

    def forward(self, image: Tensor) -> list[Tensor]:
        before = self.stem0(image)
        previous = self.stem1(before)
        for index, cell in enumerate(self.cells):
            before, previous = previous, cell(before, previous)
            if index == self.last_reduction:
                trained = previous
        outputs = [self.classifier(previous.mean((2, 3)))]
        return [*outputs, self.auxiliary(trained)] if hasattr(self, "auxiliary") else outputs


def with_random_norms(network: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Replace the ones and zeros of norms and biases by random numbers; all stored float tensors by name."""
    rng = np.random.default_rng(3)
    for weight in network.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT and len(weight.dims) == 1:
            values = rng.uniform(0.5, 1.5, weight.dims[0]) - weight.name.endswith(("shift", "mean", "bias"))
            weight.raw_data = values.astype("<f4").tobytes()
    stored = {weight.name: onnx.numpy_helper.to_array(weight) for weight in network.graph.initializer}
    return {name: values for name, values in stored.items() if not name.startswith("shape.")}


def load(module: nn.Module, weights: dict[str, np.ndarray]) -> None:
    """Copy weights in the order of the file; running statistics are shared by all norms of one size."""
    trained = [values for name, values in weights.items() if not name.startswith("running_")]
    for parameter, values in zip(module.parameters(), trained, strict=True):
        assert parameter.shape == values.shape
        parameter.data = torch.from_numpy(values.copy())
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean = torch.from_numpy(weights[f"running_mean.{norm.num_features}"].copy())
            norm.running_var = torch.from_numpy(weights[f"running_variance.{norm.num_features}"].copy())


def random_code(seed: int, suffixes: tuple[str, str] = ("", "")) -> str:
    cells = SPACE.sample(np.random.default_rng(seed)).split("/")
    return "/".join(cell + suffix for cell, suffix in zip(cells, suffixes, strict=True))


@pytest.mark.parametrize(
    ("code", "form", "arguments"),
    [
        *[(random_code(seed), "search", (16, 8, 10, False, False)) for seed in range(4)],
        (random_code(4, (":3,5", ":4")), "search", (16, 8, 10, False, False)),
        (random_code(5, (":2", ":2,3,5")), "cifar10-aux", (36, 20, 10, False, True)),
        (random_code(6), "imagenet-aux", (48, 14, 1000, True, True)),
        (RELATIVE_NAS, "imagenet-46", (46, 14, 1000, True, False)),
    ],
)
def test_outputs_are_those_of_the_torch_modules(code: str, form: str, arguments: tuple) -> None:
    network = SPACE.build(code, form, weights="random", seed=7)
    module = TorchNetwork(SPACE.parse(code), *arguments).eval()
    load(module, with_random_norms(network))
    image = np.random.default_rng(0).standard_normal(SPACE.input_shape(code, form), dtype=np.float32)
    found = onnxruntime.InferenceSession(network.SerializeToString()).run(None, {"image": image})
    with torch.no_grad():
        expected = module(torch.from_numpy(image))
    assert len(found) == len(expected) == (2 if form.endswith("-aux") else 1)
    for ours, theirs in zip(found, expected, strict=True):
        scale = theirs.abs().max().item()
        assert 0 < scale < np.inf
        np.testing.assert_allclose(ours / scale, theirs.numpy() / scale, atol=1e-4)
    assert read_onnx(network).params == sum(parameter.numel() for parameter in module.parameters())


# ---- codes -----------------------------------------------------------------------------------------------------------


def test_names_of_published_genotypes() -> None:
    for name, code in (("darts-v1", DARTS_V1), ("darts-v2", DARTS_V2), ("relative-nas", RELATIVE_NAS)):
        assert SPACE.validate(name) == SPACE.validate(code) == code
        assert read_onnx(SPACE.build(name)).params == WORKED[code][0][0]


def test_the_published_literal_is_read() -> None:
    spaced = V1_LITERAL.replace(", ", ",\n    ").replace("'", '"')
    ranged = V1_LITERAL.replace("[2, 3, 4, 5]", "range(2, 6)")
    for literal in (V1_LITERAL, V1_LITERAL.replace(" ", ""), spaced, ranged):
        assert SPACE.validate(literal) == DARTS_V1
    some = SPACE.validate(V1_LITERAL.replace("normal_concat=[2, 3, 4, 5]", "normal_concat=[4, 5]"))
    assert some == DARTS_V1.replace("/", ":4,5/")
    assert SPACE.validate(some) == some


def test_neighbours_change_one_operation_or_one_source() -> None:
    found = SPACE.neighbours(DARTS_V2)
    # Eight operations by six others, and sources of nodes 2..5 by 1, 2, 3, 4 others twice, in two cells.
    assert len(found) == 2 * (8 * 6 + 2 * (1 + 2 + 3 + 4))
    own = SPACE.parse(DARTS_V2)
    for code in found:
        other = SPACE.parse(code)
        pairs = [
            (ours, theirs)
            for mine, its in ((own.normal, other.normal), (own.reduction, other.reduction))
            for ours, theirs in zip(mine.edges, its.edges, strict=True)
            if ours != theirs
        ]
        assert len(pairs) == 1
        assert sum(ours != theirs for ours, theirs in zip(*pairs[0], strict=True)) == 1


def test_neighbours_of_equal_inputs_and_of_dead_nodes() -> None:
    # RelativeNAS adds a separable convolution of source 1 to itself: changing one or the other is the same.
    assert len(SPACE.neighbours(RELATIVE_NAS)) == 2 * (8 * 6 + 20) - (6 + 2)
    # Of this normal cell node 3 alone is concatenated, and it reads the inputs only: 12 operations, 2 * 2 sources.
    code = f"{SKIP_CELL.replace('skip_connect~1', 'dil_conv_3x3~1')}:3/{SKIP_CELL}"
    normal = [text for text in SPACE.neighbours(code) if text.endswith("/" + SKIP_CELL)]
    assert len(normal) == 12 + 4
    assert all(text.split("+")[0] == code.split("+")[0] for text in normal)


def test_dead_nodes_are_written() -> None:
    code = f"{SKIP_CELL.replace('skip_connect~1', 'dil_conv_3x3~1')}:3/{SKIP_CELL}"
    kinds = [node.name for node in SPACE.build(code, "search").graph.node if node.op_type == "Conv"]
    assert {f"cell0.node{node}.1.depthwise" for node in (2, 3, 4, 5)} <= set(kinds)


def test_samples_have_distinct_sources_and_all_operations() -> None:
    rng = np.random.default_rng(9)
    counts: dict[str, int] = {}
    for _ in range(500):
        genotype = SPACE.parse(SPACE.sample(rng))
        for cell in (genotype.normal, genotype.reduction):
            for i in range(0, 8, 2):
                assert cell.edges[i].source != cell.edges[i + 1].source
            for edge in cell.edges:
                counts[edge.operation] = counts.get(edge.operation, 0) + 1
    # 8,000 draws of seven operations: 1,143 each, standard deviation 31.
    assert len(counts) == 7
    assert all(abs(count - 8000 / 7) < 160 for count in counts.values())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (SKIP_CELL, "expected two cells joined by '/', found 1, and none of the names darts-v1"),
        (f"{SKIP_CELL}/{SKIP_CELL}/{SKIP_CELL}", "expected two cells joined by '/', found 3"),
        (
            f"{SKIP_CELL}/{SKIP_CELL}+|skip_connect~0|skip_connect~1|",
            "4 nodes .* in the reduction cell, found 5",
        ),
        (f"{SKIP_CELL}/{SKIP_CELL[1:]}", "node 2 of the reduction cell must read"),
        (f"{SKIP_CELL[:-1]}/{SKIP_CELL}", "node 5 of the normal cell must read"),
        (f"{SKIP_CELL}max_pool_3x3~1|/{SKIP_CELL}", "node 5 of the normal cell must read"),
        (
            f"{SKIP_CELL}/{SKIP_CELL}".replace("skip_connect~0", "none~0", 1),
            '"none" .node 2 of the normal cell',
        ),
        (f"{SKIP_CELL}/{SKIP_CELL}".replace("skip", "sklp", 1), 'did you mean "skip_connect"'),
        (f"{SKIP_CELL}/{SKIP_CELL}".replace("~1", "~2", 1), 'source "2" of node 2 .* must be 0 to 1'),
        (f"{SKIP_CELL}/{SKIP_CELL}".replace("~1", "~01", 1), 'source "01" of node 2'),
        (f"{SKIP_CELL}/{SKIP_CELL}".replace("~1", "~-1", 1), 'source "-1" of node 2'),
        (
            f"{SKIP_CELL}/{SKIP_CELL}".replace("~1", "~\N{ARABIC-INDIC DIGIT ONE}", 1),
            "of node 2 of the normal",
        ),
        (f"{SKIP_CELL}/{SKIP_CELL}".replace("~1", "~", 1), 'source "" of node 2'),
        (f"{SKIP_CELL}:2,3,4,5/{SKIP_CELL}", "leave it out"),
        (f"{SKIP_CELL}:3,2/{SKIP_CELL}", r'in ascending order, found "3,2"'),
        (f"{SKIP_CELL}:3,3/{SKIP_CELL}", r'in ascending order, found "3,3"'),
        (f"{SKIP_CELL}/{SKIP_CELL}:1,2", "the reduction cell concatenates must be some of 2,3,4,5"),
        (f"{SKIP_CELL}/{SKIP_CELL}:", 'ascending order, found ""'),
        (f"{SKIP_CELL}/{SKIP_CELL}:2, 3", 'ascending order, found "2, 3"'),
        (V1_LITERAL.replace("normal_concat", "concat"), "a literal must read Genotype"),
        (V1_LITERAL.replace("[2, 3, 4, 5]", "__import__('os')"), "normal cell concatenates must be some of"),
        (V1_LITERAL.replace("[2, 3, 4, 5]", "range(2, 7)"), 'found "2,3,4,5,6"'),
        (V1_LITERAL.replace("[2, 3, 4, 5]", "[]"), 'found ""'),
        (
            V1_LITERAL.replace("('sep_conv_3x3', 1), ", "", 1),
            "the normal cell must have 8 operations, found 7",
        ),
        (V1_LITERAL.replace("('sep_conv_3x3', 1)", "exit()", 1), "the normal cell must list pairs"),
        (
            V1_LITERAL.replace("'sep_conv_3x3'", "'sep_conv_9x9'", 1),
            '"sep_conv_9x9" .node 2 of the normal cell',
        ),
        (V1_LITERAL.replace("_concat=[", "_concat=" + "[" * 3000), "has at most 2000 characters"),
        ("darts-v3", "none of the names darts-v1, darts-v2, relative-nas"),
    ],
)
def test_refusals_name_the_defect(code: str, reason: str) -> None:
    with pytest.raises(AiopError, match=reason) as refusal:
        SPACE.parse(code)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "text", ["|", "+", "/", "~", "|+", "Genotype(", " ", ",", "],normal_concat=", "(['1,"]
)
def test_long_texts_are_refused_quickly(text: str) -> None:
    start = time.process_time()
    for code in (text * 5000, "Genotype(normal=[" + (text * 2000)[:1900], f"{SKIP_CELL}/{text * 5000}"):
        with pytest.raises(AiopError):
            SPACE.parse(code)
    assert time.process_time() - start < 1
