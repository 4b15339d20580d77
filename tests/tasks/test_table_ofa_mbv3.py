from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aiop.graph_ir import read_onnx
from aiop.tasks import get_space, list_tasks
from aiop.tasks.tables import Table, load_table, split

TOP1 = "classification/ofa-mbv3/imagenet-top1"


@pytest.fixture(scope="module")
def table(data_dir: Path) -> Table:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIOP_DATA", str(data_dir))
        return load_table("ofa-mbv3")


def test_tasks() -> None:
    devices = ("2080ti", "titan-rtx", "titan-xp")
    latencies = [f"latency/ofa-mbv3/{device}-batch{batch}" for device in devices for batch in (1, 32, 64)]
    assert list_tasks("*/ofa-mbv3/*") == [TOP1, *latencies]


def test_known_rows_of_both_files(table: Table) -> None:
    assert len(table) == 2223 + 5000
    # The first rows, as another Parquet reader prints them.
    assert table.networks[0] == (
        "ofa-mbv3:5,7,5,5,3,3,3,7,5,5,3,7,7,3,3,3,5,5,5,5/4,3,4,4,4,6,3,4,4,3,4,3,3,6,6,6,4,3,4,4/2,3,2,4,3/224"
    )
    assert (table.macs[0], table.params[0], table.values[TOP1][0]) == (255_502_624, 5_029_656, 75.448)
    assert table.networks[2223] == (
        "ofa-mbv3:7,5,5,5,7,7,5,7,5,7,3,7,5,3,7,3,5,3,5,3/6,4,4,6,6,3,4,3,3,6,3,3,3,6,3,4,6,4,3,6/2,2,2,2,3/204"
    )
    assert table.values["latency/ofa-mbv3/2080ti-batch1"][2223] == pytest.approx(12.081938)
    assert table.values["latency/ofa-mbv3/titan-xp-batch64"][2223] == pytest.approx(55.508514)


def test_a_network_has_an_accuracy_or_latencies(table: Table) -> None:
    accurate = np.isfinite(table.values[TOP1])
    assert accurate.sum() == 2223
    assert np.array_equal(accurate, np.isfinite(table.macs))
    assert np.array_equal(accurate, np.isfinite(table.params))
    for name, values in table.values.items():
        assert np.isfinite(values).sum() == (2223 if name == TOP1 else 5000)
        assert name == TOP1 or not (np.isfinite(values) & accurate).any()


def test_groups_are_the_active_sub_networks(table: Table) -> None:
    assert len(set(table.groups[:2223])) == 2162
    assert len(set(table.groups)) == 2162 + 5000
    pairs = {}
    for network, group in zip(table.networks[:2223], table.groups[:2223], strict=True):
        pairs.setdefault(group, []).append(network.removeprefix("ofa-mbv3:"))
    twins = [codes for codes in pairs.values() if len(codes) > 1]
    assert len(twins) == 57
    space = get_space("ofa-mbv3")
    for codes in twins[:5]:
        graphs = [read_onnx(space.build(code)) for code in codes]
        assert len({tuple((op.op, op.kernel, op.macs) for op in graph.operations) for graph in graphs}) == 1
    sides = split(table)
    train = {table.groups[i] for i in sides["train"]}
    assert not train & {table.groups[i] for i in (*sides["val"], *sides["test"])}


def test_noise_of_evaluations_that_train_nothing(table: Table) -> None:
    # Most of the 57 repeated sub-networks agree to the last digit; the largest deviation is 0.02 points.
    assert set(table.noise) == {TOP1}
    assert 0 < table.noise[TOP1] < 0.02


def test_every_code_is_one_of_the_space(table: Table) -> None:
    space = get_space("ofa-mbv3")
    codes = [network.removeprefix("ofa-mbv3:") for network in table.networks]
    assert [space.validate(code) for code in codes] == codes
