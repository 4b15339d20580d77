"""Slow-fast learning: the published code of `darts`, the update rule, and a search that is replayed."""

from __future__ import annotations

import numpy as np
import pytest

from aiop.errors import AiopError
from aiop.search.methods.base import Problem, Scorer, Scores
from aiop.search.methods.relative import POPULATION, RelativeSearch
from aiop.search.methods.slow_fast import moved, pairs, points_of
from aiop.tasks import get_space, list_tasks
from aiop.tasks.spaces.darts import DARTS_V1, DARTS_V2, PUBLISHED, RELATIVE_NAS

NATS = "classification/nats-size/cifar10-test-top1"
# By hand, in the order max3 avg3 skip sep3 sep5 dil3 dil5 = 0 to 6: (source, operation) of each input of each node.
RELATIVE_VALUES = [
    0, 3, 1, 6, 1, 3, 1, 3, 1, 3, 1, 4, 0, 2, 0, 3,
    1, 1, 1, 0, 1, 6, 1, 0, 3, 1, 1, 2, 3, 6, 1, 3,
]  # fmt: skip


class Drawn:
    """Gives the numbers it is made of in the place of random ones."""

    def __init__(self, *rows):
        self.rows = np.array(rows, float)

    def random(self, shape):
        assert shape == self.rows.shape
        return self.rows


def worth(code):
    return float(sum(map(int, code.split(":"))))


def problem(**settings):
    return Problem("nats-size", (NATS,), worth, **settings)


def run(search, count, value=worth):
    asked = []
    for _ in range(count):
        asked.append(search.ask())
        search.tell(asked[-1], value(asked[-1]))
    return asked


def test_darts_has_the_published_thirty_two_reals():
    one = [2, 7, 2, 7, 3, 7, 3, 7, 4, 7, 4, 7, 5, 7, 5, 7]
    assert points_of("darts").upper.tolist() == [*one, *one]


def test_the_published_cells_are_the_floor_of_their_point():
    points = points_of("darts")
    values = np.array(RELATIVE_VALUES, float)
    assert points.decode(values) == RELATIVE_NAS
    assert points.decode(values + 0.999) == RELATIVE_NAS
    assert points.encode(RELATIVE_NAS).tolist() == (values + 0.5).tolist()


def test_the_upper_end_belongs_to_the_last_value():
    points = points_of("darts")
    edge = "|dil_conv_5x5~{0}|dil_conv_5x5~{0}|"
    cell = "+".join(edge.format(node - 1) for node in (2, 3, 4, 5))
    assert points.decode(points.upper) == f"{cell}/{cell}"
    assert points.decode(np.zeros(32)) == "/".join(["+".join(["|max_pool_3x3~0|max_pool_3x3~0|"] * 4)] * 2)


@pytest.mark.parametrize("code", [DARTS_V1, DARTS_V2, RELATIVE_NAS])
def test_published_cells_come_back_from_any_of_their_points(code):
    points, random = points_of("darts"), np.random.default_rng(1)
    drawn = [points.encode(code, random) for _ in range(20)]
    assert {points.decode(point) for point in drawn} == {code}
    assert len({point.tobytes() for point in drawn}) == 20


def test_a_cell_that_leaves_nodes_out_has_no_point():
    cells = [cell + ":3,5" for cell in PUBLISHED["darts-v2"].split("/")]
    with pytest.raises(AiopError, match="some nodes"):
        points_of("darts").encode("/".join(cells))


@pytest.mark.parametrize("space", ["nats-size", "nas-bench-201", "nas-bench-mr", "ofa-mbv3"])
def test_codes_of_any_space_come_back_from_their_points(space):
    points, grammar, random = points_of(space), get_space(space), np.random.default_rng(2)
    for _ in range(10):
        code = grammar.sample(random)
        point = points.encode(code, random)
        assert points.decode(point) == code
        assert (point >= 0).all()
        assert (point <= points.upper).all()


def test_nats_size_is_five_numbers_of_eight():
    points = points_of("nats-size")
    assert points.upper.tolist() == [8] * 5
    assert points.decode(np.array([0.0, 1.0, 2.99, 7.2, 8.0])) == "8:16:24:64:64"


