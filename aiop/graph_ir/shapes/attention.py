"""What the attention operators of the standard and of onnxruntime compute: output shapes, and how many scores.

They differ in where queries, keys and values come from (separate, packed in one tensor, projected by weights of the
operator's own, or cached) and agree in what follows: one score per query, key and head, a softmax, a weighted sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aiop.graph_ir.shapes.base import ShapeError, first
from aiop.graph_ir.values import Node, Shape, Tensor

__all__ = ["FORMS", "AttentionForm", "attention_form"]


class AttentionForm(NamedTuple):
    """One attention: the shapes it writes and the sizes its cost follows from.

    ``scores`` are those of all queries, keys and heads; masks do not lower them, a local window and a selection of
    keys do. ``width_qk`` and ``width_v`` are the widths of one head, ``projections`` the MACs of the operator's own
    weights.
    """

    outputs: list[Shape]
    scores: int
    width_qk: int
    width_v: int
    projections: int = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the scores, of the weighted sum and of the projections."""
        return self.scores * (self.width_qk + self.width_v) + self.projections


def attention_form(node: Node) -> AttentionForm:
    """Return the form of an attention operator of any known domain; raises `ShapeError`."""
    forms = FORMS.get(node.domain, {})
    if node.type not in forms:
        raise ShapeError("is of an unknown form")
    return forms[node.type](node)


def _shape(node: Node, index: int) -> Shape:
    tensor = node.input(index)
    if tensor is None:
        raise ShapeError(f"has no input {index}")
    return tensor.shape


def _heads(node: Node, attribute: str = "num_heads") -> int:
    heads = int(node.get(attribute, 0))
    if heads < 1:
        raise ShapeError(f"has {attribute} = {heads}")
    return heads


def _number(tensor: Tensor | None) -> int:
    """Return a constant number, 0 where it is not known."""
    if tensor is None or tensor.value is None or tensor.elements != 1:
        return 0
    return int(tensor.value.reshape(-1)[0])


# -- ai.onnx


def _standard(node: Node) -> AttentionForm:
    query, key, value = first(node).shape, _shape(node, 1), _shape(node, 2)
    past = node.input(4)
    if len(query) == 4:
        batch, heads, rows, width = query
        kv_heads, new, width_v = key[1], key[2], value[3]
    else:
        batch, rows, hidden = query
        heads, kv_heads, new = _heads(node, "q_num_heads"), _heads(node, "kv_num_heads"), key[1]
        width, width_v = hidden // heads, value[2] // kv_heads
    total = new + (past.shape[2] if past else 0)
    out = (batch, heads, rows, width_v) if len(query) == 4 else (batch, rows, heads * width_v)
    outputs: list[Shape] = [
        out, (batch, kv_heads, total, width), (batch, kv_heads, total, width_v), (batch, heads, rows, total),
    ]  # fmt: skip
    return AttentionForm(outputs, batch * heads * rows * total, width, width_v)


# -- com.microsoft, with projections of their own


