"""A protocol from split files to tables, on small tables and a predictor that hardly trained."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from aiop.cli.main import app
from aiop.errors import AiopError
from aiop.protocols import bench
from aiop.protocols.bench import run_protocol
from aiop.protocols.store import Store
from aiop.tasks.corpora import cache_dir

SEEN, NEW = "transnas-macro", "nas-bench-macro"
TOP1, JIGSAW = f"classification/{NEW}/cifar10-test-top1", f"self-supervision/{SEEN}/jigsaw-top1"


@pytest.fixture
def ask(world, monkeypatch, tmp_path):
    """Run a protocol with a results file and documents of its own."""
    monkeypatch.setenv("AIOP_CACHE", str(tmp_path))
    for corpus in (world.folder / "cache").glob("*.corpus"):
        (tmp_path / corpus.name).symlink_to(corpus)

    def run(protocol="unseen-space", **options):
        options = {
            "predictor": world.predictor,
            "protocols": world.plans,
            "seeds": 3,
            "budgets": [0, 10, 20],
        } | options
        return run_protocol(protocol, progress=False, **options)

    return run


def plain(outcome):
    entries = [entry.to_dict() for entry in outcome.entries]
    for entry in entries:
        for cells in entry["methods"].values():
            for cell in cells.values():
                del cell["seconds"]
    return entries


def test_results_are_those_of_the_labels_and_the_test_networks(ask, world):
    (entry,) = ask().entries
    assert (entry.task, entry.kind, entry.space_seen) == (TOP1, "few-shot", False)
    split = json.loads((world.plans / "tables" / f"{NEW}.json").read_text())
    table = world.tables[NEW]
    values, test = table.values[TOP1], split["test"]
    from aiop.tasks.corpora import open_corpus

    macs = np.log(open_corpus(table).macs[: len(table)])
    expected = []
    for draw in split["draws"][:3]:
        line = np.polyfit(macs[draw[:20]], values[draw[:20]], 1)
        expected.append(np.abs(np.polyval(line, macs[test]) - values[test]).mean())
    assert entry.score("head", 20, "mae") == pytest.approx(np.mean(expected), abs=1e-5)
    assert entry.cells["head"][20].deviation["mae"] == pytest.approx(np.std(expected, ddof=1), abs=1e-5)
    ranks = stats.spearmanr(macs[test], values[test]).statistic
    assert entry.score("macs", 0) == pytest.approx(ranks, abs=1e-5)
    inside = np.abs(np.polyval(line, macs[test]) - values[test]) <= 1
    assert 0 <= entry.score("head", 20, "coverage") <= 1
    assert inside.mean() == pytest.approx(
        next(
            record["coverage"]
            for record in Store(cache_dir() / "bench" / "results.jsonl").records.values()
            if (record["method"], record["labels"], record["draw"]) == ("head", 20, 2)
        ),
        abs=1e-5,
    )
    assert "mae" not in entry.cells["macs"][20].mean  # it only ranks
    assert 0 not in entry.cells["guess"]  # it needs two labels
    assert entry.cells["head"][0].draws == 1  # without labels there is one answer
    assert entry.cells["head"][20].draws == 3


def test_what_is_there_is_not_computed_again(ask, tmp_path):
    first = ask(out=tmp_path / "out")
    again = ask(out=tmp_path / "out", seeds=3)
    assert first.computed > 0
    assert again.computed == 0
    assert first.text == again.text
    more = ask(seeds=4)
    assert 0 < more.computed < first.computed


def test_an_interrupted_run_goes_on_and_ends_like_one_that_was_not(ask, tmp_path, monkeypatch):

    whole = plain(ask())
    (tmp_path / "bench" / "results.jsonl").unlink()
    least = type(bench.find_methods()["head"].make(_Setting()))
    least.fits, least.stop_at = 0, 8
    with pytest.raises(KeyboardInterrupt):
        ask()
    kept = len(Store(tmp_path / "bench" / "results.jsonl").records)
    assert kept > 0
    least.stop_at = -1
    resumed = ask()
    assert resumed.computed > 0
    assert plain(resumed) == whole


class _Setting:
    seed = 0
    task = None


def test_a_changed_table_is_refused(ask, world, monkeypatch):
    table = world.tables[NEW]
    monkeypatch.setitem(table.files, f"{NEW}.parquet", "1" * 64)
    with pytest.raises(AiopError, match=r"stale|another table"):
        ask()


def test_changed_code_is_computed_again(ask, monkeypatch):
    ask()
    known = bench.find_methods()
    changed = known | {"guess": replace(known["guess"], code="2")}
    monkeypatch.setattr(bench, "find_methods", lambda: changed)
    assert ask().computed == 3 * 2  # the draws and numbers of labels of that method alone


def test_a_task_that_was_seen_is_refused(ask):
    with pytest.raises(AiopError, match="has nothing to ask fold-1 of the 1 tasks"):
        ask("unseen-task", tasks="classification/transnas-macro/class_scene-top1")


def test_an_unseen_task_of_a_seen_space(ask):
    (entry,) = ask("unseen-task", tasks="self-supervision/*").entries
    assert (entry.task, entry.space_seen) == (JIGSAW, True)


def test_folds_are_judged_on_what_the_plan_keeps_out(ask, world):
    (entry,) = ask("unseen-space", predictor=None, predictors=world.folder / "folds").entries
    assert (entry.fold, entry.task) == ("fold-1", TOP1)
    outcome = ask("unseen-task", predictor=None, predictors=world.folder / "folds")
    # the new space has one group of tasks, so that there the unseen space is the unseen task
    assert {entry.task for entry in outcome.entries} == {TOP1, JIGSAW}


def test_a_fold_that_has_seen_what_it_keeps_out_is_refused(ask, world, monkeypatch):
    text = (world.plans / "plan.yaml").read_text()
    leaky = world.folder / "leaky"
    (leaky / "tables").mkdir(parents=True, exist_ok=True)
    (leaky / "plan.yaml").write_text(text.replace("- nas-bench-macro", "- transnas-macro"))
    with pytest.raises(AiopError, match="has seen table transnas-macro, which fold-1 keeps out"):
        ask(predictor=None, predictors=world.folder / "folds", protocols=leaky)


def test_baselines_are_computed_before_any_fold_is_trained(ask, world):
    ahead = ask(predictor=None, baselines_only=True)
    assert ahead.computed == 3 * 2 + 1 + 2 * 3  # guesses at 10 and 20; costs, without labels once
    assert {name for entry in ahead.entries for name in entry.cells} == {"guess", "macs"}
    later = ask(predictor=None, predictors=world.folder / "folds")
    assert later.computed == 3 * 2 + 1  # the head alone
    assert set(later.entries[0].cells) == {"head", "guess", "macs"}
    assert ask().computed == 0  # the same weights, as a predictor that is no fold
    assert (
        ask("unseen-task", tasks=TOP1).computed == 0
    )  # the same labels and test networks in another protocol


def test_what_was_ahead_is_what_comes_after(ask, tmp_path):
    (before,) = plain(ask(predictor=None, baselines_only=True))
    (tmp_path / "bench" / "results.jsonl").unlink()
    (after,) = plain(ask())
    assert {name: after["methods"][name] for name in before["methods"]} == before["methods"]


def test_a_fold_that_is_not_trained_is_passed_over(ask, world, tmp_path):
    (tmp_path / "folds" / "fold-1").mkdir(parents=True)
    with pytest.raises(AiopError, match="holds no predictor of a fold"):
        ask(predictor=None, predictors=tmp_path / "folds")


def test_without_tasks_the_representative_ones_are_asked(ask, world, tmp_path):
    plans = tmp_path / "plans"
    (plans / "tables").mkdir(parents=True)
    for path in (world.plans / "tables").iterdir():
        (plans / "tables" / path.name).symlink_to(path)
    text = (world.plans / "plan.yaml").read_text()
    (plans / "plan.yaml").write_text(f"{text}\nrepresentative: ['{JIGSAW}']\n")

    def asked(**more):
        return {
            entry.task for entry in ask("unseen-task", seeds=1, budgets=[0], protocols=plans, **more).entries
        }

    assert asked() == {JIGSAW}
    assert asked(tasks="*") == {JIGSAW, TOP1}


def test_baselines_alone_are_given_more_labels(ask, world, tmp_path):
    plans = tmp_path / "plans"
    (plans / "tables").mkdir(parents=True)
    for path in (world.plans / "tables").iterdir():
        (plans / "tables" / path.name).symlink_to(path)
    (plans / "plan.yaml").write_text((world.plans / "plan.yaml").read_text() + "\nbeyond: [60]\n")
    (entry,) = ask(protocols=plans, budgets=None, methods="head,guess").entries
    assert 60 in entry.cells["guess"]
    assert 60 not in entry.cells["head"]


def test_what_takes_long_is_asked_less_often(ask, monkeypatch):
    known = bench.find_methods()
    slow = replace(known["guess"], most_draws=1, usual_labels=(20,))
    monkeypatch.setattr(bench, "find_methods", lambda: known | {"guess": slow})
    (entry,) = ask(budgets=None, seeds=3).entries
    assert {labels: cell.draws for labels, cell in entry.cells["guess"].items()} == {20: 1}
    assert entry.cells["head"][10].draws == 3
    (entry,) = ask(budgets=[10], seeds=3).entries  # asked for expressly
    assert entry.cells["guess"][10].draws == 1


def test_networks_kept_out_are_asked_of_the_predictor_itself(ask, world):
    (entry,) = ask("unseen-networks").entries
    import aiop
    from aiop.tasks.corpora import open_corpus

    table = world.tables[SEEN]
    test = json.loads((world.plans / "tables" / f"{SEEN}.json").read_text())["test"]
    predictor = aiop.load(world.predictor)
    predicted = predictor.predict_corpus(open_corpus(table), np.array(test))[
        :, predictor.names.index(entry.task)
    ]
    expected = stats.spearmanr(predicted, table.values[entry.task][test]).statistic
    assert entry.score("predictor", -1) == pytest.approx(expected, abs=1e-4)
    assert set(entry.cells) == {"predictor", "macs"}  # of the others none is meant for all training networks


def test_documents_hold_all_that_is_known(ask, tmp_path):
    ask("unseen-task", tasks=TOP1, out=tmp_path / "out")
    outcome = ask("unseen-task", tasks=JIGSAW, out=tmp_path / "out")
    assert TOP1 not in outcome.text
    text = (tmp_path / "out" / "unseen-task.md").read_text()
    assert TOP1 in text
    assert JIGSAW in text
    values = json.loads((tmp_path / "out" / "unseen-task.json").read_text())
    assert {entry["task"] for entry in values["entries"]} == {TOP1, JIGSAW}
    assert values["predictors"]["fold-1"]["tables"] == [SEEN]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "unseen-thing"}, 'protocol "unseen-thing" is unknown'),
        ({"seeds": 9}, "hold 8 draws"),
        ({"jobs": 0}, "at least 1"),
        ({"budgets": [501]}, "from 0 to 500"),
        ({"methods": "hed"}, 'matches no method .did you mean "head"'),
        ({"tasks": "*/nas-bench-macroo/*"}, "matches no task"),
        ({"predictors": "folds"}, "both given"),
        ({"predictor": "nowhere"}, "holds no predictor"),
        ({"predictor": None, "predictors": "nowhere"}, "holds no predictor of a fold"),
        ({"protocols": "nowhere"}, "holds no plan.yaml"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line(ask, options, message):
    with pytest.raises(AiopError, match=message):
        ask(**options)


def test_from_the_command_line(ask, world, tmp_path):
    def run(*options):
        where = ["--predictor", world.predictor, "--protocols", world.plans, "--out", tmp_path / "out"]
        return CliRunner().invoke(
            app, ["bench", "unseen-space", *map(str, where), *options], prog_name="aiop"
        )

    found = run("--seeds", "1", "--budgets", "0,10", "--json")
    assert found.exit_code == 0, found.stderr
    (entry,) = map(json.loads, found.stdout.splitlines())
    assert entry["task"] == TOP1
    assert set(entry["methods"]["head"]) == {"0", "10"}
    assert "| head |" in run("--seeds", "1", "--budgets", "0,10").stdout
    refused = run("--budgets", "ten")
    assert refused.exit_code == 1
    assert refused.stderr.startswith('error: --budgets "ten" is not a list of numbers')
