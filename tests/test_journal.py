"""Records appended as lines: what a kill leaves behind is passed over, and what comes after it is whole."""

from __future__ import annotations

import pytest

from aiop.journal import append, read_lines


def test_what_is_appended_is_read_in_order(tmp_path):
    path = tmp_path / "log.jsonl"
    assert list(read_lines(path)) == []
    for number in range(3):
        append(path, {"n": number, "name": "ä"})
    assert list(read_lines(path)) == [{"n": number, "name": "ä"} for number in range(3)]


@pytest.mark.parametrize("left", ['{"n": 1', '{"n": 1}', "\xff", "[1, 2]\n", "\n"])
def test_what_is_no_whole_record_is_passed_over_and_ended(tmp_path, left):
    path = tmp_path / "log.jsonl"
    append(path, {"n": 0})
    with path.open("ab") as file:
        file.write(left.encode("latin-1"))
    assert list(read_lines(path)) == [{"n": 0}]
    append(path, {"n": 2})
    assert [record["n"] for record in read_lines(path)][-1] == 2
    assert path.read_bytes().endswith(b'{"n": 2}\n')


def test_what_json_has_no_word_for_is_not_written(tmp_path):
    path = tmp_path / "log.jsonl"
    with pytest.raises(ValueError, match="JSON"):
        append(path, {"n": float("inf")})
    assert not path.exists()
