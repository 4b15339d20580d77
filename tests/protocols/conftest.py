"""Two small tables under names of benchmark tables, a plan for them, and a predictor trained on one of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from aiop.predictor import pretrain_from_config
from aiop.protocols import bench, judge, seen, splits
from aiop.protocols.methods import Method
from aiop.protocols.plan import load_plan
from aiop.tasks import get_space, get_task, task
from aiop.tasks.corpora import build_corpus, open_corpus
from aiop.tasks.tables import Table, load_table, table

SEEN, NEW = "transnas-macro", "nas-bench-macro"
SCENE, JIGSAW = f"classification/{SEEN}/class_scene-top1", f"self-supervision/{SEEN}/jigsaw-top1"
TOP1 = f"classification/{NEW}/cifar10-test-top1"
PLAN = {
    "groups": {
        "transnas/class": ["classification/transnas-*/*"],
        "transnas/jigsaw": ["self-supervision/*/jigsaw-*"],
        "macro/top1": [f"classification/{NEW}/*"],
    },
    "folds": {"fold-1": {"spaces": [NEW], "groups": ["transnas/jigsaw"]}},
    "budgets": {TOP1: [30]},
}


@dataclass
class Least:
    """Least squares on log MACs; counts its fits, and stops at one of them where asked to."""

    seed: int = 0
    fits = 0
    stop_at = -1

    def fit(self, views, values):
        type(self).fits += 1
        if type(self).fits == type(self).stop_at:
            raise KeyboardInterrupt
        x = np.log(views.macs)
        self.line = np.polyfit(x, values, 1) if len(values) > 1 else np.array([1.0, 0.0])
        return self

    def predict(self, views):
        return np.polyval(self.line, np.log(views.macs))

    def interval(self, views):
        return self.predict(views) - 1.0, self.predict(views) + 1.0


class Guess:
    """Numbers drawn under a seed, whatever the labels are."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def fit(self, views, values):
        return self

    def predict(self, views):
        return self.random.normal(size=len(views))


METHODS = {
    "head": Method("head", lambda setting: Least(setting.seed), code="1", ours=True, scratch=False),
    "guess": Method("guess", lambda setting: Guess(setting.seed), least_labels=2, code="1"),
    "macs": Method("macs", lambda setting: Least(), ranks_only=True, code="1"),
}


def small(name: str, count: int) -> Table:
    """The first codes of a space, whose values grow with their length and a number drawn for each."""
    space, random = get_space(name), np.random.default_rng(1)
    codes = list(dict.fromkeys(space.sample(random) for _ in range(4 * count)))[:count]
    networks = [f"{name}:{code}" for code in codes]
    base = np.array([sum(map(int, filter(str.isdigit, code))) for code in codes], float)
    scales = {TOP1: 1.0} if name == NEW else {SCENE: 1.0, JIGSAW: 2.0}
    values = {each: 50 + scale * base + random.normal(size=count) for each, scale in scales.items()}
    costs = np.full(count, np.nan)
    return Table(name, networks, values, networks, costs, costs, {f"{name}.parquet": "0" * 64}, "MIT")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Tables, corpora, plan, split files and the predictor of fold-1, all in one folder."""
    folder: Path = tmp_path_factory.mktemp("world")
    tables = {name: small(name, 130) for name in (SEEN, NEW)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task, "_TASKS", {name: get_task(name) for name in (SCENE, JIGSAW, TOP1)})
        patch.setattr(table, "_LOADERS", {name: lambda _, name=name: tables[name] for name in tables})
        patch.setenv("AIOP_DATA", str(folder))
        patch.setenv("AIOP_CACHE", str(folder / "cache"))
        patch.setattr(splits, "_SMALL", 50)
        patch.setattr(bench, "find_methods", lambda: METHODS)
        plans = folder / "protocols"
        (plans / "tables").mkdir(parents=True)
        (plans / "plan.yaml").write_text(yaml.safe_dump(PLAN))
        for name in tables:
            build_corpus(name, workers=1, progress=False)
            loaded = load_table(name)
            made = splits.make_split(loaded, open_corpus(loaded))
            (plans / "tables" / f"{name}.json").write_text(json.dumps(made))
        settings = {
            "corpora": [SEEN], "exclude": ["self-supervision/*"], "out": "folds/fold-1", "steps": 3, "batch_size": 16,
            "eval_every": 0, "threads": 1, "backbone": {"width": 16, "layers": 2, "embedding": 16, "head": 16},
        }  # fmt: skip
        (folder / "fold.yaml").write_text(yaml.safe_dump(settings))
        pretrain_from_config(folder / "fold.yaml", progress=False)
        yield SimpleNamespace(
            folder=folder,
            plans=plans,
            plan=load_plan(plans),
            predictor=folder / "folds" / "fold-1",
            tables=tables,
        )


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What one test loaded is not there for the next, whose tables may be others."""
    yield
    seen.bench.cache_clear()
    seen.see.cache_clear()
    judge._others.cache_clear()
    seen.look.cache_clear()
    Least.fits, Least.stop_at = 0, -1
