"""NAS-Bench-MR against published counts and the cost columns of its table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph, read_onnx
from aiop.tasks import get_space

SPACE = get_space("nas-bench-mr")
SMALLEST = "16,16,1,1,16,1,1,1,16,16,1,1,1,1,16,16,16,1,1,1,1,1,16,16,16,16,16"

# (parameters, MACs) of cls-50 and cls-10 at 128 x 128 and of seg at 512 x 1024, then gmacs of the table.
WORKED = [
    (
        "128,128,2,4,128,2,4,4,128,128,2,4,4,4,128,128,128,2,4,4,4,4,128,128,128,128,128",
        [(28_290_994, 13_702_273_280), (28_285_834, 13_702_268_160), (28_286_995, 440_666_161_152)],
        13.727426866,
    ),
    (
        SMALLEST,
        [(82_658, 40_235_808), (81_978, 40_235_168), (82_131, 1_330_511_872)],
        0.040917842,
    ),
    (
        "16,64,1,2,80,1,2,3,32,96,3,2,2,4,48,80,32,2,2,1,2,1,112,16,128,112,16",
        [(5_928_642, 2_285_093_664), (5_927_962, 2_285_093_024), (5_928_115, 73_322_856_448)],
        2.291976018,
    ),
]


def table_macs(graph: ComputeGraph) -> int:
    """The count of the table's gmacs column: convolutions, 2 per batch norm output, 50 biases."""
    norms = sum(op.output_elements for op in graph.operations if op.op == "BatchNorm")
    return graph.macs + 2 * norms + 50


@pytest.mark.parametrize(("code", "counts", "gmacs"), WORKED)
def test_worked_examples(code: str, counts: list[tuple[int, int]], gmacs: float) -> None:
    for form, (params, macs) in zip(("cls-50", "cls-10", "seg"), counts, strict=True):
        graph = read_onnx(SPACE.build(code, form))
        assert (graph.params, graph.macs) == (params, macs)
    assert table_macs(read_onnx(SPACE.build(code))) == round(gmacs * 1e9)


def test_cost_columns_on_200_random_rows(data_dir: Path) -> None:
    import pyarrow.parquet as pq

    rows = pq.read_table(data_dir / "nas_bench_mr.parquet", columns=["embedding", "gmacs", "params_M"])
    for index in np.random.default_rng(4).choice(rows.num_rows, 200, replace=False).tolist():
        row = rows.slice(index, 1).to_pylist()[0]
        graph = read_onnx(SPACE.build(",".join(map(str, row["embedding"]))))
        assert graph.params == round(row["params_M"] * 1e6)
        assert table_macs(graph) == round(row["gmacs"] * 1e9)


def test_resizes_are_written_only_where_sizes_differ() -> None:
    def resizes(form: str) -> list[str]:
        network = SPACE.build(SMALLEST, form)
        return [node.name for node in network.graph.node if node.op_type == "Resize"]

    # One module per stage: upward paths 0 + 0 + 1 + 2 in the fusions of 1, 1, 2 and 3 inputs, 3 in the head.
    for form, unchanged in (("cls-50", 3), ("seg", 0)):
        names = resizes(form)
        assert sum(".up" in name for name in names) == 3
        assert not any(".fit" in name for name in names)
        assert {f"head.resize{i}" for i in range(4)} - set(names) == {f"head.resize{unchanged}"}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (SMALLEST + ",16", "expected 27 integers joined by ',', found 28"),
        (SMALLEST.replace("16,16,1,", "16,12,1,", 1), r"number 1 \(channels\) is 12"),
        (SMALLEST.replace("16,16,1,", "16,136,1,", 1), r"number 1 \(channels\) is 136"),
        (SMALLEST.replace("16,16,1,", "16,16,5,", 1), r"number 2 \(modules or blocks\) is 5"),
        (SMALLEST.replace("16,16,1,", "16,16,0,", 1), r"number 2 \(modules or blocks\) is 0"),
        (SMALLEST.replace("16,16,1,", "16,-16,1,", 1), '"-16" is not an integer'),
        (SMALLEST.replace("16,16,1,", "16,1e2,1,", 1), '"1e2" is not an integer'),
        (SMALLEST.replace("16,16,1,", "016,16,1,", 1), '"016" is not an integer'),
        (SMALLEST.replace(",", ", "), '" 16" is not an integer'),
    ],
)
def test_refusals_name_the_defect(code: str, reason: str) -> None:
    with pytest.raises(AiopError, match=reason):
        SPACE.parse(code)


def test_the_smallest_segmentation_network_runs() -> None:
    network = SPACE.build(SMALLEST, "seg").SerializeToString()
    image = np.zeros((1, 3, 512, 1024), dtype=np.float32)
    (logits,) = onnxruntime.InferenceSession(network).run(None, {"image": image})
    assert logits.shape == (1, 19, 128, 256)
