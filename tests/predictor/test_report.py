"""The page: complete, needing no network, and harmless whatever networks, columns and tables are called."""

import base64
import hashlib
import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from own_labels import codes, value
from scipy import stats

import aiop
from aiop.errors import AiopError
from aiop.predictor.report import check_report, write_report

pytest.importorskip("plotly")

EVIL = "<img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Elements with their attributes, and the text of scripts and of everything else."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.texts, self._script = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self._script = dict(attrs)

    def handle_endtag(self, tag):
        if tag == "script":
            self._script = None

    def handle_data(self, data):
        if self._script is not None:
            self.scripts.append((self._script, data))
        else:
            self.texts.append(data)

    def figures(self):
        return [json.loads(text) for attributes, text in self.scripts if attributes]


@pytest.fixture(scope="module")
def evil_table(own_cache, tmp_path_factory):
    """Networks, a column and a table whose names are markup."""
    folder = tmp_path_factory.mktemp("evil")
    names = codes(30)
    for place, name in enumerate(names[:3]):
        aiop.build(name, folder / f"{EVIL}{place}.onnx")
    networks = [f"{EVIL}{place}.onnx" for place in range(3)] + names[3:]
    pairs = enumerate(zip(networks, names, strict=True))
    lines = [f"{network},{value(name)},{place}" for place, (network, name) in pairs]
    path = folder / "<script>alert(1)<script>.csv"
    path.write_text("\n".join(["network,top1 [<b>%</b>],place", *lines]))
    return path


@pytest.fixture(scope="module")
def evil_page(evil_table, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "out.html"
    head = aiop.fit_head(evil_table, "top1", budget=15)
    evaluation = write_report(head, evil_table, "top1", path, draws=1)
    return evaluation, path.read_text("utf-8")


def test_names_are_text_and_nothing_else(evil_page):
    _, text = evil_page
    page = Page(text)
    tags = {tag for tag, _ in page.elements}
    assert tags <= set(
        "html head meta title style body h1 p table thead tbody tr th td small ul li noscript div figure h2 figcaption "
        "script".split()
    )
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
    assert any("<script>alert(1)<script>.csv" in piece for piece in page.texts)
    for figure in page.figures():
        written = json.dumps(figure)
        assert "<img" not in written
        assert "<script" not in written
        assert "<b>%" not in written


def test_only_the_pages_own_scripts_run(evil_page):
    page = Page(evil_page[1])
    (policy,) = (
        attributes["content"]
        for tag, attributes in page.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    running = [text for attributes, text in page.scripts if not attributes]
    hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in running}
    assert len(running) == 2
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == hashes
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]


def test_nothing_is_fetched(evil_page):
    for tag, attributes in Page(evil_page[1]).elements:
        assert not {"src", "href", "srcset", "action", "data"} & set(attributes), tag


def test_figures_show_what_was_evaluated(evil_page):
    evaluation, text = evil_page
    values, ranks, sizes, spaces, coverage, curves = Page(text).figures()
    points = [trace for trace in values["data"] if trace["mode"] == "markers"]
    assert [trace["name"] for trace in points] == ["new", "leave one out"]
    shown = np.concatenate([unpacked(trace["y"]) for trace in points])
    order = np.concatenate([np.flatnonzero(~evaluation.seen), np.flatnonzero(evaluation.seen)])
    assert shown == pytest.approx(evaluation.predicted[order])
    above = (evaluation.high - evaluation.predicted)[~evaluation.seen]
    assert unpacked(points[0]["error_y"]["array"]) == pytest.approx(above)
    places = np.concatenate([unpacked(trace["x"]) for trace in ranks["data"][1:]])
    assert places == pytest.approx(stats.rankdata(-evaluation.measured)[order])
    assert sizes["layout"]["xaxis"]["type"] == "log"
    assert {trace["name"] for trace in spaces["data"]} == {"ONNX files (3)", "nas-bench-macro (27)"}
    assert all(0 <= share <= 1 for share in unpacked(coverage["data"][0]["y"]))
    assert {trace["name"] for trace in curves["data"]} >= {"this head", "MACs only", "random forest"}


def unpacked(values):
    """A list of numbers, which plotly may write as typed bytes."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), np.dtype(values["dtype"]))
    return np.asarray(values, float)


def test_scores_and_notes_are_in_the_page(evil_page):
    evaluation, text = evil_page
    texts = " ".join(Page(text).texts)
    assert f"{evaluation.scores['head']['srcc']:.3f}" in texts
    assert f"{evaluation.scores['macs']['srcc']:.3f}" in texts
    assert "MACs only" in texts
    assert "15 of the 30 networks are, or compute the same as, those" in texts


def test_where_all_is_new_there_is_no_side_of_leave_one_out(own_head, tmp_path):
    known = set(codes(60))
    labels = {name: value(name) for name in codes(40, seed=1) if name not in known}
    write_report(own_head, labels, "top1", tmp_path / "out.html", draws=1)
    values, *_ = Page((tmp_path / "out.html").read_text("utf-8")).figures()
    assert [trace["name"] for trace in values["data"] if trace["mode"] == "markers"] == ["new"]


def test_two_labels_are_enough_for_a_page(own_head, tmp_path):
    labels = {name: value(name) for name in codes(2, seed=3)}
    write_report(own_head, labels, "top1", tmp_path / "out.html")
    assert len(Page((tmp_path / "out.html").read_text("utf-8")).figures()) == 3


@pytest.mark.parametrize(("name", "cause"), [("out.txt", "does not end in .html"), ("", "it is a directory")])
def test_where_no_page_can_be(tmp_path, name, cause):
    with pytest.raises(AiopError, match=cause):
        check_report(tmp_path / name)


def test_without_plotly_the_error_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(AiopError, match=r'pip install "aiop\[report\]"'):
        check_report(tmp_path / "out.html")
