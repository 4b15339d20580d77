"""Parts of the search: scores, the similarity of outputs, fronts, inputs for calibration."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime
import pytest
from compression_cases import StubPredictor, network

import aiop
from aiop.errors import AiopError
from aiop.search.compression.judging import Correction, find_predicted_task
from aiop.search.compression.outputs import Reference, noise_inputs, read_calibration
from aiop.search.compression.proposals import front_ranks
from aiop.search.compression.scoring import Scale, faded, outputs_term
from aiop.search.editing.network import EditableNetwork


def test_fronts_against_their_definition():
    points = np.random.default_rng(0).integers(0, 6, (60, 2)).astype(float)
    ranks = front_ranks(points)

    def beats(one, other):
        return (one >= other).all() and (one > other).any()

    for point, rank in zip(points, ranks, strict=True):
        above = [r for other, r in zip(points, ranks, strict=True) if beats(other, point)]
        assert rank == (max(above) + 1 if above else 0)


def test_the_same_network_is_similar_to_itself_and_to_its_multiple():
    found = EditableNetwork.read(network())
    reference = Reference(found, noise_inputs(found, 4, 0))
    assert reference.varies
    assert reference.similarity(found) == pytest.approx(1, abs=1e-6)
    doubled = found.clone()
    for name in ("fc.w", "fc.b"):
        value = doubled.value(name)
        doubled.derive(value, tuple(value.shape), lambda array: 2 * array)
    doubled.infer()
    assert reference.similarity(doubled) == pytest.approx(1, abs=1e-6)


def test_similarity_is_the_correlation_that_numpy_finds():
    one, other = EditableNetwork.read(network()), EditableNetwork.read(network(seed=1))
    feeds = noise_inputs(one, 3, 0)
    outputs = [
        [
            onnxruntime.InferenceSession(
                net.proto().SerializeToString(), providers=["CPUExecutionProvider"]
            ).run(None, feed)[0]
            for feed in feeds
        ]
        for net in (one, other)
    ]
    expected = np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(*outputs, strict=True)])
    assert Reference(one, feeds).similarity(other) == pytest.approx(expected, abs=1e-4)


def test_noise_has_the_spectrum_of_pictures():
    image = noise_inputs(EditableNetwork.read(network(size=64)), 1, 0)[0]["image"][0]
    power = (np.abs(np.fft.fft2(image)) ** 2).mean(axis=0)
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None])
    inside = (frequency > 0) & (frequency < 0.5)
    slope = np.polyfit(np.log(frequency[inside]), np.log(power[inside]), 1)[0]
    assert slope == pytest.approx(-2, abs=0.3)


def test_terms_without_and_with_comparisons():
    losses = np.array([0.0, 1.0, 2.0])
    nothing = np.full(3, np.nan)
    assert outputs_term(losses, nothing).tolist() == [0, -1, -2]
    term = outputs_term(losses, np.array([np.nan, 0.5, np.nan]))
    assert term[1] == pytest.approx(math.log(0.5))
    assert term[0] > term[1] > term[2]


def test_the_unit_of_the_score():
    assert Scale.of(70, 60, 90).unit == 15
    assert Scale.of(70, -math.inf, math.inf).unit == pytest.approx(3.5)
    assert faded(1.0, 0) == 1
    assert faded(1.0, 4) == 0.5


def test_a_correction_finds_offset_and_slope():
    predicted = np.linspace(60, 70, 12)
    features = np.zeros((12, 3))
    values, _ = Correction.fit(features, predicted, 20 + 0.5 * predicted).moved(features, predicted)
    assert np.abs(values - (20 + 0.5 * predicted)).max() < 0.6  # pulled towards slope 1 by two pairs


def test_a_correction_learns_from_features_what_predictions_do_not_say():
    rng = np.random.default_rng(0)
    features, new = rng.standard_normal((30, 2)), rng.standard_normal((30, 2))
    correction = Correction.fit(features, np.full(30, 70.0), 70 + 3 * features[:, 0])
    values, _ = correction.moved(new, np.full(30, 70.0))
    assert np.corrcoef(values, new[:, 0])[0, 1] > 0.9


def test_task_names_may_be_shortened():
    graph = EditableNetwork.read(network()).compute_graph()
    predictor = StubPredictor()
    assert find_predicted_task(predictor, "pictures/top1", graph) == "classification/made-up/pictures-top1"
    with pytest.raises(AiopError, match="no task"):
        find_predicted_task(predictor, "pictures/top7", graph)


def test_among_tasks_of_one_name_qualities_come_before_costs():
    code = "nas-bench-201:|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
    graph, predictor = aiop.read(code), aiop.load()
    found = find_predicted_task(predictor, "cifar10", graph)
    assert found.startswith("classification/")
    assert find_predicted_task(predictor, "cifar10", graph, cost=True).startswith("training-time/")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"picture": np.zeros((2, 3, 12, 12)), "more": np.zeros(2)}, 'no array "image"'),
        ({"image": np.zeros((2, 3, 8, 8))}, r"numbers of shape \(n, 3, 12, 12\)"),
        ({"image": np.full((2, 3, 12, 12), np.nan)}, "finite rows"),
        ({"image": np.zeros((0, 3, 12, 12))}, "finite rows"),
        ({"image": np.array([["a"]])}, "takes numbers"),
        ({"image": np.array([None, {}], dtype=object)}, "no .npz of arrays"),
    ],
)
def test_calibration_files_that_do_not_fit(tmp_path, arrays, message):
    np.savez(tmp_path / "images.npz", **arrays)
    with pytest.raises(AiopError, match=message):
        read_calibration(tmp_path / "images.npz", EditableNetwork.read(network()))


def test_calibration_files_that_are_none(tmp_path):
    found = EditableNetwork.read(network())
    with pytest.raises(AiopError, match="cannot read"):
        read_calibration(tmp_path / "missing.npz", found)
    (tmp_path / "text.npz").write_text("no arrays")
    np.save(tmp_path / "single.npy", np.zeros((1, 3, 12, 12)))
    for name in ("text.npz", "single.npy"):
        with pytest.raises(AiopError, match="of arrays"):
            read_calibration(tmp_path / name, found)