def _projected(weights_at: int, past_at: int) -> Callable[[Node], AttentionForm]:
    def form(node: Node) -> AttentionForm:
        batch, rows, _ = first(node).shape
        weights, past, heads = _shape(node, weights_at), node.input(past_at), _heads(node)
        sizes = node.get("qkv_hidden_sizes") or [weights[1] // 3] * 3
        width, width_v = sizes[0] // heads, sizes[2] // heads
        kept = past.shape[3] if past else 0
        total = kept if kept and node.get("past_present_share_buffer", 0) else kept + rows
        outputs: list[Shape] = [(batch, rows, sizes[2]), (2, batch, heads, total, width)]
        return AttentionForm(
            outputs, batch * heads * rows * total, width, width_v, batch * rows * weights[0] * weights[1]
        )

    return form


def _packed(node: Node) -> AttentionForm:
    tokens, _ = first(node).shape
    weights, heads, columns = _shape(node, 1), _heads(node), _shape(node, 3)[1]
    sizes = node.get("qkv_hidden_sizes") or [weights[1] // 3] * 3
    return AttentionForm(
        [(tokens, sizes[2])], heads * tokens * columns, sizes[0] // heads, sizes[2] // heads,
        tokens * weights[0] * weights[1],
    )  # fmt: skip


def _ordered(node: Node) -> AttentionForm:
    batch, rows, _ = first(node).shape
    weights = [_shape(node, index) for index in (5, 6, 7)]
    heads, past = _heads(node), node.input(18)
    total = rows + (past.shape[3] if past else 0)
    return AttentionForm(
        [(batch, rows, weights[2][1])], batch * heads * rows * total, weights[0][1] // heads,
        weights[2][1] // heads, batch * rows * sum(inner * outer for inner, outer in weights),
    )  # fmt: skip


def _decoder(node: Node) -> AttentionForm:
    rows, batch, hidden = first(node).shape
    key, by_query, by_key = _shape(node, 1), _shape(node, 2), _shape(node, 3)
    heads, past = _heads(node), node.input(6)
    total = key[0] + (past.shape[2] if past else 0)
    cache = (batch, heads, total, hidden // heads)
    projections = batch * (rows * by_query[0] * by_query[1] + key[0] * by_key[0] * by_key[1])
    return AttentionForm(
        [(rows, batch, hidden), cache, cache], batch * heads * rows * total, hidden // heads, hidden // heads,
        projections,
    )  # fmt: skip


def _longformer(weights_at: int, global_at: int) -> Callable[[Node], AttentionForm]:
    def form(node: Node) -> AttentionForm:
        batch, rows, hidden = first(node).shape
        weights, globals_ = _shape(node, weights_at), _shape(node, global_at)
        heads, columns = _heads(node), min(rows, 2 * int(node.get("window", 0)) + 1)
        projections = batch * rows * (weights[0] * weights[1] + globals_[0] * globals_[1])
        width = hidden // heads
        return AttentionForm(
            [(batch, rows, hidden)], batch * heads * rows * columns, width, width, projections
        )

    return form


# -- com.microsoft, of projected queries, keys and values


def _multi_head(past_at: int, length_at: int) -> Callable[[Node], AttentionForm]:
    def form(node: Node) -> AttentionForm:
        query, key, value = first(node).shape, node.input(1), node.input(2)
        heads, past = _heads(node), node.input(past_at)
        batch, rows = query[:2]
        if len(query) == 5:  # queries, keys and values in one
            width = width_v = query[4]
            new = rows
        else:
            width = width_v = query[2] // heads
            new = rows if key is None else key.shape[2] if len(key.shape) == 4 else key.shape[1]
        if value is not None:
            width_v = value.shape[3] if len(value.shape) == 4 else value.shape[2] // heads
        kept = past.shape[2] if past else 0
        shared = node.get("past_present_share_buffer", 0) or node.input(length_at) is not None
        total = kept if kept and shared else kept + new
        used = _number(node.input(length_at))
        columns = min(total, used + new) if used else total
        outputs = [
            (batch, rows, heads * width_v), (batch, heads, total, width), (batch, heads, total, width_v),
            (batch, heads, rows, columns),
        ]  # fmt: skip
        return AttentionForm(outputs, batch * heads * rows * columns, width, width_v)

    return form


def _packed_multi_head(node: Node) -> AttentionForm:
    query, value, heads, columns = first(node).shape, node.input(2), _heads(node), _shape(node, 4)[1]
    width = query[3] if len(query) == 4 else query[1] // heads
    width_v = value.shape[1] // heads if value else width
    return AttentionForm([(query[0], heads * width_v)], heads * query[0] * columns, width, width_v)


def _widths(node: Node, heads: int, kv_heads: int) -> tuple[int, int]:
    """Return the widths of a head of queries and of values, which may all come in one tensor."""
    query, value = first(node).shape, node.input(2)
    if node.input(1) is None:
        width = query[-1] // (heads + 2 * kv_heads)
        return width, width
    width = query[-1] // heads
    return width, value.shape[-1] // kv_heads if value else width


def _grouped(node: Node) -> AttentionForm:
    heads, kv_heads = _heads(node), _heads(node, "kv_num_heads")
    batch, rows = first(node).shape[:2]
    width, width_v = _widths(node, heads, kv_heads)
    key, past, past_v = node.input(1), node.input(3), node.input(4)
    kept = past.shape[2] if past else 0
    total = _number(node.input(6)) or kept + (key.shape[1] if key else rows)
    present = max(kept, total)
    window = int(node.get("local_window_size", -1))
    columns = min(total, window) if window > 0 else total
    outputs = [
        (batch, rows, heads * width_v),
        (
            batch,
            kv_heads,
            present,
            past.shape[3] if past else width,
        ),  # of another width where it is quantised
        (batch, kv_heads, present, past_v.shape[3] if past_v else width_v),
        (batch, heads, rows, total),
    ]
    return AttentionForm(outputs, batch * heads * rows * columns, width, width_v)


def _block_sparse(node: Node) -> AttentionForm:
    heads, kv_heads = _heads(node), _heads(node, "kv_num_heads")
    batch, rows = first(node).shape[:2]
    width, width_v = _widths(node, heads, kv_heads)
    past, past_v, blocks = _shape(node, 3), _shape(node, 4), _shape(node, 6)
    total = _number(node.input(7)) or past[2]
    most = blocks[-1] * int(node.get("sparse_block_size", 1)) ** 2
    return AttentionForm(
        [(batch, rows, heads * width_v), past, past_v],
        batch * heads * min(rows * total, most),
        width,
        width_v,
    )


def _paged(selected_at: int | None) -> Callable[[Node], AttentionForm]:
    def form(node: Node) -> AttentionForm:
        heads, kv_heads = _heads(node), _heads(node, "kv_num_heads")
        tokens = first(node).shape[0]
        width, width_v = _widths(node, heads, kv_heads)
        width_v = int(node.get("v_head_size", 0)) or width_v
        keys, values, table = _shape(node, 3), node.input(4), _shape(node, 7)
        columns = table[1] * keys[1] if selected_at is None else _selected(node, selected_at)
        outputs = [(tokens, heads * width_v), keys, values.shape if values else keys]
        return AttentionForm(outputs, heads * tokens * columns, width, width_v)

    return form


def _dynamic_sparse(node: Node) -> AttentionForm:
    heads, kv_heads = _heads(node), _heads(node, "kv_num_heads")
    batch, rows = first(node).shape[:2]
    width, width_v = _widths(node, heads, kv_heads)
    past = node.input(3)
    total = _number(node.input(10)) or rows + (past.shape[2] if past else 0)
    total = max(total, past.shape[2]) if past else total
    outputs: list[Shape] = [
        (batch, rows, heads * width_v), (batch, kv_heads, total, width), (batch, kv_heads, total, width_v),
    ]  # fmt: skip
    return AttentionForm(outputs, batch * heads * rows * _selected(node, 7), width, width_v)


def _selected(node: Node, at: int) -> int:
    """Return how many keys a query reads at most."""
    local = (
        max(0, int(node.get("local_window_size", 0)))
        if node.get("attention_mode") == "local_plus_selected"
        else 0
    )
    return _shape(node, at)[-1] + local


def _indexer(past_at: int) -> Callable[[Node], AttentionForm]:
    """Scores of queries against compressed keys, to select the best; what is written has a size of its own."""

    def form(node: Node) -> AttentionForm:
        query, width, past = first(node).shape, _shape(node, 2)[0], _shape(node, past_at)
        ratio = max(1, int(node.get("compress_ratio", 1)))
        fresh = query[1] if len(query) == 3 else query[0]
        columns = past[1] + -(-fresh // ratio)
        rows = 1
        for extent in query:
            rows *= extent
        return AttentionForm([], rows // width * columns, width, 0)

    return form


FORMS: dict[str, dict[str, Callable[[Node], AttentionForm]]] = {
    "": {"Attention": _standard},
    "ai.onnx": {"Attention": _standard},
    "ai.onnx.preview": {"FlexAttention": _standard},
    "com.microsoft": {
        "Attention": _projected(1, 4),
        "QAttention": _projected(1, 8),
        "DecoderMaskedSelfAttention": _projected(1, 4),
        "PackedAttention": _packed,
        "QOrderedAttention": _ordered,
        "DecoderAttention": _decoder,
        "LongformerAttention": _longformer(1, 4),
        "QOrderedLongformerAttention": _longformer(2, 8),
        "MultiHeadAttention": _multi_head(6, 8),
        "DecoderMaskedMultiHeadAttention": _multi_head(5, 7),
        "PackedMultiHeadAttention": _packed_multi_head,
        "GroupQueryAttention": _grouped,
        "SparseAttention": _block_sparse,
        "DynamicSparseAttention": _dynamic_sparse,
        "PagedAttention": _paged(None),
        "SparsePagedAttention": _paged(9),
        "SparseAttentionIndexer": _indexer(7),
        "PackedSparseAttentionIndexer": _indexer(12),
    },
}
"""Domain -> operator -> its form."""
