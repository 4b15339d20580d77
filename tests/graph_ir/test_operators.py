"""Every operator of the installed onnx and onnxruntime is mapped, and costed or free on purpose."""

from __future__ import annotations

import onnx
import pytest

from aiop.graph_ir import read_onnx
from aiop.graph_ir.costs import MACS_RULES
from aiop.graph_ir.elementwise import FREE, MULTIPLYING, is_declared
from aiop.graph_ir.operators import INDEX, VIEWS, VOCABULARY, canonical
from aiop.graph_ir.shapes import SHAPE_RULES


def standard_operators() -> set[tuple[str, str]]:
    return {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas_with_history()}


def runtime_operators() -> set[tuple[str, str]]:
    try:
        from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema
    except ImportError:
        return set()
    return {(schema.domain, schema.name) for schema in get_all_operator_schema()}


OPERATORS = sorted(standard_operators() | runtime_operators())


def test_there_are_operators_to_test() -> None:
    domains = {domain for domain, _ in standard_operators()}
    assert {"", "ai.onnx.ml", "ai.onnx.preview.training"} <= domains
    assert len(standard_operators()) > 200


def test_every_operator_is_known() -> None:
    assert [operator for operator in OPERATORS if canonical(operator[1], operator[0]) == "Unknown"] == []


def test_every_operator_has_macs_or_is_free_of_them() -> None:
    wrong = []
    for domain, kind in OPERATORS:
        costed = kind in MACS_RULES.get(domain, {})
        if costed != (canonical(kind, domain) in MULTIPLYING):
            wrong.append((domain, kind))
    assert wrong == []


def test_element_operations_of_every_canonical_operator_are_declared_once() -> None:
    assert [name for name in VOCABULARY if not is_declared(name)] == []
    free = [name for names in FREE.values() for name in names]
    assert len(free) == len(set(free))
    assert set(free) <= set(VOCABULARY)
    assert set(free) >= VIEWS
    assert not MULTIPLYING & set(free)


def test_what_has_a_cost_or_a_shape_rule_is_known() -> None:
    for rules in (MACS_RULES, SHAPE_RULES):
        for domain, types in rules.items():
            assert [kind for kind in types if canonical(kind, domain) == "Unknown"] == []


def test_the_vocabulary_is_only_appended_to() -> None:
    # indices of released weights
    assert [INDEX[name] for name in ("Unknown", "Conv", "Attention", "Relu", "Add", "MaxPool", "Concat", "Tree")] == [
        0, 2, 7, 19, 43, 52, 62, 87,
    ]  # fmt: skip
    assert VOCABULARY[:2] == ("Unknown", "Input")


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_the_standard_domain_has_two_spellings(domain: str) -> None:
    assert canonical("Gemm", domain) == "Linear"


@pytest.mark.parametrize(
    ("kind", "nodes"),
    [
        ("Add", "y = acme.Add(x, x)"),
        ("MatMul", "y = acme.MatMul(x, w)"),
        ("Gather", "y = acme.Gather(w, x)"),
        ("Relu", "y = acme.Relu(x)"),
        ("Conv", "y = acme.Conv(x, w)"),
        ("Identity", "y = acme.Identity(x)"),
        ("Attention", "y = acme.Attention(x, w, w)"),
        ("MatMulNBits", "y = acme.MatMulNBits<K=4, N=4>(x, w)"),
        ("QLinearAdd", "y = acme.QLinearAdd(x, s, s, x, s, s, s, s)"),
        ("If", "y = acme.If(x)"),
    ],
)
def test_a_known_name_in_another_domain_is_unknown(network, kind: str, nodes: str) -> None:
    assert canonical(kind, "acme") == "Unknown"
    model = network(f"(float[4,4] x) => (float y) {{ {nodes} }}", w=(4, 4), s=(1,))
    model.opset_import.add(domain="acme", version=1)
    found = read_onnx(model).operations[1]
    assert (found.op, found.onnx_type, found.domain) == ("Unknown", kind, "acme")
    assert (found.macs, found.elementwise) == (0, 0)
