"""Settings are read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiop.errors import AiopError
from aiop.pretrain.config import BackboneConfig, PretrainConfig


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_settings_are_read(tmp_path: Path) -> None:
    config = PretrainConfig.load(
        write(
            tmp_path,
            """
            corpora: [nas_bench_201, my/cells.corpus]
            backbone: {width: 32, layers: 4, aggregation: sqrt}
            lr: 3e-3            # YAML takes this for text
            weight_decay: 0
            steps: 200
            sampling_weights: {nas_bench_201: 2}
            mixing: single
            """,
        )
    )
    assert config.corpora == ("nas_bench_201", "my/cells.corpus")
    assert config.backbone == BackboneConfig(width=32, layers=4, aggregation="sqrt")
    assert (config.lr, config.weight_decay, config.steps, config.mixing) == (0.003, 0.0, 200, "single")
    assert config.sampling_weights == {"nas_bench_201": 2.0}
    assert PretrainConfig.from_mapping(config.to_dict()) == config


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert PretrainConfig.load(write(tmp_path, "# nothing\n")) == PretrainConfig()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("widht: 32", "'widht' is unknown"),
        ("batchsize: 32", r'did you mean "batch_size"\?'),
        ("backbone: {widht: 32}", r"'backbone': setting 'widht' is unknown \(did you mean \"width\"\?\)"),
        ("backbone: 3", "'backbone' is 3 .int.: give a mapping"),
        ("batch_size: 3.5", "'batch_size' is 3.5 .float.: give a whole number"),
        ("batch_size: true", "'batch_size' is True .bool.: give a whole number"),
        ("lr: fast", "'lr' is 'fast' .str.: give a number"),
        ("lr: true", "give a number"),
        ("out: 3", "give text"),
        ("corpora: nas_bench_201", "give a list"),
        ("corpora: [1]", "give text"),
        ("sampling_weights: {a: b}", "give a number"),
        ("sampling_weights: {a: 0}", "above 0"),
        ("mixing: mixd", r'did you mean "mixed"\?'),
        ("loss: mae", "choose one of smooth-l1, mse"),
        ("lr: 0", "'lr' is 0.0: give a number above 0"),
        ("lr: .nan", "above 0"),
        ("ema: 1", "'ema' is 1.0"),
        ("backbone: {dropout: -0.1}", "'dropout' is -0.1"),
        ("most_graphs: 0", "'most_graphs' is 0: give a number of at least 1"),
        ("exclude: latency/*", "'exclude' is 'latency/\\*' .str.: give a list"),
        ("balance: domain", r'did you mean "domains"\?'),
        ("balance_power: -1", "'balance_power' is -1.0"),
        ("heads: descriptions", r'did you mean "description"\?'),
        ("residual_dropout: 1", "'residual_dropout' is 1.0"),
        ("scaling: flop", r'did you mean "flops"\?'),
        ("pretext: {cost: 1}", r"pretext target 'cost' is unknown \(did you mean"),
        ("pretext: {costs: 0}", "pretext weight of 'costs' is 0.0"),
        ("pretext: [costs]", "give a mapping"),
        ("steps: 0", "'steps' is 0: give a number of at least 1"),
        ("node_noise: .inf", "'node_noise' is inf"),
        ("- a list", "is a list, not settings"),
        ("a: [", "is not YAML"),
        ("lr: !!python/object/apply:os.getcwd []", "is not YAML"),
        ("3: 4", "'3' is unknown"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(AiopError, match=match) as caught:
        PretrainConfig.load(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(AiopError, match=r"none\.yaml does not exist"):
        PretrainConfig.load(tmp_path / "none.yaml")
    with pytest.raises(AiopError, match="cannot be read"):
        PretrainConfig.load(tmp_path)


def test_the_hash_covers_what_decides_the_weights() -> None:
    base = PretrainConfig().training_hash()
    assert PretrainConfig(out="elsewhere", checkpoint_seconds=1.0, threads=2).training_hash() == base
    # a checkpoint's data are compared themselves
    assert PretrainConfig(exclude=("latency/*",), most_graphs=100).training_hash() == base
    assert PretrainConfig(backbone=BackboneConfig(reach=3.0)).training_hash() == base
    assert PretrainConfig(backbone=BackboneConfig(width=32)).training_hash() != base
    assert PretrainConfig(balance_power=0.5).training_hash() != base
    assert PretrainConfig(lr=0.1).training_hash() != base
    assert PretrainConfig(backbone=BackboneConfig(dropout=0.2)).training_hash() != base


def test_checkpoints_of_before_still_fit() -> None:
    # The hash of the defaults as the first version with checkpoints had it: later settings leave it as it is.
    digest = "d051b00a02d9dd88aa43b148631f6a10870cd107c8daacd4287949c350960a6a"
    assert PretrainConfig().training_hash() == digest
