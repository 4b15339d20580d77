"""The comparison with a filter and without: labels, survivors, searches, resuming; what is kept is read again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aiop.errors import AiopError
from aiop.search.path_filter.detection import study as detection_study
from aiop.search.path_filter.detection.detector import DetectionSettings, Detector, train_detector
from aiop.search.path_filter.detection.ledger import Evaluations
from aiop.search.path_filter.detection.pool import Pool
from aiop.search.path_filter.detection.study import (
    WARM_UP,
    Fit,
    Scenery,
    Study,
    StudySettings,
    digit_scenery,
)
from aiop.search.path_filter.filter import PathFilter
from aiop.tasks.latent.body import SPACE
from aiop.tasks.latent.digits import scans_of
from aiop.tasks.latent.supernet import SMALLEST_CODE, Supernet

Array = npt.NDArray[Any]

COUNT = 40
SETTINGS = StudySettings(
    warm_up=DetectionSettings(steps=1, batch=2, bodies=1),
    arm=DetectionSettings(steps=3, batch=2, bodies=1),
    labels=8,
    share=0.25,
    bins=4,
    calibration=4,
)


class ByFeature:
    """Keeps the bodies with the largest first feature, whatever their costs."""

    def score(self, features: Array, macs: Array) -> Array:
        return np.asarray(features[:, 0])

    def keep(self, features: Array, macs: Array, share: float) -> Array:
        best = np.argsort(-features[:, 0])[: round(share * len(features))]
        return np.isin(np.arange(len(features)), best)


def by_feature(features: Array, macs: Array, values: Array, seed: int) -> ByFeature:
    return ByFeature()


@pytest.fixture(scope="module")
def scenery() -> Scenery:
    return digit_scenery(4, 2, 2)


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    torch.manual_seed(0)
    return Supernet()


def pool() -> Pool:
    """Bodies whose costs rise with their place; the first feature has nothing to do with it."""
    random = np.random.default_rng(0)
    codes: dict[str, None] = {}
    while len(codes) < COUNT:
        codes[SPACE.sample(random)] = None
    features = random.standard_normal((COUNT, 3)).astype(np.float32)
    return Pool(tuple(codes), np.arange(1.0, COUNT + 1), features)


@pytest.fixture
def made(
    supernet: Supernet, scenery: Scenery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Study, list[str]]]:
    """A study whose AP is made up (of the cost alone), and the codes it evaluated."""

    def make(fit: Fit = by_feature, folder: str = "study", seed: int = 0) -> tuple[Study, list[str]]:
        bodies, asked = pool(), list[str]()

        def figure(of: Detector, code: str, *rest: object) -> float:
            asked.append(code)
            return float(bodies.macs[bodies.codes.index(code)])

        monkeypatch.setattr(detection_study, "box_ap", figure)
        return Study(supernet, scenery, bodies, fit, SETTINGS, tmp_path / folder, seed=seed), asked

    return make


Made = Callable[..., tuple[Study, list[str]]]


def test_labels_cover_all_costs(made: Made) -> None:
    study, asked = made()
    # 40 bodies of rising cost and 8 labels: one of every five.
    assert (study.labelled // 5).tolist() == list(range(8))
    np.testing.assert_array_equal(study.labels, study.labelled + 1)
    assert asked == [study.pool.codes[row] for row in study.labelled]


def test_the_filter_is_fitted_to_the_labels_and_decides_who_survives(made: Made) -> None:
    given: list[tuple[Array, Array, Array, int]] = []

    def fit(*arguments: Any) -> ByFeature:
        given.append(arguments)
        return ByFeature()

    study, _ = made(fit)
    wanted = np.sort(np.argsort(-study.pool.features[:, 0])[:10])
    assert study.kept.tolist() == wanted.tolist()
    assert set(study.survivors.codes) == {study.pool.codes[row] for row in wanted}
    ((features, macs, values, seed),) = given
    np.testing.assert_array_equal(features, study.pool.features[study.labelled])
    np.testing.assert_array_equal(macs, study.labelled + 1)
    np.testing.assert_array_equal(values, study.labels)
    assert seed == 0


def test_an_arm_draws_survivors_only_and_both_start_from_the_warm_up(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: dict[str, list[Any]] = {}

    def watched(detector: Detector, data: Any, drawn: Any, settings: Any, **rest: Any) -> Any:
        start = detector.state_dict()["supernet.body.stem.conv.weight"].clone()
        calls[rest["checkpoint"].stem] = [drawn, settings.steps, rest["seed"], start]
        return train_detector(detector, data, drawn, settings, **rest)

    monkeypatch.setattr(detection_study, "train_detector", watched)
    study, _ = made()
    for arm in detection_study.ARMS:
        study.trained(arm)
    assert calls[WARM_UP][0].identity == calls["whole"][0].identity == "whole space"
    assert set(calls["survivors"][0].codes) == {study.pool.codes[row] for row in study.kept}
    assert calls["whole"][1] == calls["survivors"][1] == 3
    assert calls["whole"][2] == calls["survivors"][2] != calls[WARM_UP][2]
    warm = study.trained(WARM_UP)[0].state_dict()["supernet.body.stem.conv.weight"]
    assert torch.equal(calls["whole"][3], warm)
    assert torch.equal(calls["survivors"][3], warm)
    assert torch.equal(calls[WARM_UP][3], study._supernet.state_dict()["body.stem.conv.weight"])
    ends = [study.trained(arm)[0].state_dict()["supernet.body.stem.conv.weight"] for arm in study_stages()]
    assert not torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[1], ends[2])


def study_stages() -> tuple[str, ...]:
    return (WARM_UP, *detection_study.ARMS)


def test_candidates_are_drawn_of_every_range_and_more_begin_with_fewer(made: Made) -> None:
    study, _ = made()
    few, many = study.candidates("whole", 2), study.candidates("whole", 5)
    assert (few // 10).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]  # four ranges of ten
    assert many.reshape(4, 5)[:, :2].ravel().tolist() == few.tolist()
    survivors = study.candidates("survivors", 100)
    assert sorted(survivors.tolist()) == study.kept.tolist()


def test_the_best_scored_is_the_survivor_with_the_highest_score_of_each_range(made: Made) -> None:
    study, asked = made()
    kept = study.kept
    for row in study.best_scored():
        inside = kept[kept // 10 == row // 10]
        assert study.pool.features[row, 0] == study.pool.features[inside, 0].max()
    assert len(study.best_scored()) == len({int(row) // 10 for row in kept})
    assert len(asked) == SETTINGS.labels


def test_a_search_judges_its_front_only(made: Made) -> None:
    study, asked = made()
    found = study.search("whole", "whole", 2)
    assert len(found.rows) == 8
    # AP rises with the cost here: every candidate is on the front.
    np.testing.assert_array_equal(found.test, found.macs)
    assert len(asked) == 16


def test_evaluations_are_made_once_and_survive_an_interruption(made: Made) -> None:
    study, asked = made()
    found = study.search("survivors", "survivors", 2)
    assert asked
    again, asked = made()
    same = again.search("survivors", "survivors", 2)
    assert not asked
    np.testing.assert_array_equal(found.validation, same.validation)
    np.testing.assert_array_equal(found.rows, same.rows)
    assert study.seconds("survivors", "validation", found.rows) == pytest.approx(
        again.seconds("survivors", "validation", found.rows)
    )


def test_other_seeds_draw_otherwise(made: Made) -> None:
    one, _ = made()
    other, asked = made(folder="other", seed=1)
    assert one.labelled.tolist() != other.labelled.tolist()
    assert one.candidates("whole", 2).tolist() != other.candidates("whole", 2).tolist()
    assert other.labels.tolist()
    assert asked


def test_a_path_filter_serves(made: Made) -> None:
    study, _ = made(lambda features, macs, values, seed: PathFilter.fitted(features, macs, values, seed=seed))
    assert 8 <= len(study.kept) <= 14  # a quarter of 40, rounded up in every range


def test_more_labels_than_bodies_are_refused(supernet: Supernet, scenery: Scenery, tmp_path: Path) -> None:
    small = Pool((SMALLEST_CODE,) * 4, np.arange(1.0, 5), np.zeros((4, 1), np.float32))
    with pytest.raises(AiopError, match="8 labels need as many bodies and the pool has 4"):
        Study(supernet, scenery, small, by_feature, SETTINGS, tmp_path)


def test_scenes_to_judge_by_share_no_scan_and_those_to_choose_by_no_scene(scenery: Scenery) -> None:
    names = [[scene.name for scene in part.truth()] for part in (scenery.train, scenery.validation)]
    assert [len(part) for part in names] == [4, 2]
    assert not set(names[0]) & set(names[1])
    assert all(scene.name.startswith("test/") for scene in scenery.test.truth())
    assert not np.isin(scans_of("train"), scans_of("test")).any()


def test_ranges_of_a_pool_hold_as_many_bodies_each() -> None:
    edges, bins = pool().bins(4)
    assert np.bincount(bins).tolist() == [10, 10, 10, 10]
    assert (edges[0], edges[-1]) == (1.0, 40.0)


def test_unfinished_and_foreign_lines_of_evaluations_are_made_again(tmp_path: Path) -> None:
    path = tmp_path / "evaluations.jsonl"
    assert Evaluations(path).get("one", "a", lambda: 1.5) == 1.5
    with path.open("a") as file:
        file.write('{"identity": "one", "code": "b"}\n{"identity": "one", "co')
    again = Evaluations(path)
    assert again.get("one", "a", lambda: pytest.fail("made twice")) == 1.5
    assert again.get("one", "b", lambda: 2.5) == 2.5
    assert again.get("other", "a", lambda: 3.5) == 3.5
    kept = Evaluations(path)
    assert [kept.get(*key, lambda: np.nan) for key in (("one", "a"), ("one", "b"), ("other", "a"))] == [
        1.5,
        2.5,
        3.5,
    ]
