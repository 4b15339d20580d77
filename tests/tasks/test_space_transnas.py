"""TransNAS-Bench-101 against published counts, the cost columns of its table and torch modules."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph, read_onnx
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.tasks import get_space

MICRO, MACRO = get_space("transnas-micro"), get_space("transnas-macro")
FORMS = ("class_scene", "class_object", "room_layout", "jigsaw", "autoencoder")


def build(code: str, form: str, weights: str = "shapes", **changes: object) -> onnx.ModelProto:
    """The network of a code in a form of which some fields are changed, such as the classes."""
    space = MACRO if code.endswith("basic") else MICRO
    return space._write(space.parse(code), code, replace(space.form(form), **changes), weights, 0)


# ---- counts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "form", "params", "macs"),
    [
        ("64-41414-1_02_333", "class_scene", 22_544_719, 4_585_971_200),
        ("64-41414-1_02_333", "class_object", 22_559_083, 4_585_985_536),
        ("64-41414-1_02_333", "room_layout", 22_525_225, 4_585_951_744),
        ("64-41414-1_02_333", "jigsaw", 27_129_608, 2_584_203_264),
        ("64-41414-1_02_333", "autoencoder", 45_392_467, 6_199_705_600 + 207_618_048),
        ("64-41414-1_02_333", "normal", 45_392_467, 6_199_705_600 + 207_618_048),
        ("64-41414-1_02_333", "segmentsemantic", 33_544_785, 5_510_791_168 + 452_984_832),
        ("64-111114-basic", "class_scene", 1_290_959, 3_646_429_056),
        ("64-111114-basic", "jigsaw", 2_437_896, 2_052_264_960),
        ("64-111114-basic", "autoencoder", 20_617_811, 23_643_815_936),
        ("64-111114-basic", "segmentsemantic", 8_770_129, 11_819_024_384),
        ("64-1342-basic", "class_object", 2_964_203, 1_519_930_112),
        ("64-1342-basic", "autoencoder", 23_457_491, 7_040_663_552),
        ("64-1342-basic", "segmentsemantic", 11_609_809, 4_332_191_744),
    ],
)
def test_worked_examples(code: str, form: str, params: int, macs: int) -> None:
    graph = read_onnx(build(code, form))
    assert (graph.params, graph.macs) == (params, macs)


def table_macs(graph: ComputeGraph) -> int:
    """The count of the table's columns: nothing for transposed convolutions, the encoder of one jigsaw tile."""
    total = 0
    for operation in graph.operations:
        written = operation.output_elements
        count = 0
        if operation.op in ("Conv", "Linear"):
            count = operation.macs + (written if operation.op == "Conv" and operation.bias else 0)
        elif operation.op in ("BatchNorm", "Relu", "LeakyRelu"):
            count = 2 * written if operation.op == "BatchNorm" else written
        elif operation.op == "GlobalAvgPool":
            _, channels, height, width = graph.tensors[operation.inputs[0]].shape
            count = channels * (height + 1) * (width + 1)
        total += count // graph.tensors[operation.outputs[0]].shape[0]
    return total


@pytest.mark.parametrize("space", ["micro", "macro"])
def test_cost_columns_on_40_random_rows(data_dir: Path, space: str) -> None:
    import pyarrow.parquet as pq

    rows = pq.read_table(data_dir / "transnas_bench_101.parquet").to_pylist()
    rows = [row for row in rows if row["space"] == space and row["jigsaw_macs_M"] is not None]
    for index in np.random.default_rng(2).choice(len(rows), 40, replace=False).tolist():
        row = rows[index]
        for form in FORMS:
            if row[f"{form}_macs_M"] is None:
                continue
            # The columns were counted with other classes than the networks were trained with.
            classes = {"class_scene": 63, "class_object": 100}.get(form, MICRO.form(form).classes)
            graph = read_onnx(build(row["arch"], form, classes=classes))
            assert graph.params == round(row[f"{form}_params_M"] * 1e6)
            assert table_macs(graph) == round(row[f"{form}_macs_M"] * 1e6)


# ---- function ----------------------------------------------------------------------------------------------


