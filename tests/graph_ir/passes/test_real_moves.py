"""Moves and attention of real networks: costs are kept, and one run of all passes is enough."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiop.graph_ir import ComputeGraph, read_onnx
from aiop.graph_ir.passes import canonicalise
from aiop.graph_ir.passes.fuse_attention import fuse_attention
from aiop.graph_ir.passes.merge_concats import merge_concats
from aiop.graph_ir.passes.settle_moves import settle_moves
from aiop.graph_ir.passes.spell_products import spell_products

EVERY = 45  # of the archive's networks, in their order by name


@pytest.fixture(scope="module")
def networks(data_dir: Path) -> dict[str, ComputeGraph]:
    archive = data_dir / "timm_onnx.tar.xz"
    if not archive.exists():
        pytest.skip(f"the networks of timm are not at {archive}")
    return dict(_read(archive))


def _read(archive: Path) -> Iterator[tuple[str, ComputeGraph]]:
    with tarfile.open(archive, "r|xz") as files:
        for index, member in enumerate(files):
            stream = files.extractfile(member) if index % EVERY == 3 else None
            if stream is not None:
                yield member.name, read_onnx(stream.read(), name=member.name)


def test_costs_are_kept(networks: dict[str, ComputeGraph]) -> None:
    fused = 0
    for name, network in networks.items():
        graph = network
        for step in (spell_products, fuse_attention, settle_moves, merge_concats):
            graph = step(graph).graph
            assert (graph.macs, graph.params) == (network.macs, network.params), (name, step.__name__)
            known: set[str] = set()
            for operation in graph.operations:
                assert known.issuperset(operation.inputs), (name, operation.name)
                known.update(operation.outputs)
            assert known.issuperset(graph.outputs)
        fused += sum(operation.op == "Attention" for operation in graph.operations)
    assert fused > 50  # twelve or more in every vision transformer among them


def test_the_canonical_form_of_real_networks_is_one(networks: dict[str, ComputeGraph]) -> None:
    for name, network in networks.items():
        found = canonicalise(network)
        assert canonicalise(found) == found, name
