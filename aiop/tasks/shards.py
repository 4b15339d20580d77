"""Many networks encoded by several processes into shards: small corpora that a restart does not make again.

The networks are cut into chunks of a fixed size, and every chunk becomes one shard, written whole or not at all. Which
process writes which shard, and in which run, leaves no trace in them.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aiop.errors import AiopError
from aiop.graph_ir.corpus import Corpus, CorpusWriter
from aiop.graph_ir.features import encode_canonical, fingerprint
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.graph_ir.reading.reader import read_onnx
from aiop.tasks import networks

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

__all__ = ["CHUNK", "Item", "Shard", "write_shards"]

CHUNK = 64
"""Networks of a shard: what an interrupt loses at most, per process."""

_AHEAD = 2  # chunks per process that wait or are being encoded

Item = tuple[str, bytes | None]
"""Name of a network, and its ONNX bytes (None: the name says where it is, or how to build it)."""


class Shard(NamedTuple):
    """A finished shard: its place in the order, its file, and how many networks it was made from and refused."""

    number: int
    path: Path
    networks: int
    refused: int


class _Job(NamedTuple):
    number: int
    path: Path
    key: str
    items: Sequence[Item]


def write_shards(items: Iterator[Item], folder: Path, key: str, workers: int) -> Iterator[Shard]:
    """Encode networks into shards in ``folder``, yielding each when it is there, in no particular order.

    Args:
        items: the networks; read ahead by a few chunks only.
        folder: where the shards of an earlier run may lie; those that fit are taken as they are.
        key: what the shards depend on besides the names of their networks.
        workers: processes; 1 encodes in this one.

    Raises:
        AiopError: where a shard cannot be written or a process ends early; what is finished stays.
    """
    jobs = _jobs(items, folder, key)
    if workers == 1:
        for job in jobs:
            yield _finished(job) or _write(job)
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, context, initializer=_prepare, initargs=(stop,))
    running: set[Future[Shard]] = set()
    try:
        for job in jobs:
            found = _finished(job)
            if found is not None:
                yield found
                continue
            with _interrupts_held():  # processes start with the first jobs
                running.add(pool.submit(_write, job))
            if len(running) >= _AHEAD * workers:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        raise AiopError(
            f"a process that encodes networks into {folder} ended early, perhaps for want of memory: "
            "run the command again with fewer --workers; what is finished is kept"
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _jobs(items: Iterator[Item], folder: Path, key: str) -> Iterator[_Job]:
    chunks = iter(lambda: list(islice(items, CHUNK)), [])
    for number, chunk in enumerate(chunks):
        text = json.dumps([key, [name for name, _ in chunk]])
        yield _Job(number, folder / f"{number:06d}.corpus", hashlib.sha256(text.encode()).hexdigest(), chunk)


def _finished(job: _Job) -> Shard | None:
    """Return the shard of an earlier run where it is whole and of the same networks and versions."""
    try:
        corpus = Corpus(job.path)
    except AiopError:  # missing, or of another version
        return None
    if corpus.metadata.get("key") != job.key:
        return None
    return Shard(job.number, job.path, len(job.items), len(corpus.metadata["refused"]))


def _write(job: _Job) -> Shard:
    refused: dict[str, str] = {}
    metadata = {"key": job.key, "refused": refused}
    with CorpusWriter(job.path, fingerprint(), metadata, may_be_empty=True) as writer:
        for name, content in job.items:
            if _stop is not None and _stop.is_set():
                raise KeyboardInterrupt  # the shard is dropped, nobody waits for it
            try:
                graph = networks.read(name) if content is None else read_onnx(content, name=name)
                canonical = canonicalise(graph)
                arrays, digest = encode_canonical(canonical), content_hash(canonical)
                writer.add(name, arrays, graph.macs, graph.params, digest)
            except AiopError as error:
                refused[name] = str(error)
    return Shard(job.number, job.path, len(job.items), len(refused))


_stop: Event | None = None  # in a process of the pool: set when the run is over


def _prepare(stop: Event) -> None:
    """Set up a process of the pool: it ends when told to or when its parent is gone, not by Ctrl-C."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while processes start, so that they start deaf to it instead of printing tracebacks."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
