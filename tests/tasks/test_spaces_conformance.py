"""What every registered search space must satisfy; a new space is tested without writing a test."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx
from aiop.tasks import get_space, list_spaces
from aiop.tasks.networks import parse_code

SPACES = list_spaces()
FORMS = [(space, form) for space in SPACES for form in get_space(space).forms]
# Networks above this many MACs are checked, but not run.
LARGEST_RUN = 5e9


def codes(space: str, count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [get_space(space).sample(rng) for _ in range(count)]


@pytest.mark.parametrize("space", SPACES)
def test_parse_and_format_are_inverse(space: str) -> None:
    search_space = get_space(space)
    for code in [search_space.example, *codes(space, 50)]:
        assert search_space.format(search_space.parse(code)) == code


@pytest.mark.parametrize("space", SPACES)
def test_sampling_depends_on_the_generator_alone(space: str) -> None:
    assert codes(space, 20, seed=3) == codes(space, 20, seed=3)
    assert codes(space, 20, seed=3) != codes(space, 20, seed=4)
    assert len(set(codes(space, 20))) > 15


@pytest.mark.parametrize("space", SPACES)
def test_validate_gives_the_spelling_of_format(space: str) -> None:
    search_space = get_space(space)
    for code in [search_space.example, *codes(space, 20, seed=1)]:
        assert search_space.validate(code) == code
    with pytest.raises(AiopError, match=f"is not a {space} code"):
        search_space.validate("")


@pytest.mark.parametrize("space", SPACES)
def test_neighbours_are_distinct_codes_of_other_networks(space: str) -> None:
    search_space = get_space(space)
    for code in [search_space.example, *codes(space, 3, seed=5)]:
        found = search_space.neighbours(code)
        assert found
        assert code not in found
        assert len(set(found)) == len(found)
        assert search_space.neighbours(code) == found
        for neighbour in found:
            assert search_space.format(search_space.parse(neighbour)) == neighbour
        own = body(space, code)
        picked = np.random.default_rng(0).choice(found, min(len(found), 8), replace=False)
        assert all(body(space, str(neighbour)) != own for neighbour in picked)


def body(space: str, code: str) -> tuple[object, ...]:
    """What a light network holds besides its name."""
    graph = get_space(space).build(code).graph
    shapes = [(weight.name, tuple(weight.dims)) for weight in graph.initializer]
    return ([node.SerializeToString() for node in graph.node], shapes, graph.input[0].SerializeToString())


@pytest.mark.parametrize("space", SPACES)
def test_mutation_draws_a_neighbour_by_the_generator_alone(space: str) -> None:
    search_space = get_space(space)
    (code,) = codes(space, 1, seed=6)
    drawn = [search_space.mutate(code, np.random.default_rng(seed)) for seed in range(12)]
    assert drawn == [search_space.mutate(code, np.random.default_rng(seed)) for seed in range(12)]
    assert set(drawn) <= set(search_space.neighbours(code))
    assert len(set(drawn)) > 2


@pytest.mark.parametrize("weights", ["shapes", "random"])
@pytest.mark.parametrize("space", SPACES)
def test_building_twice_gives_the_same_bytes(space: str, weights: str) -> None:
    search_space = get_space(space)
    (code,) = codes(space, 1, seed=7)
    first = search_space.build(code, weights=weights, seed=5).SerializeToString()
    assert search_space.build(code, weights=weights, seed=5).SerializeToString() == first


@pytest.mark.parametrize("space", SPACES)
def test_random_weights_follow_the_seed_and_keep_the_graph(space: str) -> None:
    search_space = get_space(space)
    (code,) = codes(space, 1, seed=8)
    first, second = (search_space.build(code, weights="random", seed=seed) for seed in (0, 1))
    assert first.SerializeToString() != second.SerializeToString()
    light = read_onnx(search_space.build(code))
    full = read_onnx(first)
    assert (light.macs, light.params) == (full.macs, full.params)
    stored = {w.name: w for w in first.graph.initializer}
    name, weight = max(stored.items(), key=lambda item: math.prod(item[1].dims))
    values = onnx.numpy_helper.to_array(weight)
    assert name.endswith(".weight")
    fan_in = math.prod(values.shape[1:])
    assert values.std() == pytest.approx(math.sqrt(2 / fan_in), rel=0.1)


@pytest.mark.parametrize(("space", "form"), FORMS)
def test_networks_pass_the_checker_and_run(space: str, form: str) -> None:
    search_space = get_space(space)
    for code in [search_space.example, *codes(space, 2, seed=11)]:
        network = search_space.build(code, form)
        onnx.checker.check_model(network, full_check=True)
        assert network.ir_version == 8
        assert [(o.domain, o.version) for o in network.opset_import] == [("", 17)]
        expected = search_space.output_shapes(code, form)
        assert [image.name for image in network.graph.input] == ["image"]
        assert [output.name for output in network.graph.output] == list(expected)
        graph = read_onnx(network)
        assert graph.tensors["image"].shape == search_space.input_shape(code, form)
        assert {name: graph.tensors[name].shape for name in expected} == expected
        if graph.macs <= LARGEST_RUN:
            session = onnxruntime.InferenceSession(network.SerializeToString())
            shape = search_space.input_shape(code, form)
            image = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
            for name, value in zip(expected, session.run(list(expected), {"image": image}), strict=True):
                assert value.shape == expected[name]
                assert np.isfinite(value).all()


@pytest.mark.parametrize("space", SPACES)
def test_light_networks_store_no_large_weight(space: str) -> None:
    for code in codes(space, 5):
        network = get_space(space).build(code)
        assert max(math.prod(weight.dims) for weight in network.graph.initializer) <= 1024
        assert network.ByteSize() < 1_500_000
        names = [node.name for node in network.graph.node]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("space", SPACES)
def test_forms_differ_and_the_default_is_one_of_them(space: str) -> None:
    search_space = get_space(space)
    (code,) = codes(space, 1, seed=2)
    default = search_space.build(code).SerializeToString()
    assert search_space.build(code, search_space.default_form).SerializeToString() == default
    built = {search_space.build(code, form).SerializeToString() for form in search_space.forms}
    assert len(built) == len(search_space.forms)
    for form, described in search_space.forms.items():
        batch, channels, _, _ = search_space.input_shape(code, form)
        assert (batch, channels) == (described.batch, described.shape[0])


@pytest.mark.parametrize("space", SPACES)
def test_unknown_form_and_weights_are_refused(space: str) -> None:
    search_space = get_space(space)
    with pytest.raises(AiopError, match=f'has no form "{search_space.default_form}x" .did you mean'):
        search_space.build(search_space.example, search_space.default_form + "x")
    with pytest.raises(AiopError, match='weights "zeros" is unknown'):
        search_space.build(search_space.example, weights="zeros")


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("spoil", ["", " ", "{}x", "x{}", "{}{}", "{} ", "\n{}", "9" * 5000])
def test_codes_outside_the_grammar_name_a_valid_one(space: str, spoil: str) -> None:
    search_space = get_space(space)
    with pytest.raises(AiopError) as refusal:
        search_space.parse(spoil.replace("{}", search_space.example))
    message = str(refusal.value)
    assert f"is not a {space} code" in message
    quoted = message.rsplit('"', 2)[1]
    owner, form, code = parse_code(quoted)
    assert (owner, form) == (search_space, None)
    owner.parse(code)
