from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from aiop.errors import AiopError
from aiop.tasks import list_tasks
from aiop.tasks.tables import (
    Table,
    family,
    iter_timm,
    list_tables,
    load_table,
    split,
)
from aiop.tasks.tables import (
    data_dir as find_data_dir,
)

TABLES = {
    "accel-nasbench": 5125,
    "fbnet": 5000,
    "gaia-det": 313,
    "nas-bench-101": 30_001,
    "nas-bench-201": 6466,
    "nas-bench-macro": 6561,
    "nas-bench-mr": 2507,
    "nats-size": 32_768,
    "ofa-mbv3": 7223,
    "timm": 848,
    "transnas-macro": 3256,
    "transnas-micro": 4096,
}


@pytest.fixture(scope="module", params=list(TABLES))
def table(request: pytest.FixtureRequest, data_dir: Path) -> Table:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIOP_DATA", str(data_dir))
        return load_table(request.param)


@pytest.fixture
def timm(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    monkeypatch.setenv("AIOP_DATA", str(data_dir))
    return load_table("timm")


def test_every_table_has_a_test() -> None:
    assert list_tables() == sorted(TABLES)


def test_one_entry_per_architecture_and_one_value_per_task(table: Table) -> None:
    count = TABLES[table.name]
    assert len(table) == len(set(table.networks)) == len(table.groups) == count
    assert set(table.values) == set(list_tasks(f"*/{table.name}/*"))
    for values in (*table.values.values(), table.macs, table.params, *table.extras.values()):
        assert values.shape == (count,)
    # A table may join files on different networks, such as accuracies of some and latencies of others.
    assert all(np.isfinite(values).sum() > 0.3 * count for values in table.values.values())
    assert all(name.startswith(table.name + ":") for name in table.networks)
    assert all(len(digest) == 64 for digest in table.files.values())
    for counts in (table.macs, table.params):  # nan where the files have none
        assert (counts[np.isfinite(counts)] > 0).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_splits_cover_the_table_and_never_separate_a_group(table: Table, seed: int) -> None:
    sides = split(table, seed=seed)
    assert sorted(np.concatenate(list(sides.values())).tolist()) == list(range(len(table)))
    labels = [{table.groups[i] for i in indices} for indices in sides.values()]
    assert sum(map(len, labels)) == len(set(table.groups))
    again, other = split(table, seed=seed), split(table, seed=seed + 1)
    assert all(np.array_equal(sides[name], again[name]) for name in sides)
    assert not np.array_equal(sides["test"], other["test"])


def test_sizes_of_the_splits(table: Table) -> None:
    sizes = {name: len(indices) for name, indices in split(table).items()}
    if table.name == "timm":
        assert 120 <= sizes["test"] <= 220
        assert 40 <= sizes["val"] <= 100
    elif table.name in (published := {"nas-bench-201": (5000, 266, 1200), "nas-bench-mr": (1905, 100, 502)}):
        assert tuple(sizes.values()) == published[table.name]
    else:
        shares = [size / len(table) for size in sizes.values()]
        assert shares == pytest.approx([0.72, 0.08, 0.20], abs=0.02)


def test_values_of_known_rows(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first row of each file, as printed by an independent Parquet reader.
    monkeypatch.setenv("AIOP_DATA", str(data_dir))
    cells = load_table("nas-bench-201")
    assert cells.networks[0] == (
        "nas-bench-201:|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|"
        "+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    )
    assert (cells.macs[0], cells.params[0]) == (15_650_000, 135_000)
    assert cells.values["classification/nas-bench-201/cifar10-test-top1"][0] == pytest.approx(
        85.8633, abs=1e-3
    )
    assert cells.values["latency/nas-bench-201/1080ti-batch256"][0] == pytest.approx(17.255278)
    branches = load_table("nas-bench-mr")
    assert (branches.macs[0], branches.params[0]) == (13_727_426_866, 28_290_994)
    assert branches.values["classification/nas-bench-mr/cls-10-1000-top1"][0] == 86.6


def test_timm_joins_accuracy_and_throughput(timm: Table) -> None:
    row = timm.networks.index("timm:resnet50__224")
    assert timm.extras["recipes"][row] == 18
    # The two middle ones of the 18 published values are 79.388 (b2k) and 79.564 (b1k).
    assert timm.values["classification/timm/imagenet-top1"][row] == pytest.approx((79.388 + 79.564) / 2)
    assert timm.values["throughput/timm/infer-amp-nchw-pt113-cu117-rtx3090"][row] == 3025.40
    assert (timm.macs[row], timm.params[row]) == (4_110_000_000, 25_560_000)


def test_timm_test_set_holds_convolutional_networks_and_transformers(timm: Table) -> None:
    families = {timm.groups[i] for i in split(timm)["test"]}
    assert len(families) >= 15
    assert (
        len(families & {"swinv2", "xcit", "tnt", "convit", "mvitv2", "cait", "pit", "crossvit", "beit"}) >= 2
    )
    assert len(families & {"resnext", "seresnet", "mobilenetv3", "mobilenetv2", "hrnet", "resnest"}) >= 2


def test_timm_graphs_stream_in_the_order_of_the_table(timm: Table) -> None:
    names = []
    for name, content in iter_timm():
        names.append(name)
        if name == "timm:resnet50__224":
            kinds = [node.op_type for node in onnx.load_from_string(content).graph.node]
            assert kinds.count("Conv") == 53
    assert names == timm.networks


@pytest.mark.parametrize(
    ("expected", "architectures"),
    [
        ("vit", ["vit_tiny_patch16_224", "vit_base_r50_s16_384", "deit3_base_patch16_384", "flexivit_base"]),
        ("efficientnet", ["efficientnet_b0", "tf_efficientnet_lite4", "efficientnet_es_pruned"]),
        ("efficientnetv2", ["tf_efficientnetv2_s", "gc_efficientnetv2_rw_t"]),
        ("resnet", ["resnet18", "resnet50d", "resnet26ts", "resnet50_gn", "eca_resnet33ts"]),
        ("resnetv2", ["resnetv2_50", "resnetv2_152x2_bit"]),
        ("mobilenetv3", ["mobilenetv3_large_100", "tf_mobilenetv3_small_minimal_100"]),
        ("beit", ["beit_base_patch16_224", "beitv2_base_patch16_224", "beit3_base_patch16_224"]),
        ("nfnet", ["nfnet_l0", "dm_nfnet_f3", "eca_nfnet_l1"]),
        ("inception_next", ["inception_next_tiny"]),
        ("dla", ["dla60x_c", "dla102x2", "dla60_res2net"]),
        ("cs3darknet", ["cs3darknet_focus_l", "cs3darknet_x"]),
        ("seresnet", ["seresnet50", "legacy_seresnet18"]),
    ],
)
def test_families(expected: str, architectures: list[str]) -> None:
    assert {family(name) for name in architectures} == {expected}


def test_missing_data_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOP_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(AiopError, match="is not a folder: set it"):
        find_data_dir()
    monkeypatch.setenv("AIOP_DATA", str(tmp_path))
    for name in TABLES:
        with pytest.raises(AiopError, match="does not exist: set AIOP_DATA"):
            load_table(name)
    with pytest.raises(AiopError, match='did you mean "nas-bench-201"'):
        load_table("nas_bench_201")
    (tmp_path / "nas_bench_mr.parquet").write_bytes(b"not parquet")
    with pytest.raises(AiopError, match=r"nas_bench_mr.parquet\" cannot be read"):
        load_table("nas-bench-mr")
    (tmp_path / "timm_onnx.tar.xz").write_bytes(b"not an archive")
    with pytest.raises(AiopError, match=r"timm_onnx.tar.xz\" cannot be read"):
        list(iter_timm())
