"""Passes bring equivalent files to one graph; each takes a graph and returns a `PassResult`."""

from __future__ import annotations

from aiop.graph_ir.graph import ComputeGraph
from aiop.graph_ir.passes.base import Pass, PassResult
from aiop.graph_ir.passes.drop_views import drop_scales, drop_views
from aiop.graph_ir.passes.fold_affine import fold_affine
from aiop.graph_ir.passes.fold_zeros import fold_zeros
from aiop.graph_ir.passes.fuse_activations import fuse_activations
from aiop.graph_ir.passes.merge_duplicates import merge_duplicates
from aiop.graph_ir.passes.merge_sums import merge_sums
from aiop.graph_ir.passes.remove_dead import remove_dead

__all__ = ["PASSES", "PassResult", "canonicalise"]

PASSES: tuple[Pass, ...] = (
    drop_views,
    fold_zeros,
    remove_dead,
    fold_affine,
    fuse_activations,
    drop_scales,
    merge_duplicates,
    merge_sums,
)
"""The passes of the canonical form, in the order they run."""

_MOST_ROUNDS = 8


def canonicalise(graph: ComputeGraph) -> ComputeGraph:
    """Return the canonical form of a graph: every pass, again until none changes anything."""
    for _ in range(_MOST_ROUNDS):
        changed = False
        for step in PASSES:
            result = step(graph)
            graph = result.graph
            changed |= result.changed
        if not changed:
            break
    return graph
