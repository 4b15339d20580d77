"""Every network of the onnx package's own conformance tests is read, or refused for a reason that is known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnxruntime
import pytest

from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph, from_json, read_onnx, to_json
from aiop.graph_ir.features import encode
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from benchmarks.conformance import Case, Outcome, files, judge, node_cases


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return list(node_cases())


@pytest.fixture(scope="module")
def outcomes(cases: list[Case]) -> list[Outcome]:
    return [judge(case) for case in cases]  # whatever is no AiopError fails here


def of_kind(outcomes: list[Outcome], kind: str) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.kind == kind]


def test_the_cases_are_there(outcomes: list[Outcome]) -> None:
    assert len(outcomes) > 1_500


def test_few_cases_are_refused_and_all_for_a_stated_reason(outcomes: list[Outcome]) -> None:
    refused = of_kind(outcomes, "refused")
    assert len(refused) < 0.02 * len(outcomes)
    assert {outcome.detail for outcome in refused} <= {
        "an input's size is open",
        "a shape depends on the data",
        "shapes read for data do not fit",
    }


def test_outputs_have_the_shapes_and_element_types_that_the_cases_expect(outcomes: list[Outcome]) -> None:
    assert of_kind(outcomes, "different") == []
    assert len(of_kind(outcomes, "equal")) > 0.95 * len(outcomes)


def test_what_is_exempt_is_noted_and_rare(outcomes: list[Outcome]) -> None:
    exempt = of_kind(outcomes, "exempt")
    assert all(" is read as " in outcome.detail or "the data" in outcome.detail for outcome in exempt)
    assert len(exempt) < 0.03 * len(outcomes)


def test_every_file_of_the_package_is_read_with_the_expected_outputs() -> None:
    outcomes = [judge(case) for case in files()]
    assert len(outcomes) > 100
    assert Counter(outcome.kind for outcome in outcomes) == {"equal": len(outcomes)}


def test_what_is_read_is_brought_to_a_canonical_form_hashed_encoded_and_stored(cases: list[Case]) -> None:
    done = 0
    for case in cases:
        try:
            graph = read_onnx(case.model)
        except AiopError:
            continue
        assert len(content_hash(canonicalise(graph))) == 32
        encode(graph)
        assert from_json(to_json(graph)) == graph
        done += 1
    assert done > 1_500


def test_inner_tensors_have_the_shapes_that_onnxruntime_computes(cases: list[Case]) -> None:
    """The cases written out as several nodes are run with every tensor that the graph states as an output."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    compared = 0
    for case in cases:
        if len(case.model.graph.node) < 4 or judge(case).kind != "equal":
            continue
        graph = read_onnx(case.model)
        if any("data" in note for note in graph.notes):
            continue
        for name, shape in computed(case, graph, options).items():
            assert graph.tensors[name].shape == shape, (case.name, name)
            compared += 1
    assert compared > 500


def computed(
    case: Case, graph: ComputeGraph, options: onnxruntime.SessionOptions
) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a graph, as onnxruntime computes it; nothing for what it cannot run."""
    model = type(case.model)()
    model.CopyFrom(case.model)
    made = {name for node in model.graph.node for name in node.output}
    stated = {value.name for value in model.graph.output}
    for name in sorted((made & graph.tensors.keys()) - stated):
        model.graph.output.add(name=name)
    feeds = {
        value.name: array
        for value, array in zip(model.graph.input, case.inputs, strict=False)
        if isinstance(array, np.ndarray)
    }
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        arrays = session.run(None, feeds)
    except Exception:  # an operator or type that this build does not have; its errors share no base
        return {}
    return {
        value.name: array.shape
        for value, array in zip(session.get_outputs(), arrays, strict=True)
        if value.name in graph.tensors and isinstance(array, np.ndarray)
    }
