"""What guides a search by default: a Gaussian process on the code, on what the predictor sees, and on its own rank.

A search measures one architecture after the other and wants an answer after each, so this is one process, not the
few-shot head with its members: three Matern kernels (over the choices of the code, the predictor's embedding, the
hand-made graph features) and a linear one over the rank that the predictor gives without labels. Labels decide what
each of them counts (`aiop.finetune.additive_kernel`). Bad architectures are many and far from the others: their
distance to the median enters as its logarithm, which leaves the process to tell the good ones apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular
from scipy.stats import norm, rankdata

from aiop.finetune.additive_kernel import JITTER, Component, kernel, own_variance, refined, start
from aiop.finetune.head import FewShotHead
from aiop.finetune.views import Views
from aiop.search.methods.choices import code_columns
from aiop.search.methods.problem import Problem, graph_of
from aiop.search.methods.scoring import Scorer, Scores, SeenCodes
from aiop.tasks import get_task

if TYPE_CHECKING:
    from aiop.predictor.predictor import Predictor

__all__ = ["ProcessScorer", "predictor_scorer"]

Array = npt.NDArray[Any]

_STAGES = (*range(6, 31, 3), 36, 43, 52, 65, 80, 100, 125, 160, 200, 250)
"""Labels after which the hyper-parameters are looked for anew; from the last on those of its labels stay."""
_STEPS = 25
_CLIP, _FLAT = 4.0, 1e-9
_CHUNK = 4096
_MAD = 1.4826  # of a normal variable, deviation over median absolute deviation


class ProcessScorer(Scorer):
    """A Gaussian process fitted to what was told.

    What it expects depends on the codes and values of the last `fit` and their order, not on what was fitted before.

    Args:
        problem: whose codes they are.
        views: codes -> what the predictor sees of them, ``(n,)``; counts alone are enough.
        own: name of the predictor's source that is the task itself, where it was trained on it: it ranks as long as
            there are no labels, in place of what its other sources agree on.
        seed: of the codes that others are compared with, where the problem has no list of them.
    """

    def __init__(
        self,
        problem: Problem,
        views: Callable[[Sequence[str]], Views],
        *,
        own: str | None = None,
        seed: int = 0,
    ) -> None:
        self._problem, self._views, self._own, self._seed = problem, views, own, seed
        self._turn = 1.0 if problem.direction == "max" else -1.0
        self._space: _Space | None = None
        self._hyper: tuple[tuple[str, ...], bytes, Array] | None = None
        self._label: _Label | None = None

    def fit(self, codes: Sequence[str], values: Array) -> None:
        """See `Scorer.fit`. Values that do not differ leave the ranks without labels."""
        goodness = self._turn * np.asarray(values, np.float64)
        self._label = None
        if len(codes) < 2 or not np.ptp(goodness) > 0:
            return
        space = self._ready()
        points = space.points(codes)
        label = _Label.fit(goodness)
        targets = label(goodness)
        hyper = self._refined(codes, goodness, space, points)
        matrix = kernel(space.components, hyper, points, points)
        matrix[np.diag_indices(len(matrix))] += math.exp(hyper[-1]) + JITTER
        self._factor = cholesky(matrix, lower=True)
        half = solve_triangular(self._factor, targets, lower=True)
        self._weights = solve_triangular(self._factor, half, lower=True, trans=1)
        self._points, self._fitted, self._label = points, hyper, label

    def score(self, codes: Sequence[str], *, sure: bool = True) -> Scores:
        """See `Scorer.score`."""
        space = self._ready()
        if self._label is None:
            return Scores(space.points(codes)["rank"][:, 0], np.full(len(codes), np.nan))
        mean, deviation = np.empty(len(codes)), np.full(len(codes), np.nan)
        for first in range(0, len(codes), _CHUNK):
            part = slice(first, first + _CHUNK)
            points = space.points(codes[part])
            cross = kernel(space.components, self._fitted, points, self._points)
            mean[part] = cross @ self._weights
            if sure:
                known = solve_triangular(self._factor, cross.T, lower=True)
                left = own_variance(space.components, self._fitted, points) - (known**2).sum(axis=0)
                deviation[part] = np.sqrt(np.maximum(left, JITTER))
        return Scores(mean, deviation)

    def placed(self, goodness: Array) -> Array:
        """See `Scorer.placed`."""
        return np.asarray(goodness, np.float64) if self._label is None else self._label(goodness)

    def _refined(
        self, codes: Sequence[str], goodness: Array, space: _Space, points: dict[str, Array]
    ) -> Array:
        """Return the hyper-parameters that the labels up to the last of `_STAGES` ask for."""
        count = max((stage for stage in _STAGES if stage <= len(codes)), default=0)
        part = goodness[:count]
        if not count or not np.ptp(part) > 0:
            return start(len(space.components))
        name, values = tuple(codes[:count]), part.tobytes()
        if self._hyper is None or self._hyper[:2] != (name, values):
            some = {block: matrix[:count] for block, matrix in points.items()}
            found = refined(space.components, some, _Label.fit(part)(part), steps=_STEPS)
            self._hyper = (name, values, found)
        return self._hyper[2]

    def _ready(self) -> _Space:
        if self._space is None:
            self._space = _Space(self._problem, self._views, self._own, self._problem.reference(self._seed))
        return self._space


class _Label:
    """Goodness on the scale of the process: standardised, below the median as a logarithm."""

    def __init__(self, median: float, width: float, centre: float, scale: float) -> None:
        self.median, self.width, self.centre, self.scale = median, width, centre, scale

    @classmethod
    def fit(cls, goodness: Array) -> _Label:
        median = float(np.median(goodness))
        width = _MAD * float(np.median(np.abs(goodness - median))) or float(goodness.std())
        plain = cls(median, width, 0.0, 1.0)
        bent = plain(goodness)
        return cls(median, width, float(bent.mean()), max(float(bent.std()), _FLAT))

    def __call__(self, goodness: Array) -> Array:
        away = (np.asarray(goodness, np.float64) - self.median) / self.width
        bent = np.where(away < 0, -np.log1p(np.maximum(-away, 0.0)), away)
        return np.asarray((bent - self.centre) / self.scale)


class _Space:
    """Codes as points: blocks of columns that are standardised over the codes of reference.

    ``rank``: normal scores of the predictor's rank without labels among these; ``code``: `code_columns`; ``embedding``
    and ``graph`` of `Views`, where there are any.
    """

    def __init__(
        self,
        problem: Problem,
        views: Callable[[Sequence[str]], Views],
        own: str | None,
        reference: Sequence[str],
    ) -> None:
        self._problem, self._views, self._own, self._reference = problem, views, own, tuple(reference)
        seen = views(reference)
        self._prepared = {
            name: _standard(np.asarray(getattr(seen, name), np.float64)) for name in ("embedding", "graph")
        }
        self._places: dict[str, int] = {}
        self._rows: dict[str, Array] = {}
        self._add(list(dict.fromkeys(reference)), seen)
        smooth = [name for name in ("code", "embedding", "graph") if self._rows[name].shape[1]]
        self.components: tuple[Component, ...] = (*((name, "local") for name in smooth), ("rank", "linear"))

    def points(self, codes: Sequence[str]) -> dict[str, Array]:
        """Return the blocks of codes, ``(n, D)`` each."""
        new = [code for code in dict.fromkeys(codes) if code not in self._places]
        if new:
            self._add(new, self._views(new))
        places = [self._places[code] for code in codes]
        return {name: matrix[places] for name, matrix in self._rows.items()}

    def _add(self, codes: list[str], seen: Views) -> None:
        found = {
            name: prepare(np.asarray(getattr(seen, name), np.float64))
            for name, prepare in self._prepared.items()
        }
        found["code"] = code_columns(self._problem.space, codes)
        found["rank"] = self._ranks(codes, seen)[:, None]
        for name, matrix in found.items():
            self._rows[name] = (
                matrix if name not in self._rows else np.concatenate([self._rows[name], matrix])
            )
        self._places |= {code: len(self._places) + place for place, code in enumerate(codes)}

    def _ranks(self, codes: list[str], seen: Views) -> Array:
        """Return the predictor's ranks among the codes of reference, as normal scores ``(n,)``, larger is better."""
        task = get_task(self._problem.task)
        others = self._reference if self._places else ()
        if others:
            seen = self._views([*codes, *others])
        if self._own is not None:
            ranks = np.asarray(seen.outputs[:, seen.sources.index(self._own)], np.float64)
        else:
            ranks = FewShotHead.for_task(task).fit(seen.rows([]), np.zeros(0)).predict(seen)
        turned = ranks if task.direction == "max" else -ranks
        return np.asarray(norm.ppf((rankdata(turned) - 0.5) / len(turned))[: len(codes)])


def _standard(columns: Array) -> Callable[[Array], Array]:
    """Return what standardises columns as these ``(n, D)`` are, without those that do not vary; a row has length 1."""
    deviation = columns.std(axis=0) if len(columns) else np.zeros(columns.shape[1])
    varies = deviation > _FLAT
    centre, scale = columns.mean(axis=0)[varies], deviation[varies] * math.sqrt(max(1, int(varies.sum())))
    most = _CLIP / math.sqrt(max(1, int(varies.sum())))
    return lambda given: np.clip((given[:, varies] - centre) / scale, -most, most)


def predictor_scorer(problem: Problem, predictor: Predictor, *, seed: int = 0) -> ProcessScorer:
    """Return guidance for a problem by a pretrained predictor that looks at the networks of its codes."""
    seen = SeenCodes(lambda names: predictor.views([graph_of(name) for name in names]), problem.network)
    own = problem.task if problem.task in predictor.names else None
    return ProcessScorer(problem, seen, own=own, seed=seed)
