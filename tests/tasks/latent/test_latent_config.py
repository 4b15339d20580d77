from __future__ import annotations

from pathlib import Path

import pytest

from aiop.errors import AiopError
from aiop.tasks.latent.config import LatentConfig

REPOSITORY = Path(__file__).resolve().parents[3]

GROUP = "  classification: {shared: {steps: 5}, pseudo: {steps: 1}, truth: {steps: 9}}\n"
GOOD = "out: runs\ndata: {digits: {train: 100}}\ngroups:\n" + GROUP


def load(tmp_path: Path, text: str) -> LatentConfig:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return LatentConfig.load(path)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).out == str(tmp_path / "runs")
    split = "{images: pictures, annotations: /abs/a.json}"
    config = load(
        tmp_path,
        GOOD.replace("{digits: {train: 100}}", f"{{coco: {{train: {split}, test: {split}}}, size: 96}}"),
    )
    assert config.data.coco is not None
    assert config.data.coco.train.images == str(tmp_path / "pictures")
    assert config.data.coco.test.annotations == "/abs/a.json"
    assert config.data.size == 96


def test_only_drawn_data_can_be_measured_on_more(tmp_path: Path) -> None:
    split = "{images: pictures, annotations: a.json}"
    coco = GOOD.replace("{digits: {train: 100}}", f"{{coco: {{train: {split}, test: {split}}}}}")
    with pytest.raises(AiopError, match="line 3: setting 'groups' has 'measured' for classification"):
        load(tmp_path, coco.replace("{steps: 9}", "{steps: 9}, measured: 50"))


def test_the_shipped_configuration_is_what_its_page_says() -> None:
    config = LatentConfig.load(REPOSITORY / "benchmarks" / "latent.yaml")
    assert config.bodies.truth >= 60
    assert config.bodies.pseudo >= 400
    assert set(config.groups) == {"classification", "keypoints", "dense"}
    for group in config.groups.values():
        # What a pseudo-label costs is told by its steps, up to calibration: below a twentieth of the truth.
        assert group.pseudo.steps * group.pseudo.batch < 0.05 * group.truth.steps * group.truth.batch


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("out: runs\n", ""), "line 1: setting 'out' is missing"),
        (
            ("digits: {train: 100}", "digitts: {train: 100}"),
            "line 2: setting 'digitts' is unknown (did you mean \"digits\"?)",
        ),
        (("{digits: {train: 100}}", "{size: 64}"), "line 2: setting 'data' needs one of 'digits' and 'coco'"),
        (("train: 100", "train: 3"), "line 2: setting 'train' is 3: give a number of at least 8"),
        (
            ("{digits: {train: 100}}", "{digits: {}, size: 50}"),
            "line 2: setting 'size' is 50: give a multiple of 32",
        ),
        (
            ("classification:", "clasification:"),
            "line 3: setting 'groups' has 'clasification' (did you mean \"classification\"?)",
        ),
        (("groups:\n" + GROUP, "groups: {}\n"), "line 3: setting 'groups' is empty"),
        (("{steps: 5}", "{steps: 0}"), "line 4: setting 'steps' is 0"),
        ((", truth: {steps: 9}", ""), "line 4: setting 'groups.classification.truth' is missing"),
        (
            ("{steps: 5}", "{steps: five}"),
            "line 4: setting 'groups.classification.shared.steps' is 'five' (str)",
        ),
        (
            ("groups:", "bodies: {truth: 3, repeats: 9}\ngroups:"),
            "line 3: setting 'repeats' is 9: give at most 'truth', 3",
        ),
        (("groups:", "seed: -1\ngroups:"), "line 3: setting 'seed' is -1"),
        (("groups:", "supernet: {steps: [1, 2]}\ngroups:"), "line 3: setting 'steps' is [1, 2]"),
        (("{steps: 9}", "{steps: 9}, measured: -1"), "line 4: setting 'measured' is -1"),
        (("{steps: 9}", "{steps: 9}, threshold: 0.1"), "line 3: setting 'groups' has 'threshold' for classi"),
        (("{steps: 9}", "{steps: 9}, threshold: 0"), "line 4: setting 'threshold' is 0.0"),
        (
            ("pseudo: {steps: 1}", "pseudo: {steps: 1, one_seed: 1}"),
            "line 4: setting 'groups.classification.pseudo.one_seed' is 1 (int): give true or false",
        ),
        (
            ("shared: {steps: 5}", "shared: {steps: 5, one_seed: true}"),
            "line 4: setting 'one_seed' is unknown",
        ),
    ],
)
def test_wrong_settings_are_named_with_their_line(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    with pytest.raises(AiopError) as caught:
        load(tmp_path, GOOD.replace(*change))
    assert message in str(caught.value)