def test_the_slow_learner_moves_as_published_and_is_clipped():
    slow, fast, velocity = np.array([1.0, 2.0, 6.5]), np.array([3.0, 1.0, 7.0]), np.array([0.5, -4.0, 1.0])
    place, after = moved(
        slow, fast, velocity, np.array([7.0, 7.0, 7.0]), Drawn([0.5, 0.75, 0.5], [0.25, 0.5, 1.0])
    )
    # 0.5 * 0.5 + 0.25 * 2 = 0.75; 0.75 * -4 + 0.5 * -1 = -3.5; 0.5 * 1 + 1 * 0.5 = 1
    assert after.tolist() == [0.75, -3.5, 1.0]
    assert place.tolist() == [1.75, 0.0, 7.0]
    assert slow.tolist() == [1.0, 2.0, 6.5]


@pytest.mark.parametrize(("count", "rest"), [(20, 0), (7, 1)])
def test_each_learner_is_in_one_pair(count, rest):
    drawn = pairs(count, np.random.default_rng(0))
    assert drawn.shape == (count // 2, 2)
    assert len(set(drawn.ravel().tolist())) == count - rest


def test_of_a_pair_the_worse_moves_towards_the_better():
    search = RelativeSearch(problem(), population=2, seed=3)
    first, second = run(search, 2)
    herd = search._learners
    rows = {code: row for row, code in enumerate((first, second))}
    better, worse = sorted((first, second), key=worth, reverse=True)
    points = search.points
    start = points.decode(herd.places[rows[better]])
    assert start == better  # it stayed
    assert not herd.velocities[rows[better]].any()
    way = points.encode(better) - points.encode(worse)
    velocity = herd.velocities[rows[worse]]
    assert (np.sign(velocity) * np.sign(way))[np.abs(way) >= 1].min() > 0


def test_smaller_values_win_where_smaller_is_better():
    task = next(name for name in list_tasks("latency/nas-bench-201/*"))
    search = RelativeSearch(Problem("nas-bench-201", (task,), lambda code: 1.0), population=2)
    first = search.ask()
    search.tell(first, 1.0)
    search.tell(search.ask(), 2.0)
    herd = search._learners
    assert first in herd.codes
    assert not herd.velocities[herd.codes.index(first)].any()


@pytest.mark.parametrize("count", [3, POPULATION, 37])
def test_a_replayed_search_is_the_same_one(count):
    whole, again = RelativeSearch(problem(), seed=5), RelativeSearch(problem(), seed=5)
    asked = run(whole, count)
    again.replay([(code, worth(code)) for code in asked])
    assert np.array_equal(again._begun().places, whole._begun().places)
    assert run(again, 12) == run(whole, 12)


def test_a_move_out_of_the_budget_is_shortened():
    search = RelativeSearch(problem(budget=(0, 160)), seed=1)
    asked = run(search, 60)
    assert max(map(worth, asked)) <= 160
    assert all(worth(code) <= 160 for code in search._learners.codes)
    # The better an allowed code, the nearer to the bound: half of the draws inside have at most 128.
    assert search.best().value >= 152


def test_a_population_that_has_come_together_begins_anew():
    search = RelativeSearch(problem(), seed=2, population=4)
    asked = run(search, 150)
    assert len(set(asked)) == 150
    assert search.best().value == max(map(worth, asked)) >= 296  # of at most 320


def test_on_a_list_learners_stand_on_candidates():
    random = np.random.default_rng(0)
    listed = tuple(dict.fromkeys(get_space("nats-size").sample(random) for _ in range(40)))
    search = RelativeSearch(problem(candidates=listed), seed=1)
    run(search, 25)
    assert set(search._learners.codes) <= set(listed)


class Exact(Scorer):
    """Knows the truth and counts how often it is fitted."""

    def __init__(self):
        self.fitted = []

    def fit(self, codes, values):
        self.fitted.append(len(codes))

    def score(self, codes, *, sure=True):
        return Scores(np.array([worth(code) for code in codes]), np.full(len(codes), np.nan))


def test_a_scorer_leads_to_the_best_and_is_fitted_now_and_then():
    scorer = Exact()
    search = RelativeSearch(problem(), scorer=scorer, seed=1)
    asked = run(search, 21)
    assert sorted(scorer.fitted)[-3:] == [0, 10, 20]
    assert worth(asked[0]) >= 304  # of at most 320: what 25 generations reach before anything is told
    assert asked[:10] == sorted(asked[:10], key=worth, reverse=True)
