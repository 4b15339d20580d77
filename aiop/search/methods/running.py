"""A whole search in a folder: asks are measured, told and logged until there are enough, then the best is written."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiop.errors import AiopError
from aiop.search.methods.base import Exhausted, Searcher, SearchLog
from aiop.search.methods.problem import graph_of
from aiop.tasks import get_task
from aiop.tasks.networks import build, write_atomically

if TYPE_CHECKING:
    from aiop.predictor.predictor import Predictor
    from aiop.search.methods.problem import Problem

__all__ = ["BEST", "LOG", "RESULT", "Evaluate", "by_command", "by_predictor", "run_search"]

LOG, RESULT, BEST = "log.jsonl", "result.json", "best.onnx"

Evaluate = Callable[[str], float]
"""Code -> its value, in the main task's unit."""

_SHOWN = 10
_LONGEST = 200


def by_predictor(problem: Problem, predictor: Predictor) -> Evaluate:
    """Return what takes the predicted value of the main task for the measured one.

    Raises:
        AiopError: a task that the predictor was not trained on.
    """
    predictor.match(problem.task)

    def evaluate(code: str) -> float:
        return predictor.predict(graph_of(problem.network(code)), problem.task)[problem.task].value

    return evaluate


def by_command(problem: Problem, command: str) -> Evaluate:
    """Return what writes a network with fresh weights and takes the number that a command prints last.

    ``{onnx}`` in the command stands for the path of the file, ``{code}`` for the code; without ``{onnx}`` the path is
    its last argument.

    Raises:
        AiopError: a command that cannot be read; when called, one that fails or prints no number.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise AiopError(f"--evaluator {command!r} is no command line ({error}): check its quotes") from None
    if not words:
        raise AiopError(
            "--evaluator is empty: give a command that prints a number, such as 'python train.py {onnx}'"
        )
    if not any("{onnx}" in word for word in words):
        words.append("{onnx}")

    def evaluate(code: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            build(problem.written(code), path, weights="random")
            line = [word.replace("{onnx}", str(path)).replace("{code}", code) for word in words]
            try:
                found = subprocess.run(line, capture_output=True, text=True, check=False)
            except OSError as error:
                raise AiopError(
                    f"the evaluator {words[0]!r} cannot be run ({error.strerror or error}): check the command"
                ) from None
        if found.returncode:
            last = (found.stderr.strip().splitlines() or ["it printed nothing on stderr"])[-1][:_LONGEST]
            raise AiopError(
                f"the evaluator ended with status {found.returncode} on {code} ({last}): repair it and run the same "
                "command again, which goes on from here"
            )
        return _last_number(found.stdout, code)

    return evaluate


def run_search(
    searcher: Searcher,
    evaluate: Evaluate,
    folder: Path,
    *,
    evaluations: int,
    values: str,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Search until so many architectures are measured, earlier runs in the folder counted, and write the result.

    Args:
        searcher: a fresh one.
        evaluate: measures a code.
        folder: where `LOG`, `RESULT` and `BEST` are written.
        evaluations: in all.
        values: where they come from: what a search that goes on must have in common with the one before.
        progress: called with the number measured and ``evaluations``.

    Returns:
        what `RESULT` holds.

    Raises:
        AiopError: a folder that cannot be used, or that holds another search, and whatever ``evaluate`` raises.
    """
    problem = searcher.problem
    settings = {"method": searcher.name, **problem.to_dict(), "seed": searcher.seed, "values": values}
    settings["guided"] = searcher.scorer is not None
    log = SearchLog(folder / LOG, settings)
    searcher.replay(log)
    exhausted = False
    while len(log) < evaluations and not exhausted:
        if progress is not None:
            progress(len(log), evaluations)
        try:
            code = searcher.ask()
        except Exhausted:
            exhausted = True
            continue
        value = evaluate(code)
        searcher.tell(code, value)  # refuses what is no number, before it is kept
        log.add(code, value)
    if progress is not None:
        progress(len(log), evaluations)
    best = searcher.best()
    if best is None:
        raise AiopError(f"nothing was measured in {folder}: ask for at least one evaluation")
    build(problem.written(best.code), folder / BEST, weights="random")
    told = sorted(dict(log).items(), key=lambda item: -problem.goodness(item[1]))
    task = get_task(problem.task)
    document = settings | {
        "unit": task.unit,
        "direction": task.direction,
        "evaluations": len(log),
        "exhausted": exhausted,
        "best": _entry(problem, best.code, best.value),
        "next": [_entry(problem, code, value) for code, value in told[:_SHOWN] if code != best.code],
        "file": BEST,
    }
    write_atomically((json.dumps(document, indent=1) + "\n").encode(), folder / RESULT)
    return document


def _entry(problem: Problem, code: str, value: float) -> dict[str, Any]:
    return {"network": problem.written(code), "code": code, "value": value, "macs": problem.macs(code)}


def _last_number(text: str, code: str) -> float:
    for word in reversed(text.split()):
        try:
            value = float(word.strip(",;%"))
        except ValueError:
            continue
        if math.isfinite(value):
            return value
    raise AiopError(f"the evaluator printed no number for {code}: let it print the value last")
