"""Pieces of work done side by side in processes of one thread each, or one after the other in this one."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import cache

from aiop.errors import AiopError
from aiop.tasks.latent.config import LatentConfig
from aiop.tasks.latent.ledger import Label
from aiop.tasks.latent.shared_heads import HeadTraining
from aiop.tasks.latent.studio import HeadJob, Job, LabelJob, Studio

__all__ = ["Result", "one_thread", "results"]

Result = HeadTraining | Label | str


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, so that numbers do not depend on how many processors there are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def results(
    work: Sequence[Job],
    config: LatentConfig,
    processes: int,
    alone: Callable[[Job], Result],
) -> Iterator[tuple[Job, Result]]:
    """Yield every piece of work with what came of it, as it is finished; labels wait for the head they need.

    alone: does a piece of work in this process, where there is one process only.

    Raises:
        AiopError: where a process ends early.
    """
    if processes == 1 or len(work) < 2:
        for job in work:
            yield job, alone(job)
        return
    pool = _Pool(min(processes, len(work)), config)
    try:
        yield from pool.results(list(work))
    finally:
        pool.close()


class _Pool:
    def __init__(self, processes: int, config: LatentConfig) -> None:
        self.processes = processes
        self.others = {child.pid for child in multiprocessing.active_children()}
        context = multiprocessing.get_context("spawn")
        self.executor = ProcessPoolExecutor(processes, context, initializer=_prepare, initargs=(config,))
        self.running: dict[Future[Result], Job] = {}

    def results(self, waiting: list[Job]) -> Iterator[tuple[Job, Result]]:
        missing = {(job.method, job.group) for job in waiting if isinstance(job, HeadJob)}
        try:
            while waiting or self.running:
                self._start(waiting, missing)
                done, _ = wait(self.running, return_when=FIRST_COMPLETED)
                for future in done:
                    job, result = self.running.pop(future), future.result()
                    if isinstance(job, HeadJob):
                        missing.discard((job.method, job.group))
                    yield job, result
        except BrokenProcessPool as error:
            raise AiopError(
                "a process of the build ended early, perhaps for want of memory: run the command again with fewer "
                "--jobs; what is finished is kept"
            ) from error

    def _start(self, waiting: list[Job], missing: set[tuple[str, str]]) -> None:
        """Give every process something to do, in the order of the work as far as that can be begun."""
        for job in list(waiting):
            if len(self.running) == self.processes:
                return
            if isinstance(job, LabelJob) and (job.kind, job.group) in missing:
                continue
            waiting.remove(job)
            self.running[self.executor.submit(_do, job)] = job

    def close(self) -> None:
        """End the processes: what they have not finished is begun anew another time."""
        if self.running:
            for child in multiprocessing.active_children():
                if child.pid not in self.others:
                    child.terminate()
        self.executor.shutdown(cancel_futures=True)


_asked: list[LatentConfig] = []  # in a process of the pool: the settings of its build


def _prepare(config: LatentConfig) -> None:
    """Set up a process of the pool: on one thread, and gone at Ctrl-C (its parent tells of it) or with its parent."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    torch.set_num_threads(1)
    _asked.append(config)


@cache
def _studio() -> Studio:
    return Studio(_asked[-1])


def _end_with_parent() -> None:
    """End this process when its parent is no more, which a kill does not tell."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(job: Job) -> Result:
    return _studio().do(job)
