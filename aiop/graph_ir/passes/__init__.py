"""Passes bring equivalent files to one graph; each takes a graph and returns a `PassResult`."""

from __future__ import annotations

from aiop.graph_ir.graph import ComputeGraph
from aiop.graph_ir.passes.base import Pass, PassResult
from aiop.graph_ir.passes.drop_quantisation import drop_quantisation
from aiop.graph_ir.passes.drop_views import drop_scales, drop_views
from aiop.graph_ir.passes.fold_affine import fold_affine
from aiop.graph_ir.passes.fold_zeros import fold_zeros
from aiop.graph_ir.passes.fuse_activations import fuse_activations
from aiop.graph_ir.passes.fuse_attention import fuse_attention
from aiop.graph_ir.passes.fuse_exponentials import fuse_exponentials
from aiop.graph_ir.passes.fuse_norms import fuse_norms
from aiop.graph_ir.passes.merge_concats import merge_concats
from aiop.graph_ir.passes.merge_duplicates import merge_duplicates
from aiop.graph_ir.passes.merge_limits import merge_limits
from aiop.graph_ir.passes.merge_pads import merge_pads
from aiop.graph_ir.passes.merge_sums import merge_sums
from aiop.graph_ir.passes.pool_all import pool_all
from aiop.graph_ir.passes.remove_dead import remove_dead
from aiop.graph_ir.passes.settle_moves import settle_moves
from aiop.graph_ir.passes.size_weights import size_weights
from aiop.graph_ir.passes.spell_products import spell_products

__all__ = ["PASSES", "PassResult", "canonicalise"]

PASSES: tuple[Pass, ...] = (
    drop_quantisation,
    spell_products,
    fuse_attention,
    settle_moves,
    drop_views,
    fold_zeros,
    remove_dead,
    merge_duplicates,
    merge_pads,
    fuse_norms,
    fold_affine,
    merge_limits,
    fuse_exponentials,
    fuse_activations,
    pool_all,
    drop_scales,
    merge_sums,
    merge_concats,
    size_weights,
)
"""The passes of the canonical form, in the order they run."""

_MOST_ROUNDS = 8


def canonicalise(graph: ComputeGraph) -> ComputeGraph:
    """Return the canonical form of a graph: every pass, again until none changes anything."""
    idle = 0  # passes in a row that changed nothing
    for step in PASSES * _MOST_ROUNDS:
        result = step(graph)
        graph = result.graph
        idle = 0 if result.changed else idle + 1
        if idle == len(PASSES):
            break
    return graph
