"""This project's predictor as a differentiable predictor of codes: a student of what it says of a sample of a space.

The graph predictor reads a network's graph, which jumps from code to code: nothing of it can be differentiated with
respect to a code. Its predictions of sampled codes, MACs and parameters beside them, are what a perceptron on the codes
learns (`CodePredictor.student`). Gradients lead to where a student is too hopeful, so that it is *sharpened*: it is let
loose in many directions, the predictor judges what it comes by, and the student learns that too. The last word on what
a search finds is the predictor's again (`settle`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.search.methods.code_predictor import CodePredictor
from aiop.search.methods.code_vectors import code_vectors
from aiop.search.methods.propagation import Found, propagate
from aiop.tasks import get_space, get_task

if TYPE_CHECKING:
    from aiop.predictor import Predictor

__all__ = ["Judgement", "distil", "judged", "settle", "sharpened"]

Array = npt.NDArray[Any]
Judgement = tuple[Array, Array, Array]
"""Values ``(n, T)``, MACs ``(n,)`` and parameters ``(n,)``."""

_CHUNK = 64
_DIRECTIONS, _STARTS, _STEPS = 24, 8, 40  # of every round of sharpening: searches, their starts and steps
_EACH = 6  # codes of every search that are judged
_MOST, _AGAIN = 16, 4  # codes of a finished search that are judged, so many times at most


def judged(
    predictor: Predictor,
    space: str,
    codes: Sequence[str],
    tasks: Sequence[str],
    *,
    form: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Judgement:
    """Return what the predictor says of codes, and the costs of their networks.

    Args:
        predictor: of `aiop.load`.
        space: of the codes.
        codes: n of them.
        tasks: T names.
        form: of the networks; the space's default one where empty.
        progress: called with how many are done, and n.

    Raises:
        AiopError: a task that the predictor does not know, or a code outside the space.
    """
    for task in tasks:
        predictor.task_card(task)
    values = np.zeros((len(codes), len(tasks)))
    macs, params = np.zeros(len(codes)), np.zeros(len(codes))
    prefix = f"{space}@{form}" if form else space
    # one glob for all tasks of the space keeps it to one pass
    wanted = tasks[0] if len(tasks) == 1 else f"*/{space}/*"
    for start in range(0, len(codes), _CHUNK):
        names = [f"{prefix}:{code}" for code in codes[start : start + _CHUNK]]
        for row, found in enumerate(predictor.predict(names, tasks=wanted), start):
            values[row] = [found[task].value for task in tasks]
            macs[row], params[row] = found.macs, found.params
        if progress is not None:
            progress(min(start + _CHUNK, len(codes)), len(codes))
    return values, macs, params


def distil(
    predictor: Predictor,
    space: str,
    tasks: Sequence[str],
    *,
    form: str = "",
    samples: int = 1000,
    rounds: int = 4,
    seed: int = 0,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CodePredictor:
    """Return a student of a predictor's tasks on a space.

    Args:
        predictor: the teacher.
        space: one of `aiop.search.methods.code_vectors.SPACES`.
        tasks: names of tasks on that space, for which one architecture is searched.
        form: of the networks that the teacher sees.
        samples: codes that are drawn from the space and judged.
        rounds: of sharpening, of about 144 codes each.
        seed: of the draw and of the student.
        cache: a folder where students are kept if it can be written; one made with the same predictor and settings is
            read from there.
        progress: called with how many samples are judged, and how many there are.

    Raises:
        AiopError: an unknown space or task, a task of another space, or fewer than two samples.
    """
    code_vectors(space)
    if samples < 2:
        raise AiopError(f"a student needs at least 2 samples, found {samples}: draw 1000")
    for task in tasks:
        predictor.task_card(task)
        if get_task(task).space != space:
            raise AiopError(f'task "{task}" is not one of {space}: name tasks of that space')
    settings = [predictor.card["weights_sha256"], space, list(tasks), form, samples, rounds, seed, 1]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
    path = None if cache is None else cache / f"student-{space}-{key[:16]}.safetensors"
    if path is not None and path.exists():
        return CodePredictor.load(path, key)
    random = np.random.default_rng(seed)
    grammar = get_space(space)
    codes = list(dict.fromkeys(grammar.sample(random) for _ in range(samples)))
    first = judged(predictor, space, codes, tasks, form=form, progress=progress)
    codes, judgement = sharpened(
        codes, first, lambda more: judged(predictor, space, more, tasks, form=form), space, tasks, rounds=rounds,
        seed=seed,
    )  # fmt: skip
    student = CodePredictor.student(space, codes, *judgement, tasks=tasks, seed=seed)
    if path is not None:
        with suppress(OSError, AiopError):  # a cache that cannot be written costs time only
            student.save(path, key)
    return student


def sharpened(
    codes: Sequence[str],
    judgement: Judgement,
    judge: Callable[[Sequence[str]], Judgement],
    space: str,
    tasks: Sequence[str],
    *,
    rounds: int = 4,
    seed: int = 0,
) -> tuple[list[str], Judgement]:
    """Return codes and what was said of them, together with what students of these lead to and ``judge`` says of that.

    In each round a new student is followed in two dozen directions: weights of the tasks drawn at random, as likely
    against a task as for it, each within a budget drawn from the MACs seen.
    """
    known, parts = list(codes), [np.asarray(part, np.float64) for part in judgement]
    for number in range(rounds):
        random = np.random.default_rng((seed, number))
        student = CodePredictor.student(
            space,
            known,
            parts[0],
            parts[1],
            parts[2],
            tasks=tasks,
            seed=seed + 104_729 * (number + 1),
            members=1,
        )
        new: dict[str, None] = {}
        for _ in range(_DIRECTIONS):
            aims = random.dirichlet(np.ones(len(tasks))) * random.choice([-1.0, 1.0, 1.0], size=len(tasks))
            budget = 0.0, float(np.quantile(parts[1], random.uniform(0.2, 1.0)))
            starts = [known[place] for place in random.permutation(len(known))[:_STARTS]]
            found = propagate(student, starts, aims, budget=budget, steps=_STEPS).codes
            new.update(dict.fromkeys(found[: 2 * _EACH : 2]))
        more = [code for code in new if code not in set(known)]
        if more:
            known += more
            parts = [np.concatenate([old, added]) for old, added in zip(parts, judge(more), strict=True)]
    return known, (parts[0], parts[1], parts[2])


def settle(
    found: Found,
    judge: Callable[[Sequence[str]], Judgement],
    student: CodePredictor,
    aims: Array,
    budget: tuple[float, float] | None = None,
    *,
    most: int = _MOST,
) -> tuple[list[str], Judgement]:
    """Return the codes of a search in the order of what the predictor itself says of them, and that.

    The first ``most`` are judged, and those whose counted MACs are outside the budget dropped; where that leaves none,
    the next, four times at most: there may be none in the end. ``aims`` are the weights ``(T,)`` of standardised
    values, as of the search.
    """
    codes: list[str] = []
    values, macs, params = np.zeros((0, len(student.tasks))), np.zeros(0), np.zeros(0)
    inside = np.zeros(0, bool)
    for start in range(0, min(_AGAIN * most, len(found.codes)), most):
        codes = list(found.codes[start : start + most])
        values, macs, params = judge(codes)
        inside = np.ones(len(codes), bool)
        if budget is not None:
            inside = (macs >= budget[0]) & (macs <= budget[1])
        if inside.any():
            break
    score = (values - student.scaling.mean[:-2]) / student.scaling.scale[:-2] @ np.asarray(aims, np.float64)
    order = np.flatnonzero(inside)[np.argsort(-score[inside], kind="stable")]
    return [codes[place] for place in order], (values[order], macs[order], params[order])
