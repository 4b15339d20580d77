"""A head on disk: the same again, and nothing but a line for whatever is not one."""

import json

import numpy as np
import pytest
import safetensors.numpy
from own_labels import codes, value

import aiop
from aiop.errors import AiopError
from aiop.predictor import head_file
from aiop.pretrain.card import SHIPPED, WEIGHTS
from aiop.pretrain.weights_io import load_predictor, save_predictor

NEW = codes(8, seed=2)
MUTATIONS = 400


@pytest.fixture(scope="module")
def saved(own_head, tmp_path_factory):
    path = tmp_path_factory.mktemp("heads") / "my_task.head"
    own_head.save(path)
    return path


def parts(path):
    """Arrays and description of a head file."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return safetensors.numpy.load(content), json.loads(
        json.loads(content[8 : 8 + length])["__metadata__"]["head"]
    )


def forge(path, arrays, document):
    """Write a file that is whole, its hash right, whatever it says."""
    text = json.dumps(document)
    safetensors.numpy.save_file(arrays, path, {"head": text, "sha256": head_file._digest(text, arrays)})
    return path


def test_loaded_it_says_the_same(saved, own_head):
    head = aiop.load_head(saved)
    assert head.task == own_head.task
    assert head.predict(NEW) == own_head.predict(NEW)
    assert head.record.scores == own_head.record.scores
    assert head.record.marks == own_head.record.marks
    assert head.record.held_out == pytest.approx(own_head.record.held_out)
    assert dict(head.head.weights_) == pytest.approx(dict(own_head.head.weights_))


def test_saved_again_it_is_the_same_to_the_byte(saved, tmp_path):
    aiop.load_head(saved).save(tmp_path / "again.head")
    assert (tmp_path / "again.head").read_bytes() == saved.read_bytes()


def test_it_holds_no_names_of_networks(saved, own_table):
    content = saved.read_bytes()
    assert b"nas-bench-macro:" not in content
    assert str(own_table.parent).encode() not in content


def test_other_people_may_read_it(saved, tmp_path):
    (tmp_path / "plain").write_text("")
    assert saved.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_mutated_bytes_are_refused_in_one_line(saved, tmp_path):
    content, rng, path = saved.read_bytes(), np.random.default_rng(0), tmp_path / "m.head"
    header = 8 + int.from_bytes(content[:8], "little")
    for number in range(MUTATIONS):
        mutated = bytearray(content)
        # half of them where the description lies, which is what is parsed
        place = int(rng.integers(0, header if number % 2 else len(content)))
        mutated[place] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(mutated)
        with pytest.raises(AiopError) as refused:
            aiop.load_head(path)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 400


@pytest.mark.parametrize("length", [0, 7, 8, 100, -1, -100])
def test_truncated_files_are_refused(saved, tmp_path, length):
    path = tmp_path / "half.head"
    path.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(AiopError, match=r"half\.head"):
        aiop.load_head(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95cos\nsystem\n(S'id'\ntR.", b"PK\x03\x04", b"{}" * 50])
def test_what_is_no_head_at_all(tmp_path, content):
    (tmp_path / "x.head").write_bytes(content)
    with pytest.raises(AiopError, match=r"x\.head"):
        aiop.load_head(tmp_path / "x.head")


def test_the_weights_of_a_predictor_are_no_head():
    with pytest.raises(AiopError, match="is not the file of a head: give one that `aiop finetune` wrote"):
        aiop.load_head(SHIPPED / WEIGHTS)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(AiopError, match="does not exist"):
        aiop.load_head(tmp_path / "none.head")
    with pytest.raises(AiopError, match="cannot be read"):
        aiop.load_head(tmp_path)


def test_a_head_of_another_predictor_is_refused_with_the_next_step(saved, tmp_path):
    module, card, arrays = load_predictor(SHIPPED)
    module.requires_grad_(True)
    next(iter(module.parameters())).data[0] += 0.5
    save_predictor(tmp_path / "other", module, card, arrays)
    with pytest.raises(
        AiopError, match=r"was made with predictor [0-9a-f]{12}, this is [0-9a-f]{12}: name that one with"
    ):
        aiop.load_head(saved, tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"schema": 99}, "has schema 99, this version reads 1: fit it again"),
        ({"kind": "aiop-predictor"}, "is not the file of a head"),
        ({"fingerprint": "0" * 64}, "was made with features 000000000000"),
        ({"predictor": "0" * 64}, "was made with predictor 000000000000"),
    ],
)
def test_heads_of_other_versions(saved, tmp_path, change, cause):
    arrays, document = parts(saved)
    with pytest.raises(AiopError, match=cause):
        aiop.load_head(forge(tmp_path / "x.head", arrays, document | change))


@pytest.mark.parametrize(
    "change",
    [
        {"task": None}, {"task": {"name": "a"}}, {"fit": {}}, {"fit": None}, {"state": None}, {"state": {}},
        {"state": []}, {"state": {"members": {"__reduce__": "os.system"}}},
    ],
)  # fmt: skip
def test_descriptions_that_fit_nothing(saved, tmp_path, change):
    arrays, document = parts(saved)
    with pytest.raises(AiopError, match="is damaged: its parts do not fit together"):
        aiop.load_head(forge(tmp_path / "x.head", arrays, document | change))


def test_each_field_of_the_fit_is_needed(saved, tmp_path):
    arrays, document = parts(saved)
    for field in document["fit"]:
        fit = {name: entry for name, entry in document["fit"].items() if name != field}
        with pytest.raises(AiopError, match="do not fit together"):
            aiop.load_head(forge(tmp_path / "x.head", arrays, document | {"fit": fit}))


def test_arrays_of_other_shapes_and_missing_ones_are_refused(saved, own_head, tmp_path):
    arrays, document = parts(saved)
    unused = 0
    for name, array in arrays.items():
        fewer = {other: entry for other, entry in arrays.items() if other != name}
        with pytest.raises(AiopError, match="do not fit together"):
            aiop.load_head(forge(tmp_path / "x.head", fewer, document))
        deeper = arrays | {name: np.zeros((3, *array.shape), array.dtype)}
        try:
            head = aiop.load_head(forge(tmp_path / "x.head", deeper, document))
        except AiopError:
            continue
        unused += 1  # of a member without weight, say: then it is of no consequence
        assert head.predict(NEW[:2]) == own_head.predict(NEW[:2]), name
    assert unused < len(arrays) / 4


def test_arrays_that_are_not_finite_are_refused(saved, tmp_path):
    arrays, document = parts(saved)
    full = next(name for name, array in arrays.items() if array.dtype == np.float32 and array.size)
    for name in ("held_out", full):
        changed = arrays | {name: np.full_like(arrays[name], np.nan)}
        with pytest.raises(AiopError, match=f"array '{name}' is not finite"):
            aiop.load_head(forge(tmp_path / "x.head", changed, document))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "NaN", '{"kind": NaN}', '"aiop-head"', '{"kind": "aiop-head"}', '"\\ud800"']
)
def test_hostile_descriptions(saved, tmp_path, text):
    arrays, _ = parts(saved)
    path = tmp_path / "x.head"
    safetensors.numpy.save_file(arrays, path, {"head": text, "sha256": head_file._digest(text, arrays)})
    with pytest.raises(AiopError, match=r"x\.head"):
        aiop.load_head(path)


def test_where_no_file_can_be(own_head, tmp_path):
    with pytest.raises(AiopError, match="it is a directory"):
        own_head.save(tmp_path)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(AiopError, match="cannot be written"):
        own_head.save(tmp_path / "file" / "my.head")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_head_replaces_an_older_one_as_a_whole(own_head, tmp_path, monkeypatch):
    path = tmp_path / "my.head"
    own_head.save(path)
    before = path.read_bytes()

    def broken(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", broken)
    with pytest.raises(AiopError, match="No space left on device"):
        own_head.save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["my.head"]


def test_unknown_content_hashes_are_kept_as_such(own_cache, tmp_path):
    head = aiop.fit_head({name: value(name) for name in codes(5)})
    object.__setattr__(head.record, "marks", ("", *head.record.marks[1:]))
    head.save(tmp_path / "x.head")
    assert aiop.load_head(tmp_path / "x.head").record.marks == head.record.marks
