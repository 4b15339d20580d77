"""Independent pieces of work, one after another or in several processes, behind one progress bar."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aiop.errors import AiopError

__all__ = ["in_processes", "progress_bar", "worked_off"]

Unit = TypeVar("Unit")
Result = TypeVar("Result")

_AHEAD = 4  # units per process that wait for it


def progress_bar(show: bool) -> Progress:
    """Return bars on stderr that vanish when they are done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not show, transient=True)


def in_processes(
    units: Sequence[Unit], do: Callable[[Unit], Result], jobs: int, *, who: str = "a process"
) -> Iterator[tuple[Unit, Result]]:
    """Do all units in so many processes and give each with its result as it is finished, in any order.

    Args:
        units: what is done.
        do: does one; it has to be found by its name, or be a `functools.partial` of such a one.
        jobs: processes.
        who: what a process is called in the error.

    Raises:
        AiopError: where a process ends early.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(units)), context, initializer=_prepare)
    running: dict[Future[Result], Unit] = {}
    try:
        for unit in units:
            running[pool.submit(do, unit)] = unit
            if len(running) >= _AHEAD * jobs:
                yield from _finished(running)
        while running:
            yield from _finished(running)
    except BrokenProcessPool as error:
        raise AiopError(
            f"{who} ended early, perhaps for want of memory: run the command again with fewer --jobs; what is "
            "finished is kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def worked_off(
    units: Sequence[Unit],
    do: Callable[[Unit], Result],
    *,
    jobs: int,
    progress: bool,
    title: str,
    describe: Callable[[Unit], str],
    before: Callable[[], None] | None = None,
) -> Iterator[tuple[Unit, Result]]:
    """Do all units and give each with its result as it is finished, in any order.

    Args:
        units: what is done.
        do: does one; for several processes it has to be found by its name, or be a `functools.partial` of such a one.
        jobs: processes; 1 works in this one.
        progress: show a bar on stderr.
        title: of the bar, before the first unit.
        describe: what the bar shows of a unit (several processes show the title).
        before: called in this process before others start, such as to fill a cache for all of them.

    Raises:
        AiopError: where a process ends early.
    """
    with progress_bar(progress) as bar:
        work = bar.add_task(title, total=len(units))
        if jobs == 1 or len(units) < 2:
            for unit in units:
                bar.update(work, description=describe(unit))
                yield unit, do(unit)
                bar.advance(work)
            return
        if before is not None:
            before()
        for unit, result in in_processes(units, do, jobs):
            yield unit, result
            bar.advance(work)


def _finished(running: dict[Future[Result], Unit]) -> Iterator[tuple[Unit, Result]]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        yield running.pop(future), future.result()


def _prepare() -> None:
    """Set up a process of the pool: deaf to Ctrl-C, which its parent hears, and on one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    torch.set_num_threads(1)
