"""Networks that do not depend on their input are put at what a head knows of them, or after all others."""

import json

import numpy as np
import pytest

from aiop.finetune.chance import Chance, ranked_last
from aiop.finetune.head import FewShotHead
from aiop.finetune.views import Views


def views(count=60, blind=(), seed=0):
    rng = np.random.default_rng(seed)
    macs = np.exp(18 + rng.normal(size=count))
    mask = np.zeros(count, bool)
    mask[list(blind)] = True
    return Views(
        names=tuple(f"net-{row}" for row in range(count)),
        embedding=rng.normal(size=(count, 6)).astype(np.float32),
        outputs=np.zeros((count, 0), np.float32),
        graph=np.log(macs)[:, None].astype(np.float32),
        macs=macs,
        params=macs / 100,
        sources=(),
        blind=mask,
    )


def test_without_labels_they_come_last():
    seen = views(blind=(3, 7))
    ranks = FewShotHead().fit(seen.rows([]), np.zeros(0)).predict(seen)
    assert set(np.argsort(ranks)[:2]) == {3, 7}
    loss = FewShotHead(direction="min", quality=True).fit(seen.rows([]), np.zeros(0)).predict(seen)
    assert set(np.argsort(loss)[-2:]) == {3, 7}
    cost = FewShotHead(quality=False).fit(seen.rows([]), np.zeros(0))
    assert (cost.predict(seen) == cost.predict(views())).all()  # what they cost has nothing to do with it


@pytest.mark.parametrize("direction", ["max", "min"])
def test_with_labels_they_are_no_better_than_the_worst(direction):
    seen = views(blind=(50, 51))
    sign = 1 if direction == "max" else -1
    values = 70 + sign * 5 * np.log(seen.macs / seen.macs.min())
    head = FewShotHead(direction=direction, quality=True).fit(seen.rows(range(30)), values[:30])
    said = head.predict(seen)
    worst = values[:30].min() if direction == "max" else values[:30].max()
    assert (sign * said[50:52] <= sign * worst + 1e-6).all()
    low, high = head.interval(seen)
    assert ((low <= said) & (said <= high)).all()
    restored = FewShotHead.from_state(*(lambda a, d: (a, json.loads(json.dumps(d))))(*head.to_state()))
    assert (restored.predict(seen) == said).all()


def test_one_that_is_labelled_tells_of_all():
    seen = views(blind=(0, 50))
    values = 70 + 5 * np.log(seen.macs / seen.macs.min())
    values[[0, 50]] = 10.0
    head = FewShotHead().fit(seen.rows(range(40)), values[:40])
    assert head.predict(seen)[50] == pytest.approx(10.0)
    low, high = head.interval(seen)
    assert low[50] < 10.0 < high[50]


def test_nothing_is_said_of_costs_or_where_nobody_looked():
    seen, targets = views(blind=(1,)), np.arange(60.0)
    cost = Chance.fit(seen, targets, quality=False, direction="min")
    assert cost.level is None
    assert (cost.applied(seen, targets) == targets).all()
    unknown = Views(**{**{f: getattr(seen, f) for f in Views.__dataclass_fields__}, "blind": None})
    chance = Chance.fit(unknown, targets, quality=True, direction="max")
    assert (chance.applied(seen, targets) == targets).all()
    assert (ranked_last(unknown, targets, "max") == targets).all()
