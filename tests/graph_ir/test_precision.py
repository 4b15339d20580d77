"""Networks in other number formats come to the graph of their float twin, with a precision at every operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from aiop import inspect
from aiop.graph_ir import ComputeGraph, read_onnx
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise

pytest.importorskip("onnxruntime.quantization")

STEM = "a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w1, b1) r = Relu(a) d = Conv<group=8, pads=[1,1,1,1]>(r, w2, b2)"
CNN = f"""{{
    {STEM} e = Clip(d, low, high) f = Conv(e, w3, b3) s = Add(f, r) t = Relu(s)
    g = GlobalAveragePool(t) h = Conv(g, w4) i = Sigmoid(h) m = Mul(t, i) u = ConvTranspose<strides=[2,2]>(m, w5)
    l = LeakyRelu<alpha=0.1>(u) p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(l) c = Concat<axis=1>(p, t)
    v = GlobalAveragePool(c) k = Flatten(v) y = Gemm<transB=1>(k, w6, b6) }}"""
CNN_WEIGHTS = {
    "w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 1, 3, 3), "b2": (8,), "low": np.float32(0), "high": np.float32(6),
    "w3": (8, 8, 1, 1), "b3": (8,), "w4": (8, 8, 1, 1), "w5": (8, 4, 2, 2), "w6": (5, 12), "b6": (5,),
}  # fmt: skip
BLOCK = """{ scale = Constant<value=float {0.2}>()
    n = LayerNormalization(x, g1, h1) q0 = MatMul(n, wq) q = Add(q0, bq) k = MatMul(n, wk) v = MatMul(n, wv)
    kt = Transpose<perm=[0,2,1]>(k) z0 = MatMul(q, kt) z = Mul(z0, scale) s = Softmax<axis=-1>(z) o = MatMul(s, v)
    p = MatMul(o, wp) r = Add(x, p) f0 = MatMul(r, w1) f = Relu(f0) t = MatMul(f, w2) y = Add(r, t) }"""
BLOCK_WEIGHTS = {
    "g1": (32,), "h1": (32,), "wq": (32, 32), "bq": (32,), "wk": (32, 32), "wv": (32, 32),
    "wp": (32, 32), "w1": (32, 64), "w2": (64, 32),
}  # fmt: skip
RECURRENT = "{ e = Gather(table, x) h, hn, cn = LSTM<hidden_size=8>(e, w, r, b) s = Squeeze(h, one) y = MatMul(s, o) }"
RECURRENT_WEIGHTS = {
    "table": (50, 16), "w": (1, 32, 16), "r": (1, 32, 8), "b": (1, 64), "one": np.array([1]), "o": (8, 4),
}  # fmt: skip
NETWORKS = {
    "cnn": ("(float[1,3,16,16] x) => (float y)", CNN, CNN_WEIGHTS),
    "block": ("(float[1,9,32] x) => (float y)", BLOCK, BLOCK_WEIGHTS),
    "recurrent": ("(int64[6,1] x) => (float y)", RECURRENT, RECURRENT_WEIGHTS),
}


def samples(name: str) -> Iterator[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    for _ in range(3):
        if name == "recurrent":
            yield {"x": rng.integers(0, 50, (6, 1))}
        else:  # large enough for a Clip to 6 to be reached
            shape = (1, 3, 16, 16) if name == "cnn" else (1, 9, 32)
            yield {"x": 20 * rng.standard_normal(shape).astype(np.float32)}


@pytest.fixture(scope="module")
def files(network, tmp_path_factory) -> dict[str, Path]:
    """The float networks as files, as quantisers take them."""
    folder = tmp_path_factory.mktemp("float")
    paths = {}
    for name, (flow, nodes, weights) in NETWORKS.items():
        paths[name] = folder / f"{name}.onnx"
        onnx.save(network(f"{flow} {nodes}", **weights), paths[name])
    return paths


def hash_of(graph: ComputeGraph) -> str:
    return content_hash(canonicalise(graph))


def precisions(graph: ComputeGraph) -> dict[str, int]:
    """Number format -> MACs in it."""
    found: dict[str, int] = {}
    for operation in canonicalise(graph).operations:
        if operation.macs:
            found[operation.precision] = found.get(operation.precision, 0) + operation.macs
    return found


def quantised_statically(source: Path, target: Path, name: str, **options: object) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Samples(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = samples(name)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    quantize_static(source, target, Samples(), **options)


def static(
    form: str, activations: str = "QUInt8", weights: str = "QInt8", **options: object
) -> Callable[..., None]:
    def quantise(source: Path, target: Path, name: str) -> None:
        from onnxruntime.quantization import QuantFormat, QuantType

        quantised_statically(
            source, target, name, quant_format=QuantFormat[form], activation_type=QuantType[activations],
            weight_type=QuantType[weights], **options,
        )  # fmt: skip

    return quantise


def dynamic(source: Path, target: Path, name: str) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(source, target)


def four_bits(source: Path, target: Path, name: str) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(
        onnx.load(source), bits=4, block_size=16, is_symmetric=False, op_types_to_quantize=("MatMul", "Gather"),
        quant_axes=(("MatMul", 0), ("Gather", 1)),
    )  # fmt: skip
    quantizer.process()
    quantizer.model.save_model_to_file(str(target))


def half(source: Path, target: Path, name: str) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source)), target)


SPELLINGS = {
    "qdq": static("QDQ"),
    "qdq-per-channel": static("QDQ", "QInt8", per_channel=True),
    "qdq-contrib-16": static("QDQ", "QUInt16", extra_options={"UseQDQContribOps": True}),
    "qdq-4": static("QDQ", weights="QInt4"),
    "qdq-symmetric": static("QDQ", "QInt8", extra_options={"ActivationSymmetric": True}),
    "qdq-relu-kept": static("QDQ", extra_options={"QDQKeepRemovableActivations": True}),
    "qoperator": static("QOperator"),
    "qoperator-per-channel": static("QOperator", "QInt8", per_channel=True),
    "dynamic": dynamic,
    "four-bits": four_bits,
    "half": half,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_onnxruntime_quantisation_is_the_float_network(files, tmp_path, name: str, spelling: str) -> None:
    target = tmp_path / "quantised.onnx"
    SPELLINGS[spelling](files[name], target, name)
    original, found = read_onnx(files[name]), read_onnx(target)
    assert (found.macs, found.params) == (original.macs, original.params)
    assert hash_of(found) == hash_of(original)
    assert canonicalise(found).params == canonicalise(original).params


def test_the_precision_is_that_of_the_weights_or_the_data(files, tmp_path) -> None:
    total = read_onnx(files["block"]).macs
    attention = 2 * 9 * 9 * 32
    cases = {
        "qdq": {"int8": total}, "qoperator": {"int8": total}, "half": {"float16": total},
        "qdq-contrib-16": {"int8": total - attention, "int16": attention},
        "qdq-4": {"int4": total - attention, "int8": attention},
        "dynamic": {"int8": total - attention, "float32": attention},
        "four-bits": {"int4": total - attention, "float32": attention},
    }  # fmt: skip
    for spelling, expected in cases.items():
        target = tmp_path / f"{spelling}.onnx"
        SPELLINGS[spelling](files["block"], target, "block")
        assert precisions(read_onnx(target)) == expected, spelling


def test_a_report_says_the_precision(files, tmp_path) -> None:
    target = tmp_path / "dynamic.onnx"
    dynamic(files["block"], target, "block")
    report = inspect(target)
    share = 2 * 9 * 9 * 32 / report.macs
    assert report.precision == pytest.approx({"int8": 1 - share, "float32": share})
    assert list(report.precision) == ["int8", "float32"]
    assert {each["precision"] for each in report.operations if each["op"] == "Linear"} == {"int8"}
    assert inspect(files["block"]).precision == {"float32": 1.0}


# -- element types


def typed(kind: int, text: str, opset: int) -> onnx.ModelProto:
    """A network whose weights are stored as element type ``kind``, of which the text holds the name as TYPE."""
    name = TensorProto.DataType.Name(kind).lower()
    network = onnx.parser.parse_model(
        f'<ir_version: 11, opset_import: ["": {opset}]> network {text.replace("TYPE", name)}'
    )
    for key, shape in (("w", (4, 3, 3, 3)), ("v", (4, 6))):
        values = [1] * int(np.prod(shape))
        network.graph.initializer.append(helper.make_tensor(key, kind, shape, values))
    return network


PLAIN = """(TYPE[1,3,8,8] x) => (TYPE[1,6] y) {
    c = Conv(x, w) r = Relu(c) g = GlobalAveragePool(r) f = Flatten(g) y = MatMul(f, v) }"""
STORED = """(float[1,3,8,8] x) => (float[1,6] y) {
    ws = DequantizeLinear(w, s) vs = DequantizeLinear(v, s) c = Conv(x, ws) r = Relu(c) g = GlobalAveragePool(r)
    f = Flatten(g) y = MatMul(f, vs) }"""
CAST = STORED.replace("DequantizeLinear(w, s)", "Cast<to=1>(w)").replace(
    "DequantizeLinear(v, s)", "Cast<to=1>(v)"
)


def float_twin() -> ComputeGraph:
    return read_onnx(typed(TensorProto.FLOAT, PLAIN.replace("TYPE", "float"), 17))


@pytest.mark.parametrize(
    ("kind", "opset", "precision"),
    [("FLOAT16", 17, "float16"), ("BFLOAT16", 22, "bfloat16"), ("DOUBLE", 17, "float64")],
)
def test_a_network_of_another_floating_point_type(kind: str, opset: int, precision: str) -> None:
    text = PLAIN.replace("TYPE[", f"{kind.lower()}[")
    graph = read_onnx(typed(getattr(TensorProto, kind), text, opset))
    assert hash_of(graph) == hash_of(float_twin())
    assert graph.params == float_twin().params == 4 * 27 + 24
    assert precisions(graph) == {precision: graph.macs}


@pytest.mark.parametrize(
    ("kind", "opset", "precision"),
    [
        ("INT8", 13, "int8"), ("UINT8", 10, "int8"), ("INT8", 23, "int8"), ("INT4", 21, "int4"), ("UINT4", 21, "int4"),
        ("FLOAT8E4M3FN", 19, "float8"), ("FLOAT8E5M2FNUZ", 19, "float8"), ("INT16", 21, "int16"),
        ("FLOAT4E2M1", 23, "float4"), ("INT2", 25, "int2"),
    ],
)  # fmt: skip
def test_weights_stored_in_a_narrower_type(kind: str, opset: int, precision: str) -> None:
    network = typed(getattr(TensorProto, kind), STORED, opset)
    network.graph.initializer.append(helper.make_tensor("s", TensorProto.FLOAT, [], [0.5]))
    graph = read_onnx(network)
    assert hash_of(graph) == hash_of(float_twin())
    assert graph.params == 4 * 27 + 24
    assert precisions(graph) == {precision: graph.macs}


@pytest.mark.parametrize(("kind", "precision"), [("FLOAT16", "float16"), ("FLOAT8E4M3FN", "float8")])
def test_weights_that_are_cast(kind: str, precision: str) -> None:
    graph = read_onnx(typed(getattr(TensorProto, kind), CAST, 19))
    assert hash_of(graph) == hash_of(float_twin())
    assert graph.params == 4 * 27 + 24
    assert precisions(graph) == {precision: graph.macs}


def test_scales_of_channels_and_blocks_are_no_parameters(graph) -> None:
    channels = graph(
        "(float[2,8] x) => (float y) { v = DequantizeLinear<axis=1>(w, s, z) y = MatMul(x, v) }",
        w=np.zeros((8, 6), np.int8), s=(6,), z=np.zeros(6, np.int8),
    )  # fmt: skip
    blocks = graph(
        "(float[2,8] x) => (float y) { v = DequantizeLinear<axis=0, block_size=4>(w, s) y = MatMul(x, v) }",
        21, w=np.zeros((8, 6), np.int8), s=(2, 6),
    )  # fmt: skip
    assert (channels.params, blocks.params) == (48, 48)
    assert channels.operations[-1].op == "Linear"
    assert hash_of(channels) == hash_of(blocks)
