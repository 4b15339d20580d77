"""Every mutation on networks of many kinds: what it must keep, what must fall, and what it must leave alone."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from zoo_onnx import ZOO, network

from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import (
    Decision,
    Edit,
    NotApplicableError,
    Refusal,
    Site,
    get_mutation,
    mutations,
)
from aiop.search.mutations.sequence import mutate

KEEPS_MACS = {"activation"}
CASES = [(mutation, name) for name in ZOO for mutation in mutations()]


@cache
def editable(name: str) -> EditableNetwork:
    return EditableNetwork.read(network(name), name=name)


@cache
def content(name: str) -> bytes:
    return written(editable(name))


def written(network: EditableNetwork) -> bytes:
    return bytes(network.proto().SerializeToString(deterministic=True))


def run(message: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return the outputs on random values, batch 2 where it is open."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(message.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds = {
        value.name: rng.standard_normal([e if isinstance(e, int) else 2 for e in value.shape]).astype(
            np.float32
        )
        for value in session.get_inputs()
    }
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def assert_runs(message: onnx.ModelProto) -> None:
    declared = {value.name: value.type.tensor_type.shape.dim for value in message.graph.output}
    for name, array in run(message).items():
        assert np.isfinite(array).all()
        assert array.ndim == len(declared[name])
        known = [
            (dim.dim_value, size)
            for dim, size in zip(declared[name], array.shape, strict=True)
            if dim.dim_value
        ]
        assert all(a == b for a, b in known)


@pytest.mark.parametrize(("mutation", "name"), CASES)
def test_every_site_and_amount(mutation: str, name: str) -> None:
    original = editable(name)
    step = get_mutation(mutation)
    sites = step.sites(original)
    assert sites == step.sites(original.clone())
    assert len({site.where for site in sites}) == len(sites)
    for place, site in enumerate(sites):
        assert site.mutation == mutation
        assert all(original.node(node) is not None for node in site.convolutions)
        assert list(site.amounts) == sorted(site.amounts, reverse=True)
        # every amount at the first two places, the mildest and the strongest at all others
        for amount in site.amounts if place < 2 else {site.amounts[0], site.amounts[-1]}:
            changed = original.clone()
            edit = step.apply(changed, site.where, amount)
            assert edit.decision == Decision(mutation, site.where, amount)
            assert edit.text.strip()
            assert "\n" not in edit.text
            assert_runs(changed.check(like=original))
            if mutation in KEEPS_MACS:
                assert changed.macs == original.macs
            else:
                assert changed.macs < original.macs, edit.text
    assert written(original) == content(name)


@pytest.mark.parametrize(("mutation", "name"), CASES)
def test_the_same_decision_gives_the_same_bytes(mutation: str, name: str) -> None:
    step = get_mutation(mutation)
    for site in step.sites(editable(name))[:2]:
        found = []
        for _ in range(2):
            changed = editable(name).clone()
            step.apply(changed, site.where, site.amounts[-1])
            found.append(written(changed))
        assert found[0] == found[1] != content(name)


@pytest.mark.parametrize(("mutation", "name"), CASES)
def test_what_is_refused_stays(mutation: str, name: str) -> None:
    step = get_mutation(mutation)
    changed = editable(name).clone()
    places = {refusal.where: refusal for refusal in step.refusals(changed)}
    assert not set(places) & {site.where for site in step.sites(changed)}
    for refusal in places.values():
        assert refusal.mutation == mutation
        assert refusal.reason.strip()
        assert "\n" not in refusal.reason
    decisions = [(where, amount) for where in [*places, "no such place", ""] for amount in (0.0, 0.5)]
    for site in step.sites(changed)[:2]:  # amounts that cannot be
        decisions += [(site.where, amount) for amount in (1.0, -0.5, 2.0, float("nan"))]
    for where, amount in decisions:
        with pytest.raises(NotApplicableError):
            step.apply(changed, where, amount)
    assert written(changed) == content(name)


@pytest.mark.parametrize("name", ZOO)
def test_random_sequences(name: str) -> None:
    original = editable(name)
    rng = random.Random(name)
    sites: list[Site] = [site for step in mutations().values() for site in step.sites(original)]
    for _ in range(6):
        chosen = rng.sample(sites, min(len(sites), rng.randint(2, 9)))
        decisions = [Decision(site.mutation, site.where, rng.choice(site.amounts)) for site in chosen]
        changed, edits, refused = mutate(original, decisions)
        assert_runs(changed.check(like=original))
        done = [_key(edit.decision) for edit in edits]
        assert sorted([*done, *map(_key, refused)]) == sorted(map(_key, decisions))
        assert edits
        again, same, _ = mutate(original, decisions)
        assert same == edits
        assert again.proto() == changed.proto()
        assert changed.macs <= original.macs
    assert written(original) == content(name)


def _key(item: Decision | Refusal) -> tuple[str, str]:
    return item.mutation, item.where


@pytest.mark.parametrize("name", ["basic", "mobile", "vit", "pyramid"])
def test_one_after_the_other_gives_what_a_sequence_gives(name: str) -> None:
    original = editable(name)
    decisions = [
        Decision(site.mutation, site.where, site.amounts[-1])
        for mutation in ("block", "kernel", "low-rank", "activation", "resolution")
        for site in get_mutation(mutation).sites(original)[1::2]
    ]
    changed, edits, _ = mutate(original, decisions)
    in_turn = original.clone()
    texts: list[Edit] = []
    for decision in decisions:
        try:
            texts.append(get_mutation(decision.mutation).apply(in_turn, decision.where, decision.amount))
        except NotApplicableError:
            continue
    assert texts == edits
    assert in_turn.macs == changed.macs
    for one, other in zip(run(in_turn.check()).values(), run(changed.check()).values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_every_kind_of_network_has_places() -> None:
    for name in ZOO:
        found = {mutation: step.sites(editable(name)) for mutation, step in mutations().items()}
        assert found["low-rank"], name
        assert found["block"] or found["kernel"], name
