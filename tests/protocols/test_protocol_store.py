"""Results on disk, and what tells them from results of other code."""

import pytest

from aiop.protocols import code
from aiop.protocols.store import KEY, Store


def record(**more):
    return dict.fromkeys(KEY, 0) | more


def test_an_unfinished_line_is_passed_over_and_not_appended_to(tmp_path):
    path = tmp_path / "deep" / "results.jsonl"
    Store(path).add(record(draw=1, srcc=0.5))
    with path.open("a") as file:
        file.write('{"kind": "few-')
    again = Store(path)
    assert Store.key(record(draw=1)) in again
    again.add(record(draw=2))
    assert {found["draw"] for found in Store(path).records.values()} == {1, 2}


def test_a_number_that_json_does_not_know_is_no_result(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        Store(tmp_path / "results.jsonl").add(record(srcc=float("nan")))


def test_code_counts_and_comments_do_not(tmp_path, monkeypatch):
    monkeypatch.setattr(code, "_ROOT", tmp_path)
    package = tmp_path / "aiop" / "finetune"
    package.mkdir(parents=True)
    (package / "head.py").write_text(
        '"""A head."""\nfrom aiop.finetune.tree import grow\n\ndef fit():\n    return grow\n'
    )
    (package / "tree.py").write_text("def grow():\n    return 1\n")

    def digest():
        code.code_digest.cache_clear()
        return code.code_digest("aiop.finetune.head")

    first = digest()
    (package / "head.py").write_text(
        '"""Another text."""\nfrom aiop.finetune.tree import grow\n\n\n'
        'def fit():\n    """Fit."""\n    return grow  # so\n'
    )
    assert digest() == first
    (package / "tree.py").write_text("def grow():\n    return 2\n")
    assert digest() != first
    code.code_digest.cache_clear()