def rcb(i: int, o: int, kernel: int, stride: int = 1) -> nn.Module:
    conv = nn.Conv2d(i, o, kernel, stride, (kernel - 1) // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(o))


class FactorizedReduce(nn.Module):
    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(i, o // 2, 1, 2, 0, bias=False) for _ in range(2))
        self.norm = nn.BatchNorm2d(o)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(x)
        shifted = nn.functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        return self.norm(torch.cat([self.convs[0](x), self.convs[1](shifted)], dim=1))


class Zero(nn.Module):
    def __init__(self, o: int, stride: int) -> None:
        super().__init__()
        self.o, self.stride = o, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = ((side + 1) // 2 if self.stride == 2 else side for side in x.shape[2:])
        return torch.zeros(x.shape[0], self.o, height, width)


def operation(digit: str, i: int, o: int, stride: int) -> nn.Module:
    if digit == "0":
        return Zero(o, stride)
    if digit == "1":
        return FactorizedReduce(i, o) if stride == 2 else nn.Identity()
    return rcb(i, o, {"2": 1, "3": 3}[digit], stride)


class Cell(nn.Module):
    def __init__(self, cell: str, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.nodes = nn.ModuleList(
            nn.ModuleList(
                operation(digit, o if source else i, o, 1 if source else stride)
                for source, digit in enumerate(digits)
            )
            for digits in cell.split("_")
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = [x]
        for edges in self.nodes:
            values.append(sum(edge(value) for edge, value in zip(edges, values, strict=True)))
        return values[-1]


class Basic(nn.Module):
    def __init__(self, cell: str, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(rcb(i, o, 3, stride), rcb(o, o, 3))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or i != o:
            self.shortcut = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o, eps=1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shortcut(x) + self.body(x)


def decoder_layer(i: int, o: int, up: bool = False) -> nn.Module:
    conv = nn.ConvTranspose2d(i, o, 3, 2, 1, output_padding=1) if up else nn.Conv2d(i, o, 3, 1, 1)
    return nn.Sequential(conv, nn.BatchNorm2d(o), nn.LeakyReLU(0.2))


def generator(c: int, u: int) -> list[nn.Module]:
    return [
        decoder_layer(c, 1024),
        decoder_layer(1024, 1024),
        decoder_layer(1024, 512, u == 6),
        decoder_layer(512, 512),
        decoder_layer(512, 256, u >= 5),
        decoder_layer(256, 128),
        decoder_layer(128, 64, u >= 4),
        decoder_layer(64, 64),
        decoder_layer(64, 32, u >= 3),
        decoder_layer(32, 32),
        decoder_layer(32, 16, True),
        decoder_layer(16, 32),
        decoder_layer(32, 16, True),
        nn.Conv2d(16, 3, 3, 1, 1),
        nn.Tanh(),
    ]


def segmentation_decoder(c: int, u: int) -> list[nn.Module]:
    layers, k = [decoder_layer(c, 1024)], 1024
    for up in [False] * (6 - u) + [True] * (u - 1):
        layers.append(decoder_layer(k, k // 2, up))
        k //= 2
    return [*layers, decoder_layer(k, k, True), nn.Conv2d(k, 17, 3, 1, 1)]


def reference(code: str, form: str) -> nn.Module:
    base, skeleton, cell = code.split("-")
    c, nominal = int(base), 56
    layers: list[nn.Module] = [nn.Conv2d(3, c // 2, 3, 2, 1, bias=False), nn.BatchNorm2d(c // 2)]
    layers.append(rcb(c // 2, c, 3, 2))
    block = Basic if cell == "basic" else Cell
    for digit in skeleton:
        o, stride = c * (2 if digit in "24" else 1), 2 if digit in "34" else 1
        layers += [block(cell, c, o, stride), block(cell, o, o, 1)]
        c, nominal = o, nominal // stride
    u = math.floor(math.log2(256 / nominal))  # the reference sizes decoders as if images had 224 pixels
    if form in ("autoencoder", "normal"):
        layers += generator(c, u)
    elif form == "segmentsemantic":
        layers += segmentation_decoder(c, u)
    elif form == "jigsaw":

        class Tiles(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return torch.cat([tile[None] for tile in x], dim=1)

        layers += [Tiles(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(9 * c, 1000)]
    else:
        classes = {"class_scene": 47, "class_object": 75, "room_layout": 9}[form]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, classes)]
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("code", "form", "side"),
    [
        # every operation in a cell that keeps and in one that halves the size
        ("64-41414-1_02_231", "class_scene", 64),
        ("64-41414-0_13_121", "class_scene", 64),
        ("64-41414-3_10_012", "class_object", 64),
        ("64-41414-2_01_100", "room_layout", 64),
        ("64-41414-1_10_201", "jigsaw", 64),
        ("64-1423-basic", "jigsaw", 64),
        ("64-21143-basic", "class_scene", 128),
        # one to four modules that halve the resolution
        ("64-1342-basic", "autoencoder", 32),
        ("64-3343-basic", "normal", 64),
        ("64-1132-basic", "segmentsemantic", 32),
        ("64-41414-2_20_102", "segmentsemantic", 32),
    ],
)
def test_networks_compute_what_the_reference_computes(
    code: str, form: str, side: int, compare_with_torch
) -> None:
    network = build(code, form, "random", shape=(3, side, side))
    for weight in network.graph.initializer:
        if weight.name == "decoder.last.weight":  # small enough for tanh to pass on what it reads
            weight.raw_data = (onnx.numpy_helper.to_array(weight) / 50).tobytes()
    compare_with_torch(network, reference(code, form))


def test_a_cell_without_an_output_gives_the_same_for_every_image() -> None:
    rng = np.random.default_rng(0)
    session = onnxruntime.InferenceSession(
        build("64-41414-1_32_000", "class_scene", "random", shape=(3, 64, 64)).SerializeToString()
    )
    images = rng.standard_normal((2, 1, 3, 64, 64), dtype=np.float32)
    first, second = (session.run(None, {"image": image})[0] for image in images)
    np.testing.assert_array_equal(first, second)


def test_decoders_end_at_the_size_of_the_image() -> None:
    for halving in range(1, 5):
        code = f"64-{'3' * halving}{'1' * (4 - halving)}2-basic"
        for form, output, channels in (("normal", "picture", 3), ("segmentsemantic", "logits", 17)):
            graph = read_onnx(MACRO.build(code, form))
            assert {key: graph.tensors[key].shape for key in graph.outputs} == {
                output: (1, channels, 256, 256)
            }


# ---- cells that are one function ---------------------------------------------------------------------------


def hash_of(cell: str) -> str:
    return content_hash(canonicalise(read_onnx(MICRO.build("64-41414-" + cell))))


@pytest.mark.parametrize(
    ("same", "other"),
    [
        # an unread convolution; a skip between inner nodes; the two inner nodes swapped
        (("0_00_300", "3_00_300", "0_23_300", "3_00_010"), "0_00_200"),
        (("2_01_001", "2_00_010", "0_20_001", "0_00_200"), "1_00_020"),
        (("3_20_023", "2_30_032"), "3_20_032"),
        # one convolution counted twice is not the sum of two
        (("3_01_011",), "3_30_011"),
        # a skip from the input halves the resolution in some cells: no path of two is one
        (("1_01_001", "1_00_010"), "1_02_001"),
    ],
)
def test_canonical_hash_of_cells(same: tuple[str, ...], other: str) -> None:
    hashes = {hash_of(cell) for cell in same}
    assert len(hashes) == 1
    assert hash_of(other) not in hashes


# ---- grammar -----------------------------------------------------------------------------------------------


def skeletons() -> list[str]:
    found = []
    for depth in (4, 5, 6):
        for digits in product("1234", repeat=depth):
            count = Counter(digits)
            if 1 <= count["3"] + count["4"] <= 4 and 1 <= count["2"] + count["4"] <= 3:
                found.append("".join(digits))
    return found


def test_the_grammars_are_those_of_the_table(data_dir: Path) -> None:
    import pyarrow.parquet as pq

    rows = pq.read_table(data_dir / "transnas_bench_101.parquet", columns=["space", "arch"]).to_pylist()
    codes = {space: {row["arch"] for row in rows if row["space"] == space} for space in ("micro", "macro")}
    assert codes["macro"] == {f"64-{skeleton}-basic" for skeleton in skeletons()}
    for code in codes["macro"]:
        assert MACRO.validate(code) == code
    assert len(codes["micro"]) == 4**6
    for code in codes["micro"]:
        assert MICRO.validate(code) == code


@pytest.mark.parametrize("code", ["64-1342-basic", "64-44411-basic", "64-333411-basic"])
def test_macro_neighbours_are_all_skeletons_one_edit_away(code: str) -> None:
    def one_edit(a: str, b: str) -> bool:
        if len(a) == len(b):
            return sum(x != y for x, y in zip(a, b, strict=True)) == 1
        short, long = sorted((a, b), key=len)
        return len(long) == len(short) + 1 and any(
            long[:i] + long[i + 1 :] == short for i in range(len(long))
        )

    own = code.split("-")[1]
    expected = {f"64-{other}-basic" for other in skeletons() if one_edit(own, other)}
    assert set(MACRO.neighbours(code)) == expected


def test_micro_neighbours_change_one_of_six_digits() -> None:
    found = MICRO.neighbours("64-41414-1_02_333")
    assert len(found) == 18
    assert all(sum(a != b for a, b in zip("64-41414-1_02_333", code, strict=True)) == 1 for code in found)


def test_macro_samples_are_uniform_over_skeletons() -> None:
    rng = np.random.default_rng(0)
    depths = Counter(len(MACRO.sample(rng)) - len("64--basic") for _ in range(4000))
    expected = {depth: sum(len(text) == depth for text in skeletons()) / 3256 for depth in (4, 5, 6)}
    for depth, share in expected.items():
        assert depths[depth] / 4000 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("64-41414", "expected 3 parts joined by '-', found 2"),
        ("64-41414-1_02_333-", "expected 3 parts joined by '-', found 4"),
        ("32-41414-1_02_333", 'the stem is "32", must be "64"'),
        ("064-41414-1_02_333", 'the stem is "064"'),
        ("64-41413-1_02_333", 'the skeleton is "41413", must be "41414"'),
        ("64-41414-basic", "must have 3 groups joined by '_', found 1"),
        ("64-41414-1_02_33", "group 3 of the cell must have 3 digits, found 2"),
        ("64-41414-12_0_333", "group 1 of the cell must have 1 digits, found 2"),
        ("64-41414-1_04_333", '"4" in group 2 is no digit from 0 to 3'),
        ("64-41414-1_0२_333", '"२" in group 2 is no digit'),
        ("64-41414-1_02_3 3", '" " in group 3 is no digit'),
        ("64-" + "4" * 5000 + "-1_02_333", f'the skeleton is "{"4" * 20}", must be'),
    ],
)
def test_micro_refusals_name_the_defect(code: str, reason: str) -> None:
    with pytest.raises(AiopError, match=reason):
        MICRO.parse(code)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("64-1342", "expected 3 parts joined by '-', found 2"),
        ("64-1342-1_02_333", 'the block is "1_02_333", must be "basic"'),
        ("64-134-basic", "must have 4 to 6 digits, found 3"),
        ("64-1341342-basic", "must have 4 to 6 digits, found 7"),
        ("64-1350-basic", '"5" in the skeleton is no digit from 1 to 4'),
        ("64-13²2-basic", '"²" in the skeleton is no digit'),
        ("64-1122-basic", r"0 modules \(3 or 4\) halve the resolution, must be 1 to 4"),
        ("64-333342-basic", r"5 modules \(3 or 4\) halve"),
        ("64-1133-basic", r"0 modules \(2 or 4\) double the channels, must be 1 to 3"),
        ("64-2224-basic", r"4 modules \(2 or 4\) double"),
    ],
)
def test_macro_refusals_name_the_defect(code: str, reason: str) -> None:
    with pytest.raises(AiopError, match=reason):
        MACRO.parse(code)
