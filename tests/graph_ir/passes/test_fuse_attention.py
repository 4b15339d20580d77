"""Attention in the spellings of exporters and optimisers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aiop.graph_ir import ComputeGraph
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.graph_ir.passes.fuse_attention import fuse_attention

HEADS, WIDTH, ROWS = 3, 8, 10
CHANNELS = HEADS * WIDTH
MACS = 2 * HEADS * ROWS * ROWS * WIDTH
CONSTANTS = {
    "apart": np.array([1, ROWS, 3, HEADS, WIDTH]), "joined": np.array([1, ROWS, CHANNELS]), "s": np.float32(0.3),
    "root": np.float32(0.55), "half": np.float32(3.3), "n0": np.array([0]), "n1": np.array([1]), "n2": np.array([2]),
    "n3": np.array([3]), "i0": np.array(0), "i1": np.array(1), "i2": np.array(2), "w": (CHANNELS, 3 * CHANNELS),
    "o": (CHANNELS, CHANNELS), "folded": np.array([HEADS, ROWS, WIDTH]), "unfolded": np.array([1, HEADS, ROWS, WIDTH]),
    "four": np.array([1, ROWS, HEADS, WIDTH]), "c0": np.array([0, 0, 0]), "flat": np.array([ROWS, CHANNELS]),
    "e0": np.array([CHANNELS]), "e1": np.array([2 * CHANNELS]), "e2": np.array([3 * CHANNELS]), "last": np.array([-1]),
    "o3": (HEADS, WIDTH, CHANNELS), "thirds": np.array([CHANNELS] * 3), "ones": np.array([1, 1, 1]),
}  # fmt: skip

START = "a = MatMul(x, w)"
END = "m = Transpose<perm=[0,2,1,3]>(h) j = Reshape(m, joined) y = MatMul(j, o)"
SPLIT = (
    "r = Reshape(a, apart) t = Transpose<perm=[2,0,3,1,4]>(r) q1, k1, v1 = Split<axis=0>(t, ones) "
    "q = Squeeze(q1, n0) k = Squeeze(k1, n0) v = Squeeze(v1, n0)"
)
GATHER = (
    "r = Reshape(a, apart) t = Transpose<perm=[2,0,3,1,4]>(r) q = Gather<axis=0>(t, i0) k = Gather<axis=0>(t, i1) "
    "v = Gather<axis=0>(t, i2)"
)
SLICES = (
    "r = Reshape(a, apart) t = Transpose<perm=[2,0,3,1,4]>(r) q1 = Slice(t, n0, n1, n0) k1 = Slice(t, n1, n2, n0) "
    "v1 = Slice(t, n2, n3, n0) q = Squeeze(q1, n0) k = Squeeze(k1, n0) v = Squeeze(v1, n0)"
)
CHUNKS = (
    "q0, k0, v0 = Split<axis=2>(a, thirds) q1 = Reshape(q0, four) k1 = Reshape(k0, four) v1 = Reshape(v0, four) "
    "q = Transpose<perm=[0,2,1,3]>(q1) k = Transpose<perm=[0,2,1,3]>(k1) v = Transpose<perm=[0,2,1,3]>(v1)"
)
COLUMNS = (
    "q0 = Slice(a, n0, e0, last) k0 = Slice(a, e0, e1, last) v0 = Slice(a, e1, e2, last) q1 = Reshape(q0, four) "
    "k1 = Reshape(k0, four) v1 = Reshape(v0, four) q = Transpose<perm=[0,2,1,3]>(q1) "
    "k = Transpose<perm=[0,2,1,3]>(k1) v = Transpose<perm=[0,2,1,3]>(v1)"
)
TURN = "kt = Transpose<perm=[0,1,3,2]>(k)"
PLAIN = f"{TURN} l = MatMul(q, kt) e = Mul(l, s) p = Softmax<axis=-1>(e) h = MatMul(p, v)"
SPELLINGS = {
    "gather": f"{START} {GATHER} {PLAIN} {END}",
    "slices": f"{START} {SLICES} {PLAIN} {END}",
    "chunks": f"{START} {CHUNKS} {PLAIN} {END}",
    "columns": f"{START} {COLUMNS} {PLAIN} {END}",
    "scaled queries": (
        f"{START} {SPLIT} {TURN} qs = Mul(q, s) l = MatMul(qs, kt) p = Softmax<axis=3>(l) h = MatMul(p, v) {END}"
    ),
    "scaled both": (
        f"{START} {SPLIT} qs = Mul(q, root) {TURN} ks = Mul(kt, root) l = MatMul(qs, ks) p = Softmax<axis=-1>(l) "
        f"h = MatMul(p, v) {END}"
    ),
    "divided": f"{START} {SPLIT} {TURN} l = MatMul(q, kt) e = Div(l, half) p = Softmax(e) h = MatMul(p, v) {END}",
    "guarded": (
        f"{START} {SPLIT} {TURN} l = MatMul(q, kt) p = Softmax(l) b = IsNaN(p) g = Where(b, zero, p) "
        f"h = MatMul(g, v) {END}"
    ),
    "batches folded": (
        f"{START} {SPLIT} q3 = Reshape(q, folded) k3 = Reshape(k, folded) v3 = Reshape(v, folded) "
        "kt = Transpose<perm=[0,2,1]>(k3) l = MatMul(q3, kt) p = Softmax(l) h3 = MatMul(p, v3) "
        f"h = Reshape(h3, unfolded) {END}"
    ),
    "turned": (
        f"{START} {SPLIT} qt = Transpose<perm=[0,1,3,2]>(q) lt = MatMul(k, qt) l = Transpose<perm=[0,1,3,2]>(lt) "
        "p = Softmax(l) pt = Transpose<perm=[0,1,3,2]>(p) vt = Transpose<perm=[0,1,3,2]>(v) ht = MatMul(vt, pt) "
        f"h = Transpose<perm=[0,1,3,2]>(ht) {END}"
    ),
    "dropout": f"{START} {SPLIT} {TURN} l = MatMul(q, kt) p = Softmax(l) d = Dropout(p) h = MatMul(d, v) {END}",
    "einsum of heads": (
        f'{START} {SPLIT} l = Einsum<equation="bhnd,bhmd->bhnm">(q, k) p = Softmax(l) '
        f'h = Einsum<equation="bhnm,bhmd->bhnd">(p, v) {END}'
    ),
    "einsum of rows": (
        f"{START} r = Reshape(a, apart) q1, k1, v1 = Split<axis=2>(r, ones) q = Squeeze(q1, n2) k = Squeeze(k1, n2) "
        'v = Squeeze(v1, n2) l = Einsum<equation="bnhd,bmhd->bhnm">(q, k) p = Softmax(l) '
        'h = Einsum<equation="bhnm,bmhd->bnhd">(p, v) j = Reshape(h, joined) y = MatMul(j, o)'
    ),
    "einsum of weights": (
        'a = Einsum<equation="bnc,cd->bnd">(x, w) '
        f'{SPLIT} {PLAIN} j = Reshape(h, unfolded) y0 = Einsum<equation="bhnd,hdc->bnc">(j, o3) y = Identity(y0)'
    ),
    "rows only": (
        "xf = Reshape(x, flat) af = Gemm(xf, w) a = Reshape(af, wide) "
        f"{SPLIT} {PLAIN} m = Transpose<perm=[0,2,1,3]>(h) j = Reshape(m, flat) yf = Gemm(j, o) y = Reshape(yf, joined)"
    ),
}  # fmt: skip
FLOW = f"(float[1,{ROWS},{CHANNELS}] x) => (float[1,{ROWS},{CHANNELS}] y)"


@pytest.fixture
def build(graph: Callable[..., ComputeGraph]) -> Callable[..., ComputeGraph]:
    def make(text: str, opset: int = 18, flow: str = FLOW, **more: object) -> ComputeGraph:
        known = {**CONSTANTS, "zero": np.float32(0), "wide": np.array([1, ROWS, 3 * CHANNELS]), **more}
        words = set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())
        return graph(
            f"{flow} {{ {text} }}", opset, **{key: each for key, each in known.items() if key in words}
        )

    return make


def _attention(graph: ComputeGraph) -> list[tuple[str, ...]]:
    return [operation.inputs for operation in graph.operations if operation.op == "Attention"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_one_attention_however_it_is_written(build, spelling: str) -> None:
    before = build(SPELLINGS[spelling])
    found = canonicalise(before)
    assert [operation.op for operation in found.operations] == ["Input", "Linear", "Attention", "Linear"]
    attention = found.operations[2]
    assert attention.inputs == found.operations[1].outputs * 3
    assert dict(attention.attributes) == {"heads": HEADS}
    assert attention.macs == MACS
    assert found.macs == before.macs
    assert found.params == before.params == 4 * CHANNELS * CHANNELS
    reference = canonicalise(build(f"{START} {SPLIT} {PLAIN} {END}"))
    assert content_hash(found) == content_hash(reference)
    assert canonicalise(found) == found


@pytest.mark.parametrize(
    "text",
    [
        f"{START} {SPLIT} h = Attention(q, k, v) {END}",
        f"{START} q, k, v = Split<axis=2>(a, thirds) j = Attention<q_num_heads=3, kv_num_heads=3>(q, k, v) "
        "y = MatMul(j, o)",
    ],
)
def test_the_operator_is_the_same_as_its_products(build, text: str) -> None:
    found = canonicalise(build(text, 23))
    assert content_hash(found) == content_hash(canonicalise(build(f"{START} {SPLIT} {PLAIN} {END}")))
    assert found.operations[2].macs == MACS


def test_other_heads_are_another_network(build) -> None:
    text = f"{START} {SPLIT} {PLAIN} {END}"
    other = build(text, apart=np.array([1, ROWS, 3, WIDTH, HEADS]))
    found = canonicalise(other)
    assert dict(found.operations[2].attributes) == {"heads": WIDTH}
    assert content_hash(found) != content_hash(canonicalise(build(text)))


def test_biases_and_masks_are_kept(build) -> None:
    text = (
        f"{START} {SPLIT} {TURN} l = MatMul(q, kt) b = Add(l, bias) c = Add(b, mask) p = Softmax(c) "
        f"h = MatMul(p, v) {END}"
    )
    flow = f"(float[1,{ROWS},{CHANNELS}] x, float[1,1,{ROWS},{ROWS}] mask) => (float[1,{ROWS},{CHANNELS}] y)"
    before = build(text, flow=flow, bias=(1, HEADS, ROWS, ROWS))
    found = canonicalise(before)
    attention = next(operation for operation in found.operations if operation.op == "Attention")
    assert attention.inputs[3:] == ("mask",)
    assert [weight.shape for weight in attention.weights] == [(1, HEADS, ROWS, ROWS)]
    assert attention.params == HEADS * ROWS * ROWS
    assert found.params == before.params
    plain = canonicalise(build(f"{START} {SPLIT} {PLAIN} {END}"))
    assert content_hash(found) != content_hash(plain)


CAUSAL = np.triu(np.full((ROWS, ROWS), -np.inf, np.float32), 1)
FULL = np.ones((ROWS, ROWS), bool)


@pytest.mark.parametrize(
    ("text", "opset"),
    [
        (
            f"{START} {SPLIT} {TURN} l = MatMul(q, kt) b = Add(l, mask) p = Softmax(b) h = MatMul(p, v) {END}",
            18,
        ),
        (
            f"{START} {SPLIT} {TURN} l = MatMul(q, kt) b = Where(full, l, low) p = Softmax(b) h = MatMul(p, v) {END}",
            18,
        ),
        (f"{START} {SPLIT} h = Attention<is_causal=1>(q, k, v) {END}", 23),
    ],
)
def test_constants_that_hide_keys_are_one_mark(build, text: str, opset: int) -> None:
    found = canonicalise(build(text, opset, mask=CAUSAL, full=FULL, low=np.float32(-1e9)))
    attention = next(operation for operation in found.operations if operation.op == "Attention")
    assert dict(attention.attributes) == {"heads": HEADS, "masked": 1}
    assert attention.weights == ()


def test_a_mask_of_zeros_hides_nothing(build) -> None:
    text = f"{START} {SPLIT} {TURN} l = MatMul(q, kt) b = Add(l, mask) p = Softmax(b) h = MatMul(p, v) {END}"
    nothing = np.zeros((1, 1, ROWS, ROWS), np.float32)
    plain = canonicalise(build(f"{START} {SPLIT} {PLAIN} {END}"))
    found = canonicalise(build(text, mask=nothing))
    assert content_hash(found) == content_hash(plain)
    assert found.params == plain.params
    assert content_hash(canonicalise(build(text, mask=CAUSAL[None, None]))) != content_hash(plain)


def test_keys_of_fewer_heads_are_followed_through_their_repetition(build) -> None:
    def made(expanded: str) -> ComputeGraph:
        text = (
            "q0 = MatMul(x, wq) k0 = MatMul(x, wk) v0 = MatMul(x, wk2) q1 = Reshape(q0, four) k1 = Reshape(k0, few) "
            "v1 = Reshape(v0, few) q = Transpose<perm=[0,2,1,3]>(q1) k2 = Transpose<perm=[0,2,1,3]>(k1) "
            f"v2 = Transpose<perm=[0,2,1,3]>(v1) {expanded} {PLAIN} {END}"
        )
        return canonicalise(
            build(
                text, wq=(CHANNELS, CHANNELS), wk=(CHANNELS, WIDTH), wk2=(CHANNELS, WIDTH),
                few=np.array([1, ROWS, 1, WIDTH]), three=np.array([1, HEADS, ROWS, WIDTH]),
                times=np.array([1, HEADS, 1, 1]),
            )
        )  # fmt: skip

    found = made("k = Expand(k2, three) v = Expand(v2, three)")
    assert [operation.op for operation in found.operations] == [
        "Input",
        *["Linear"] * 3,
        "Attention",
        "Linear",
    ]
    assert found.operations[4].inputs == ("q0", "k0", "v0")
    assert content_hash(found) == content_hash(made("k = Tile(k2, times) v = Tile(v2, times)"))


@pytest.mark.parametrize(
    "text",
    [
        # channels attend to channels, as in XCiT
        f"{START} {SPLIT} qt = Transpose<perm=[0,1,3,2]>(q) l = MatMul(qt, k) p = Softmax(l) "
        f"vt = Transpose<perm=[0,1,3,2]>(v) ht = MatMul(p, vt) h = Transpose<perm=[0,1,3,2]>(ht) {END}",
        # heads are mixed between, as in CaiT
        f"{START} {SPLIT} {TURN} l = MatMul(q, kt) u = Transpose<perm=[0,2,3,1]>(l) t1 = MatMul(u, mix) "
        f"t2 = Transpose<perm=[0,3,1,2]>(t1) p = Softmax(t2) h = MatMul(p, v) {END}",
        # over the queries instead of the keys
        f"{START} {SPLIT} {TURN} l = MatMul(q, kt) p = Softmax<axis=2>(l) h = MatMul(p, v) {END}",
        # scores that something else reads too
        f"{START} {SPLIT} {TURN} l = MatMul(q, kt) p = Softmax(l) h0 = MatMul(p, v) f = ReduceMax<keepdims=0>(l) "
        f"h = Add(h0, f) {END}",
    ],
)
def test_what_is_another_computation_stays(build, run_pass, text: str) -> None:
    before = build(text, mix=(HEADS, HEADS))
    assert not _attention(fuse_attention(before).graph)
    found = canonicalise(before)
    assert [operation.op for operation in found.operations].count("MatMul") == 2
    assert found.macs == before.macs


def test_windows_are_no_heads(build) -> None:
    """Five windows of two rows each: as many heads, and scores within windows only."""
    text = f"xw = Reshape(x, parted) a = MatMul(xw, w) {SPLIT} {PLAIN} {END}"
    found = canonicalise(
        build(
            text, parted=np.array([5, 2, CHANNELS]), apart=np.array([5, 2, 3, HEADS, WIDTH]),
            joined=np.array([1, ROWS, CHANNELS]),
        )
    )  # fmt: skip
    assert [operation.op for operation in found.operations] == ["Input", "Linear", "Attention", "Linear"]
    assert dict(found.operations[2].attributes) == {"heads": HEADS}
    assert found.operations[2].macs == 2 * 5 * HEADS * 2 * 2 * WIDTH
    assert found.tensors[found.operations[2].outputs[0]].shape == (5, 2, CHANNELS)


def test_the_pass_says_what_it_changed(build, run_pass) -> None:
    left = run_pass(fuse_attention, build(f"{START} {SPLIT} {PLAIN} {END}"))
    assert "h/heads = Attention(a, a, a)" in left
    assert not any("MatMul" in line or "Softmax" in line for line in left)
