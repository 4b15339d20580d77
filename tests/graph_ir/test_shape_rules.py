"""Output shapes of single operators against onnxruntime, which runs them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx

IMAGE = "(float[2,6,13,17] x) => (float y)"
ROW = "(float[3,8] x) => (float y)"
TEXT = "(float[5,2,8] x) => (float y)"

# text of the node, input and output, opset, constants
CASES = [
    (IMAGE, "y = Conv<pads=[1,2,3,0], strides=[2,3]>(x, w)", 17, {"w": (8, 6, 3, 4)}),
    (IMAGE, "y = Conv<dilations=[2,1], group=3>(x, w, b)", 17, {"w": (9, 2, 3, 1), "b": (9,)}),
    (IMAGE, 'y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)', 17, {"w": (4, 6, 4, 5)}),
    (IMAGE, 'y = Conv<auto_pad="SAME_LOWER", strides=[3,1]>(x, w)', 17, {"w": (4, 6, 4, 5)}),
    (IMAGE, 'y = Conv<auto_pad="VALID">(x, w)', 17, {"w": (4, 6, 3, 3)}),
    ("(float[1,2,5,6,7] x) => (float y)", "y = Conv<strides=[1,2,1]>(x, w)", 17, {"w": (4, 2, 3, 3, 1)}),
    (IMAGE, "y = ConvTranspose<strides=[2,3], pads=[1,0,2,1]>(x, w)", 17, {"w": (6, 4, 3, 5)}),
    (IMAGE, "y = ConvTranspose<group=2, dilations=[2,2], strides=[2,1], output_padding=[1,0]>(x, w)", 17,
     {"w": (6, 4, 3, 2)}),
    (IMAGE, "y = ConvTranspose<output_shape=[28,36], strides=[2,2]>(x, w)", 17, {"w": (6, 4, 3, 3)}),
    (IMAGE, 'y = ConvTranspose<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)', 17, {"w": (6, 4, 3, 3)}),
    (IMAGE, "y = MaxPool<kernel_shape=[3,2], strides=[2,2], ceil_mode=1>(x)", 17, {}),
    (IMAGE, "y = MaxPool<kernel_shape=[3,3], dilations=[2,3], pads=[1,1,1,1]>(x)", 17, {}),
    (IMAGE, "y = AveragePool<kernel_shape=[3,3], strides=[2,3], pads=[1,1,1,1], ceil_mode=1>(x)", 19, {}),
    (IMAGE, "y = GlobalAveragePool(x)", 17, {}),
    (IMAGE, "y = GlobalMaxPool(x)", 17, {}),
    (IMAGE, "y = BatchNormalization(x, s, s, s, v)", 17, {"s": (6,), "v": np.ones(6, np.float32)}),
    (IMAGE, "y = InstanceNormalization(x, s, s)", 17, {"s": (6,)}),
    (IMAGE, "y = LRN<size=3>(x)", 17, {}),
    (IMAGE, "y = LayerNormalization<axis=2>(x, s)", 17, {"s": (13, 17)}),
    (IMAGE, "y = DepthToSpace<blocksize=1>(x)", 17, {}),
    ("(float[1,12,4,6] x) => (float y)", "y = DepthToSpace<blocksize=2>(x)", 17, {}),
    ("(float[1,3,4,6] x) => (float y)", "y = SpaceToDepth<blocksize=2>(x)", 17, {}),
    (ROW, "y = Gemm<transB=1>(x, w, b)", 17, {"w": (4, 8), "b": (4,)}),
    (ROW, "y = Gemm<transA=1>(x, w)", 17, {"w": (3, 7)}),
    (TEXT, "y = MatMul(x, w)", 17, {"w": (8, 3)}),
    (TEXT, "y = MatMul(x, w)", 17, {"w": (4, 5, 8, 3)}),
    (TEXT, "y = MatMul(x, w)", 17, {"w": (8,)}),
    (TEXT, "y = MatMul(w, x)", 17, {"w": (2,)}),
    (TEXT, 'y = Einsum<equation="abc,cd->dab">(x, w)', 17, {"w": (8, 3)}),
    (TEXT, 'y = Einsum<equation="abc,cd">(x, w)', 17, {"w": (8, 3)}),
    (TEXT, 'y = Einsum<equation="abc->cb">(x)', 17, {}),
    (TEXT, 'y = Einsum<equation="...c,cd->...d">(x, w)', 17, {"w": (8, 3)}),
    (TEXT, "y = Add(x, w)", 17, {"w": (7, 1, 2, 1)}),
    (TEXT, "y = Sum(x, w, v)", 17, {"w": (1, 8), "v": (5, 1, 1)}),
    (TEXT, "y = Where(c, x, w)", 17, {"c": np.ones((4, 1, 2, 1), bool), "w": (8,)}),
    (TEXT, "y = PRelu(x, w)", 17, {"w": (8,)}),
    (TEXT, "y = Clip(x, , w)", 17, {"w": np.float32(3)}),
    (TEXT, "y = Softmax<axis=1>(x)", 17, {}),
    (TEXT, "y = ReduceMean<axes=[-1], keepdims=0>(x)", 17, {}),
    (TEXT, "y = ReduceMean(x, a)", 18, {"a": np.array([0, 2])}),
    (TEXT, "y = ReduceMax<noop_with_empty_axes=1>(x)", 18, {}),
    (TEXT, "y = ReduceL2<keepdims=0>(x)", 17, {}),
    (TEXT, "y = CumSum(x, a)", 17, {"a": np.int64(1)}),
    (TEXT, "y = Concat<axis=-2>(x, w, x)", 17, {"w": (5, 4, 8)}),
    (TEXT, "y = Slice(x, s, e, a, t)", 17,
     {"s": np.array([-1, 1]), "e": np.array([-100, 7]), "a": np.array([0, 2]), "t": np.array([-2, 3])}),
    (TEXT, "y = Slice(x, s, e)", 17, {"s": np.array([1, 0]), "e": np.array([99, -1])}),
    (TEXT, "y = Slice<starts=[1], ends=[9223372036854775807], axes=[2]>(x)", 9, {}),
    (TEXT, "y = Reshape(x, s)", 17, {"s": np.array([0, -1, 4])}),
    (TEXT, "y = Reshape<allowzero=1>(x, s)", 17, {"s": np.array([5, 16])}),
    (TEXT, "y = Flatten<axis=-1>(x)", 17, {}),
    (TEXT, "y = Flatten<axis=0>(x)", 17, {}),
    (TEXT, "y = Transpose(x)", 17, {}),
    (TEXT, "y = Transpose<perm=[1,2,0]>(x)", 17, {}),
    ("(float[1,3,1] x) => (float y)", "y = Squeeze(x)", 17, {}),
    ("(float[1,3,1] x) => (float y)", "y = Squeeze(x, a)", 17, {"a": np.array([-1])}),
    ("(float[1,3,1] x) => (float y)", "y = Squeeze<axes=[0]>(x)", 11, {}),
    (TEXT, "y = Unsqueeze(x, a)", 17, {"a": np.array([-1, 0])}),
    (TEXT, "y = Unsqueeze<axes=[1, 3]>(x)", 11, {}),
    (TEXT, "y = Pad(x, p)", 17, {"p": np.array([0, 1, 2, 0, 3, -1])}),
    (TEXT, "y = Pad(x, p, , a)", 18, {"p": np.array([1, 2]), "a": np.array([-2])}),
    (IMAGE, "y = Resize(x, , s)", 17, {"s": np.array([1, 1, 2.5, 0.5], np.float32)}),
    (IMAGE, 'y = Resize<mode="linear">(x, , , s)', 17, {"s": np.array([2, 6, 5, 40])}),
    (IMAGE, "y = Resize<axes=[2,3]>(x, , , s)", 18, {"s": np.array([5, 40])}),
    (IMAGE, "y = Upsample(x, s)", 9, {"s": np.array([1, 1, 2, 3], np.float32)}),
    (TEXT, "y = Gather<axis=1>(x, i)", 17, {"i": np.array([[0, 1, 1], [1, 0, 0]])}),
    (TEXT, "y = Gather<axis=-1>(x, i)", 17, {"i": np.int64(3)}),
    (TEXT, "y = GatherElements(x, i)", 17, {"i": np.zeros((2, 2, 3), np.int64)}),
    (TEXT, "y = GatherND(x, i)", 17, {"i": np.zeros((4, 6, 2), np.int64)}),
    (TEXT, "y = Expand(x, s)", 17, {"s": np.array([4, 1, 2, 1])}),
    (TEXT, "y = Tile(x, s)", 17, {"s": np.array([1, 3, 2])}),
    (TEXT, "y = LpNormalization<axis=1>(x)", 17, {}),
    (IMAGE, "y = GridSample(x, g)", 17, {"g": (2, 5, 7, 2)}),
]  # fmt: skip


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feed = {value.name: rng.standard_normal(value.shape).astype(np.float32) for value in session.get_inputs()}
    return session.run(None, feed)


@pytest.mark.parametrize(("flow", "node", "opset", "weights"), CASES, ids=[case[1][:60] for case in CASES])
def test_shape_is_that_of_the_result(
    network, flow: str, node: str, opset: int, weights: dict[str, object]
) -> None:
    model = network(f"{flow} {{ {node} }}", opset, **weights)
    found = read_onnx(model)
    (expected,) = run(model)
    assert found.tensors["y"].shape == expected.shape
    assert found.tensors["y"].dtype == str(expected.dtype)
    assert found.operations[-1].output_elements == expected.size


SEVERAL = [
    ("a, b = Split<axis=2>(x, s)", 17, {"s": np.array([3, 5])}),
    ("a, b, c = Split<axis=2>(x, s)", 17, {"s": np.array([3, 5, 0])}),
    ("a, b = Split<axis=-1>(x)", 17, {}),
    ("a, b, c = Split<axis=0, num_outputs=3>(x)", 18, {}),
    ("a, b = Split<axis=2, split=[6,2]>(x)", 11, {}),
    ("a, b = TopK<axis=1>(x, k)", 17, {"k": np.array([2])}),
    ("a, b, c = LSTM<hidden_size=3>(x, w, r)", 17, {"w": (1, 12, 8), "r": (1, 12, 3)}),
    ('a, b = GRU<hidden_size=3, direction="bidirectional">(x, w, r)', 17, {"w": (2, 9, 8), "r": (2, 9, 3)}),
    ("a, b = RNN<hidden_size=4>(x, w, r)", 17, {"w": (1, 4, 8), "r": (1, 4, 4)}),
]  # fmt: skip


@pytest.mark.parametrize(("node", "opset", "weights"), SEVERAL, ids=[case[0][:60] for case in SEVERAL])
def test_shapes_of_several_outputs(network, node: str, opset: int, weights: dict[str, object]) -> None:
    names = [name.strip() for name in node.split("=")[0].split(",")]
    outputs = ", ".join(f"float {name}" for name in names)
    model = network(f"(float[5,2,8] x) => ({outputs}) {{ {node} }}", opset, **weights)
    for name, value in zip(names, model.graph.output, strict=True):
        if name == "b" and "TopK" in node:
            value.type.tensor_type.elem_type = onnx.TensorProto.INT64
    found = read_onnx(model)
    for name, expected in zip(names, run(model), strict=True):
        assert found.tensors[name].shape == expected.shape
        assert found.tensors[name].dtype == str(expected.dtype)


WRONG = [
    (IMAGE, "y = Conv(x, w)", {"w": (8, 5, 3, 3)}, "do not fit 6 input channels"),
    (IMAGE, "y = Conv<group=0>(x, w)", {"w": (8, 6, 3, 3)}, "do not fit"),
    (IMAGE, "y = Conv<group=4>(x, w)", {"w": (6, 6, 3, 3)}, "do not fit"),
    (IMAGE, "y = Conv(x, w)", {"w": (8, 6, 14, 3)}, "larger than its padded input"),
    (IMAGE, "y = Conv<strides=[0,1]>(x, w)", {"w": (8, 6, 3, 3)}, "do not fit 2 spatial axes"),
    (IMAGE, "y = Conv<strides=[1]>(x, w)", {"w": (8, 6, 3, 3)}, "do not fit 2 spatial axes"),
    (IMAGE, "y = Conv<pads=[1]>(x, w)", {"w": (8, 6, 3, 3)}, "do not fit 2 spatial axes"),
    (IMAGE, "y = Conv(x, w)", {"w": (8, 6, 3)}, "do not fit"),
    (ROW, "y = MaxPool<kernel_shape=[2,2]>(x)", {}, "pools a tensor of shape"),
    (ROW, "y = Gemm(x, w)", {"w": (7, 8)}, "multiplies"),
    (TEXT, "y = MatMul(x, w)", {"w": (7, 8)}, "multiplies"),
    (TEXT, "y = MatMul(x, w)", {"w": (3, 8, 2)}, "multiplies"),
    (TEXT, 'y = Einsum<equation="abc,cd->ad">(x, w)', {"w": (7, 3)}, "does not fit"),
    (TEXT, 'y = Einsum<equation="abc,cd->az">(x, w)', {"w": (8, 3)}, "output index"),
    (TEXT, "y = Add(x, w)", {"w": (3,)}, "cannot broadcast"),
    (TEXT, "y = Concat<axis=3>(x, x)", {}, "axis 3"),
    (TEXT, "y = Concat<axis=0>(x, w)", {"w": (5, 3, 8)}, "concatenates"),
    (TEXT, "y = Reshape(x, s)", {"s": np.array([7, -1])}, "reshapes"),
    (TEXT, "y = Reshape(x, s)", {"s": np.array([-1, -1])}, "reshapes"),
    (TEXT, "y = Reshape(x, s)", {"s": np.array([0, 0, 0, 0])}, "do not fit"),
    (TEXT, "y = Transpose<perm=[0,0,1]>(x)", {}, "transposes"),
    (TEXT, "y = Squeeze(x, a)", {"a": np.array([1])}, "squeezes"),
    (TEXT, "y = Unsqueeze(x, a)", {"a": np.array([0, 0])}, "twice"),
    (TEXT, "y = ReduceMean<axes=[3]>(x)", {}, "axis 3"),
    (TEXT, "y = Slice(x, s, s, s, s)", {"s": np.array([0])}, "step 0"),
    (TEXT, "y = Expand(x, s)", {"s": np.array([3, 8])}, "expands"),
    (TEXT, "y = Tile(x, s)", {"s": np.array([3, 8])}, "do not fit"),
    (TEXT, "y = Pad(x, s)", {"s": np.array([3, 8])}, "pads"),
    (TEXT, "y = Pad(x, s)", {"s": np.array([-9, 0, 0, 0, 0, 0])}, "would give a tensor of shape"),
    (TEXT, "y = Expand(x, s)", {"s": np.array([2**40, 1, 1, 1])}, "would give a tensor of shape"),
    (ROW, "y = LSTM<hidden_size=3>(x, w, w)", {"w": (1, 12, 8)}, "not of 3 axes"),
]  # fmt: skip


@pytest.mark.parametrize(("flow", "node", "weights", "reason"), WRONG, ids=[case[1][:40] for case in WRONG])
def test_what_does_not_fit_is_refused(
    network, flow: str, node: str, weights: dict[str, object], reason: str
) -> None:
    with pytest.raises(AiopError) as raised:
        read_onnx(network(f"{flow} {{ {node} }}", **weights), name="net.onnx")
    message = str(raised.value)
    assert message.startswith("net.onnx: node 'y' (")
    assert reason in message
    assert "\n" not in message


def test_old_broadcasting_never_grows_the_first_operand(network) -> None:
    model = network("(float[2,3,4,5] x) => (float y) { y = Add<axis=1, broadcast=1>(x, w) }", 6, w=(3,))
    assert read_onnx(model).tensors["y"].shape == (2, 3, 4, 5)
