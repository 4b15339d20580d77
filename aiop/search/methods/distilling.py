"""This project's predictor as a differentiable predictor of codes: a student of what it says of a sample of a space.

The graph predictor reads a network's graph, which jumps from code to code: nothing of it can be differentiated with
respect to a code. Its predictions of sampled codes, MACs and parameters beside them, are what a perceptron on the codes
learns (`CodePredictor.student`): not the values themselves but the worse ends of their intervals, which are far away
where a network is unlike those the predictor was trained on. A search would else go where the predictor errs most.

Gradients lead to where a student is too hopeful, so that it is *sharpened*: it is let loose in many directions, the
predictor judges what it comes by, and the student learns that too. The last word on what a search finds is the
predictor's again (`settle`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.search.methods.code_predictor import CodePredictor
from aiop.search.methods.code_vectors import code_vectors
from aiop.search.methods.judging import Judge, Progress, Said
from aiop.search.methods.propagation import propagate
from aiop.tasks import get_space

__all__ = ["Judgement", "distil", "settle", "sharpened", "taught_by"]

Array = npt.NDArray[Any]
Judgement = tuple[Array, Array, Array]
"""Targets ``(n, T)``, MACs ``(n,)`` and parameters ``(n,)``."""

SAMPLES, ROUNDS = 1000, 4
_DIRECTIONS, _STARTS, _STEPS = 24, 8, 40  # of every round of sharpening: searches, their starts and steps
_EACH = 6  # codes of every search that are judged
_MOST, _AGAIN = 16, 4  # codes of a finished search that are judged, so many times at most


def taught_by(judge: Judge, *, cautious: bool = True) -> Callable[[Sequence[str]], Judgement]:
    """Return codes -> what a student of a judge learns: values, or where ``cautious`` the worse ends of intervals."""

    def judgement(codes: Sequence[str]) -> Judgement:
        said = judge(codes)
        return said.cautious(judge.directions) if cautious else said.values, said.macs, said.params

    return judgement


def distil(
    judge: Judge,
    *,
    samples: int = SAMPLES,
    rounds: int = ROUNDS,
    seed: int = 0,
    cautious: bool = True,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> CodePredictor:
    """Return a student of a predictor on the tasks and the space of a judge.

    Args:
        judge: the teacher, on one of the spaces `aiop.search.methods.code_vectors.SPACES`.
        samples: codes that are drawn from the space and judged.
        rounds: of sharpening, of about 144 codes each.
        seed: of the draw and of the student.
        cautious: as of `taught_by`.
        cache: a folder where students are kept if it can be written; one made with the same predictor and settings is
            read from there.
        progress: called with how many codes are judged, and how many there will be, about.

    Raises:
        AiopError: a space without code vectors, or fewer than two samples.
    """
    code_vectors(judge.space)
    if samples < 2:
        raise AiopError(f"a student needs at least 2 samples, found {samples}: draw 1000")
    settings = [judge.digest, list(judge.tasks), samples, rounds, seed, cautious, 2]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
    path = None if cache is None else cache / f"student-{judge.space}-{key[:16]}.safetensors"
    if path is not None and path.exists():
        with suppress(AiopError):  # one that is damaged is made anew
            return CodePredictor.load(path, key)
    random = np.random.default_rng(seed)
    grammar = get_space(judge.space)
    codes = list(dict.fromkeys(grammar.sample(random) for _ in range(samples)))
    total = len(codes) + rounds * _DIRECTIONS * _EACH
    judge(codes, None if progress is None else lambda done, _: progress(done, total))
    learnt, seen = taught_by(judge, cautious=cautious), len(codes)

    def again(more: Sequence[str]) -> Judgement:
        nonlocal seen
        before = seen
        judge(more, None if progress is None else lambda done, _: progress(before + done, total))
        seen += len(more)
        return learnt(more)

    codes, judgement = sharpened(
        codes, learnt(codes), again, judge.space, judge.tasks, rounds=rounds, seed=seed
    )
    student = CodePredictor.student(judge.space, codes, *judgement, tasks=judge.tasks, seed=seed)
    if progress is not None:
        progress(total, total)
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
    codes: Sequence[str],
    judge: Judge,
    student: CodePredictor,
    aims: Array,
    budget: tuple[float, float] | None = None,
    *,
    most: int = _MOST,
    cautious: bool = True,
) -> tuple[list[str], Said]:
    """Return the codes of a search in the order of what the predictor itself says of them, and that.

    Args:
        codes: best first, as the student has it. The first ``most`` are judged, and those whose counted MACs are
            outside the budget dropped; where that leaves none the next, four times at most: none may be left.
        judge: of the same tasks as the student.
        student: what the search followed.
        aims: weights ``(T,)`` of standardised values, as of the search.
        budget: fewest and most MACs, None for any.
        most: codes that are judged at once.
        cautious: whether the worse ends of intervals count, not the values.
    """
    some, said = list[str](), judge([])
    inside = np.zeros(0, bool)
    for start in range(0, min(_AGAIN * most, len(codes)), most):
        some = list(codes[start : start + most])
        said = judge(some)
        inside = np.ones(len(some), bool)
        if budget is not None:
            inside = (said.macs >= budget[0]) & (said.macs <= budget[1])
        if inside.any():
            break
    values = said.cautious(judge.directions) if cautious else said.values
    score = (values - student.scaling.mean[:-2]) / student.scaling.scale[:-2] @ np.asarray(aims, np.float64)
    order = np.flatnonzero(inside)[np.argsort(-score[inside], kind="stable")]
    return [some[place] for place in order], said.rows(order)
