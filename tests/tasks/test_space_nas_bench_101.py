"""NAS-Bench-101 against published counts, a plain torch version of the paper's cell, and closed forms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import permutations, product

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn import functional

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.tasks.spaces.nas_bench_101 import Cell, NasBench101, parameters, vertex_channels

SPACE = NasBench101()


def samples(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [SPACE.sample(rng) for _ in range(count)]


# Parameters and MACs of the 10-class network, counted on the modules of a PyTorch port of the benchmark's code.
@pytest.mark.parametrize(
    ("code", "params", "macs"),
    [
        ("110010010000010101101/00201", 8_555_530, 1_261_835_264),
        ("111011/00", 6_406_538, 951_456_768),
        ("1/", 882_570, 137_761_792),
        ("100000100011100010011/10022", 2_479_416, 365_763_712),
        ("111000100000101001101/01022", 3_079_371, 459_734_848),
    ],
)
def test_worked_examples(code: str, params: int, macs: int) -> None:
    graph = read_onnx(SPACE.build(code))
    assert (graph.params, graph.macs) == (params, macs)
    wide = read_onnx(SPACE.build(code, "cifar100"))
    assert (wide.params - params, wide.macs - macs) == (513 * 90, 512 * 90)


@pytest.mark.parametrize(
    ("code", "channels", "expected"),
    [
        ("110010010000010101101/00201", 128, [64, 64, 64, 64, 64, 128]),
        ("100000100011100010011/10022", 128, [43, 43, 42, 43, 42, 128]),
        ("100000100011100010011/10022", 256, [86, 85, 85, 85, 85, 256]),
    ],
)
def test_channels_of_vertices(code: str, channels: int, expected: list[int]) -> None:
    assert vertex_channels(SPACE.parse(code).sources, channels)[1:] == expected


def test_closed_form_counts_what_the_network_holds() -> None:
    for code in ["1/", "101/0", *samples(60, seed=1)]:
        assert parameters(SPACE.parse(code)) == read_onnx(SPACE.build(code)).params
        assert parameters(SPACE.parse(code), 100) == read_onnx(SPACE.build(code, "cifar100")).params


# ---- the function -------------------------------------------------------------------------------------------


def reference(code: str, weights: Iterator[torch.Tensor], image: torch.Tensor) -> torch.Tensor:
    """The network as the paper describes it, on an adjacency matrix; batch norms are those of new modules."""
    bits, digits = code.split("/")
    size = len(digits) + 2
    matrix = np.zeros((size, size), dtype=int)
    matrix[np.triu_indices(size, 1)] = [int(bit) for bit in bits]
    reach = np.linalg.matrix_power(matrix + np.eye(size, dtype=int), size)
    live = [v for v in range(size) if reach[0, v] and reach[v, -1]]
    matrix, operations = matrix[np.ix_(live, live)], ["", *digits, ""]
    operations = [operations[v] for v in live]
    last = len(live) - 1

    def unit(x: torch.Tensor, channels: int, kernel: int) -> torch.Tensor:
        weight = next(weights)
        assert weight.shape == (channels, x.shape[1], kernel, kernel)
        x = functional.conv2d(x, weight, padding=kernel // 2)
        return functional.relu(functional.batch_norm(x, torch.zeros(channels), torch.ones(channels)))

    def cell(x: torch.Tensor, channels: int) -> torch.Tensor:
        outs = [v for v in range(1, last) if matrix[v, last]]
        width = {v: channels // len(outs) + (k < channels % len(outs)) for k, v in enumerate(outs)}
        for v in range(last - 1, 0, -1):
            if v not in width:
                width[v] = max(width[t] for t in range(1, last) if matrix[v, t])
        results: dict[int, torch.Tensor] = {}
        for v in range(1, last):
            total = sum(results[s][:, : width[v]] for s in range(1, v) if matrix[s, v])
            if matrix[0, v]:
                total = total + unit(x, width[v], 1)
            kernel = {"0": 3, "1": 1, "2": 0}[operations[v]]
            results[v] = unit(total, width[v], kernel) if kernel else functional.max_pool2d(total, 3, 1, 1)
        y = torch.cat([results[v] for v in outs], 1) if outs else torch.zeros(())
        return y + unit(x, channels, 1) if matrix[0, last] else y

    x = unit(image, 128, 3)
    for channels in (128, 256, 512):
        x = x if channels == 128 else functional.max_pool2d(x, 2, 2)
        for _ in range(3):
            x = cell(x, channels)
    return functional.linear(x.mean((2, 3)), next(weights))


@pytest.mark.parametrize(
    "code",
    [
        "1/",
        "111011/00",
        "100000100011100010011/10022",  # shares of 43, 43 and 42 channels
        "110010010010010001101/21010",
        "101000110000000010001/01201",  # vertices 2 and 4 off every path
        *samples(4, seed=101),
    ],
)
def test_outputs_equal_those_of_a_torch_version(code: str) -> None:
    network = SPACE.build(code, weights="random", seed=3)
    stored = [w for w in network.graph.initializer if w.name.endswith(".weight")]
    weights = iter([torch.from_numpy(onnx.numpy_helper.to_array(w).copy()) for w in stored])
    image = np.random.default_rng(0).standard_normal((1, 3, 32, 32), dtype=np.float32)
    (found,) = onnxruntime.InferenceSession(network.SerializeToString()).run(None, {"image": image})
    expected = reference(code, weights, torch.from_numpy(image)).numpy()
    assert next(weights, None) is None
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


# ---- the grammar --------------------------------------------------------------------------------------------


def test_vertices_off_every_path_stay_in_the_code_alone() -> None:
    # Vertex 1 has no target and vertex 3 no source; 0->2->4 and 0->4 remain.
    code = "1101000011/021"
    assert SPACE.validate(code) == code
    pruned = SPACE.parse(code).pruned()
    assert pruned == Cell("111", "2")
    whole, small = SPACE.build(code).graph, SPACE.build("111/2").graph
    assert list(whole.node) == list(small.node)
    assert list(whole.initializer) == list(small.initializer)


def test_pruned_cells_up_to_isomorphism_are_as_many_as_the_benchmark_counts() -> None:
    # Ying et al.: 1, 6, 84 and 2,441 of 2, 3, 4 and 5 vertices (91 in all up to four, 2,532 up to five).
    classes: Counter[int] = Counter()
    for vertices in range(2, 6):
        seen: set[Cell] = set()
        for bits in product("01", repeat=vertices * (vertices - 1) // 2):
            if Cell("".join(bits), "0" * (vertices - 2)).pruned() is None or bits.count("1") > 9:
                continue
            for digits in product("012", repeat=vertices - 2):
                cell = Cell("".join(bits), "".join(digits))
                if cell not in seen and cell.pruned() is cell:
                    classes[vertices] += 1
                    orders = permutations(range(1, vertices - 1))
                    seen.update(other for order in orders if (other := cell.reordered(order)) is not None)
    assert classes == {2: 1, 3: 6, 4: 84, 5: 2441}


def pruned_codes(vertices: int) -> int:
    """How many codes have every vertex on a path: counted vertex by vertex by the sources that it chooses."""
    states = Counter({(0b1, 0): 1})  # (vertices that nothing reads yet, edges) -> ways
    for vertex in range(1, vertices):
        grown: Counter[tuple[int, int]] = Counter()
        for (unread, edges), ways in states.items():
            for chosen in range(1, 1 << vertex):
                grown[unread & ~chosen | 1 << vertex, edges + chosen.bit_count()] += ways
        states = grown
    ways = sum(n for (unread, edges), n in states.items() if unread == 1 << (vertices - 1) and edges <= 9)
    return ways * 3 ** (vertices - 2)


def test_samples_are_pruned_and_as_large_as_the_codes_are() -> None:
    found = samples(2000, seed=4)
    assert all(SPACE.parse(code).pruned() == SPACE.parse(code) for code in found)
    share = np.mean([SPACE.parse(code).vertices == 7 for code in found])
    expected = pruned_codes(7) / sum(map(pruned_codes, range(2, 8)))
    assert share == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 2000))
    digits = Counter("".join(code.split("/")[1] for code in found))
    assert [digits[digit] / digits.total() for digit in "012"] == pytest.approx([1 / 3] * 3, abs=0.02)


def test_neighbours_of_small_cells() -> None:
    assert SPACE.neighbours("1/") == ["111/0", "111/1", "111/2"]
    # An edge more, the other operations, then a new vertex between each two of the three.
    found = SPACE.neighbours("101/0")
    assert found[:4] == ["111/0", "101/1", "101/2", "110101/00"]
    assert set(found[3:]) == {
        *(f"110101/{new}0" for new in "012"),  # 0 -> new -> 1
        *(f"110011/0{new}" for new in "012"),  # 0 -> new -> 2
        *(f"100111/0{new}" for new in "012"),  # 1 -> new -> 2
    }


def test_neighbours_are_never_the_same_cell_and_reach_other_sizes() -> None:
    for code in samples(40, seed=5):
        cell = SPACE.parse(code)
        sizes = set()
        same = {cell.reordered(order) for order in permutations(range(1, cell.vertices - 1))}
        for neighbour in SPACE.neighbours(code):
            other = SPACE.parse(neighbour)
            assert other.pruned() == other
            assert other not in same
            sizes.add(other.vertices)
        assert cell.vertices in sizes
        assert min(sizes) < cell.vertices


def test_a_walk_over_neighbours_crosses_all_sizes() -> None:
    rng = np.random.default_rng(0)
    code, sizes = "1/", set()
    for _ in range(400):
        code = SPACE.mutate(code, rng)
        sizes.add(SPACE.parse(code).vertices)
    assert sizes >= {3, 4, 5, 6, 7}


def test_orders_of_vertices_that_keep_the_joined_ones_in_place_give_one_hash() -> None:
    compared = 0
    for code in samples(40, seed=6):
        cell = SPACE.parse(code)
        joined = [vertex for vertex in cell.sources[-1] if vertex]
        for order in permutations(range(1, cell.vertices - 1)):
            other = cell.reordered(order)
            if other in (None, cell) or [vertex for vertex in order if vertex in joined] != joined:
                continue
            hashes = {
                content_hash(canonicalise(read_onnx(SPACE.build(SPACE.format(c))))) for c in (cell, other)
            }
            assert len(hashes) == 1
            compared += 1
            break
    assert compared >= 15


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("111011", "expected the bits of the adjacency matrix, '/' and the operations"),
        ("1110/0", "the adjacency matrix has 4 bits, must have one of 1, 3, 6, 10, 15, 21"),
        ("1" * 28 + "/000000", "has 28 bits"),
        ("/", "has 0 bits"),
        ("11x011/00", '"x" in the adjacency matrix is neither 0 nor 1'),
        ("11１011/00", '"１" in the adjacency matrix is neither'),
        ("111011/0", "4 vertices need 2 operations, found 1"),
        ("111011/00/0", "4 vertices need 2 operations, found 4"),
        ("1/0", "2 vertices need 0 operations, found 1"),
        ("111011/03", '"3" is not an operation .0, 1 or 2.'),
        ("111011/0٢", '"٢" is not an operation'),
        ("1111111111/000", "has 10 edges, must have at most 9"),
        ("0/", "no path leads from the input to the output"),
        ("110100/00", "no path leads"),
        ("1" * 5000 + "/", "has 5000 bits"),
        ("1/" + "0" * 5000, "found 5000"),
    ],
)
def test_refusals_name_the_defect(code: str, reason: str) -> None:
    with pytest.raises(AiopError, match=reason) as refusal:
        SPACE.parse(code)
    assert len(str(refusal.value)) < 400
