"""Operators that users register, and what is said of those that nobody did."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import onnx
import pytest

import aiop
from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph, operators, read_onnx, registry
from aiop.graph_ir.costs import MACS_RULES
from aiop.graph_ir.reading.forms import FORMS
from aiop.graph_ir.shapes import SHAPE_RULES
from aiop.graph_ir.unknown import unknown_operators

Read = Callable[..., ComputeGraph]


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    for domain, kind in registry._registered:
        for tables in (SHAPE_RULES, MACS_RULES, operators._CANONICAL):
            tables.get(domain, {}).pop(kind, None)
    registry._registered.clear()
    FORMS.forget()


@pytest.fixture
def acme(network) -> Read:
    def read(text: str, **weights: object) -> ComputeGraph:
        model: onnx.ModelProto = network(text, **weights)
        model.opset_import.add(domain="com.acme", version=1)
        return read_onnx(model)

    return read


CONVOLUTION = "(float[1,3,8,8] x) => (float y) { a = com.acme.SameConv<stride=1>(x, w) y = Relu(a) }"


def register_convolution(**options: bool) -> None:
    @aiop.operator("com.acme", "SameConv", canonical="Conv", **options)
    def same_conv(node):
        data, weights = node.inputs[:2]
        shape = (data.shape[0], weights.shape[0], *data.shape[2:])
        return [shape], math.prod(shape) * math.prod(weights.shape[1:])


def test_a_registered_operator_is_read_as_any_other(acme: Read) -> None:
    before = acme(CONVOLUTION, w=(5, 3, 3, 3))
    assert (before.operations[1].op, before.macs) == ("Unknown", 0)
    register_convolution()
    found = acme(CONVOLUTION, w=(5, 3, 3, 3))
    operation = found.operations[1]
    assert (operation.op, operation.onnx_type, operation.domain) == ("Conv", "SameConv", "com.acme")
    assert found.tensors["y"].shape == (1, 5, 8, 8)
    assert (found.macs, found.params) == (64 * 5 * 27, 5 * 27)
    assert not found.notes


def test_what_is_registered_is_given_back_unchanged() -> None:
    def rule(node):
        return [()], 0

    assert aiop.operator("com.acme", "Nothing", canonical="Identity")(rule) is rule


def test_several_outputs_and_attributes(acme: Read) -> None:
    @aiop.operator("com.acme", "Halves", canonical="Split")
    def halves(node):
        *lead, last = node.inputs[0].shape
        assert node.get("axis", 0) == -1
        return [[*lead, last // 2]] * node.output_count, 0

    found = acme("(float[2,8] x) => (float y) { a, b = com.acme.Halves<axis=-1>(x) y = Mul(a, b) }")
    assert found.tensors["y"].shape == (2, 4)


def test_element_operations_are_those_of_the_canonical_operator(acme: Read) -> None:
    @aiop.operator("com.acme", "Smooth", canonical="SiLU")
    def smooth(node):
        return [node.inputs[0].shape], 0

    assert acme("(float[2,8] x) => (float y) { y = com.acme.Smooth(x) }").elementwise == 5 * 16


@pytest.mark.parametrize(
    "name", ["Attention", "LinearAttention", "MoE", "LSTM", "Tree", "Resize", "Sort", "Optimizer"]
)
def test_any_canonical_operator_can_be_given(acme: Read, name: str) -> None:
    aiop.operator("com.acme", "Any", canonical=name)(lambda node: ([node.inputs[0].shape], 7))
    found = acme("(float[2,8] x) => (float y) { y = com.acme.Any(x) }")
    assert (found.operations[1].op, found.macs) == (name, 7)


# -- what cannot be registered


def test_a_name_is_registered_once() -> None:
    register_convolution()
    with pytest.raises(AiopError, match=r"com.acme::SameConv is registered already; pass replace=True"):
        register_convolution()
    register_convolution(replace=True)


def test_a_registered_rule_can_be_replaced(acme: Read) -> None:
    register_convolution()
    assert acme(CONVOLUTION, w=(5, 3, 3, 3)).macs > 1
    aiop.operator("com.acme", "SameConv", canonical="Conv", replace=True)(lambda node: ([(1, 5, 8, 8)], 1))
    assert acme(CONVOLUTION, w=(5, 3, 3, 3)).macs == 1


@pytest.mark.parametrize(
    ("arguments", "name", "part"),
    [
        (("com.acme", "Foo"), "Convolution", "'Convolution' is no canonical operator; "),
        (("com.acme", "Foo"), "Cnov", 'did you mean "Conv"?'),
        (("com.acme", "Foo"), "Unknown", "is no canonical operator"),
        (("com.acme", "Foo"), "Input", "is no canonical operator"),
        (("com.acme", ""), "Conv", "needs a type"),
        (("", "Gemm"), "Linear", "operator ai.onnx::Gemm is known already"),
        (("com.microsoft", "BiasGelu"), "Gelu", "operator com.microsoft::BiasGelu is known already"),
    ],
)
def test_what_cannot_be_registered(arguments: tuple[str, str], name: str, part: str) -> None:
    with pytest.raises(AiopError) as raised:
        aiop.operator(*arguments, canonical=name)
    assert part in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("result", "part"),
    [
        (([(1, 5)], -1), "a whole number of MACs"),
        (([(1, 5)], 1.5), "a whole number of MACs"),
        (([], 0), "one shape of whole numbers"),
        (([(1, -5)], 0), "one shape of whole numbers"),
        (([(1, "5")], 0), "one shape of whole numbers"),
        (([(1, True)], 0), "one shape of whole numbers"),
        ((5, 0), "fails on node 'n' (TypeError"),
        (None, "fails on node 'n' (TypeError"),
        (([(1 << 50, 2)], 0), "would give a tensor of shape"),
        (([(1, 5)], 1 << 63), "would take 9223372036854775808 MACs"),
    ],
)
def test_a_rule_that_gives_nonsense_is_a_user_error(acme: Read, result: object, part: str) -> None:
    aiop.operator("com.acme", "Foo", canonical="MatMul")(lambda node: result)
    with pytest.raises(AiopError) as raised:
        acme("(float[2,8] x) => (float y) { [n] y = com.acme.Foo(x) }")
    assert part in str(raised.value)


def test_a_rule_that_raises_is_a_user_error(acme: Read) -> None:
    aiop.operator("com.acme", "Foo", canonical="MatMul")(lambda node: 1 / 0)
    with pytest.raises(
        AiopError, match=r"registered for com.acme::Foo fails on node 'n' \(ZeroDivisionError"
    ):
        acme("(float[2,8] x) => (float y) { [n] y = com.acme.Foo(x) }")


# -- what is said of unknown operators

TWO = (
    "(float[2,8] x) => (float y) { a = com.acme.Foo(x) b = com.acme.Foo(a) c = Relu(b) y = com.acme.Bar(c) }"
)


def test_unknown_operators_are_counted(acme: Read) -> None:
    found = acme(TWO)
    first, second = unknown_operators(found.operations)
    assert (first.name, first.count, first.share) == ("com.acme::Foo", 2, 0.5)
    assert (second.name, second.count, second.share) == ("com.acme::Bar", 1, 0.25)
    assert first.registration == '@aiop.operator("com.acme", "Foo", canonical="...")'


def test_there_is_one_note_for_each(acme: Read) -> None:
    notes = [note for note in acme(TWO).notes if "is unknown" in note]
    assert notes == [
        "operator com.acme::Foo is unknown: 2 nodes (50.0% of the network) count 0 MACs; "
        'register it with @aiop.operator("com.acme", "Foo", canonical="...")',
        "operator com.acme::Bar is unknown: 1 node (25.0% of the network) count 0 MACs; "
        'register it with @aiop.operator("com.acme", "Bar", canonical="...")',
    ]


def test_a_network_of_known_operators_has_none(graph) -> None:
    found = graph("(float[2,8] x) => (float y) { y = Relu(x) }")
    assert unknown_operators(found.operations) == []
    assert found.notes == ()


@pytest.mark.parametrize("kind", ["EPContext", "GreedySearch"])
def test_what_hides_its_cost_is_noted(network, kind: str) -> None:
    model = network(f"(float[2,8] x) => (float y) {{ y = com.microsoft.{kind}(x) }}")
    model.opset_import.add(domain="com.microsoft", version=1)
    (note,) = [note for note in read_onnx(model).notes if "0 MACs" in note]
    assert note.startswith(f"operator com.microsoft::{kind} hides what it computes")


def test_inspection_lists_them(acme: Read) -> None:
    report = aiop.inspect(acme(TWO))
    assert list(report.unknown) == ["com.acme::Foo", "com.acme::Bar"]
    assert report["unknown"]["com.acme::Bar"] == {
        "count": 1,
        "share": 0.25,
        "register": '@aiop.operator("com.acme", "Bar", canonical="...")',
    }
