"""Feed the reader damaged files: each must give a graph or an `AiopError`, soon, in little memory.

    python -m benchmarks.fuzz --inputs 100000

Input number ``i`` of a seed is always the same file. What breaks the rule is written to the folder ``--findings``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from multiprocessing.sharedctypes import SynchronizedArray
from pathlib import Path
from typing import Any

from rich.progress import Progress

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx, to_json
from aiop.graph_ir.features import encode
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from benchmarks.mutations import damaged, seeds

__all__ = ["attempt", "check", "fuzzed", "main", "run"]

LONGEST_SECONDS = 5.0
MOST_MEMORY = 500 * 2**20
_HANGS_AFTER = 60.0
_CHUNK = 250


class Broken(Exception):
    """The reader did something else than read or refuse."""


def attempt(source: bytes | Path) -> str:
    """Read, bring to canonical form, hash and encode; return "read" or "refused"."""
    try:
        graph = read_onnx(source)
    except AiopError as error:
        if "\n" in str(error):
            raise Broken(f"a message of several lines: {error}") from error
        return "refused"
    content_hash(canonicalise(graph))
    encode(graph)
    to_json(graph)
    return "read"


def check(data: bytes, path: Path | None = None) -> str:
    """Attempt one input, from a file where ``path`` says so; what breaks the rule raises."""
    source: bytes | Path = data
    if path is not None:
        path.write_bytes(data)
        source = path
    started, before = time.process_time(), _peak()
    outcome = attempt(source)
    took, grown = time.process_time() - started, _peak() - before
    if took > LONGEST_SECONDS:
        raise Broken(f"took {took:.1f} s")
    if grown > MOST_MEMORY + len(data):
        raise Broken(f"took {grown / 2**20:.0f} MB")
    return outcome


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def fuzzed(seed: int, index: int) -> bytes:
    """Return input ``index`` of a seed."""
    return damaged(random.Random(f"{seed}/{index}"))


def _work(
    seed: int, chunk: range, now: SynchronizedArray[Any], slot: int, send: Callable[[Any], None]
) -> None:
    """Try a chunk of inputs; ``now`` tells which one is being tried, since when."""
    counts: Counter[str] = Counter()
    findings: list[tuple[int, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        for index in chunk:
            now[2 * slot], now[2 * slot + 1] = index, time.monotonic()
            try:
                counts[check(fuzzed(seed, index), path if index % 4 == 0 else None)] += 1
            except Exception:
                findings.append((index, traceback.format_exc()))
    now[2 * slot + 1] = 0.0
    send((counts, findings))


def _chunks(first: int, last: int) -> list[range]:
    return [range(start, min(start + _CHUNK, last)) for start in range(first, last, _CHUNK)]


def run(seed: int, first: int, inputs: int, jobs: int, found: Callable[[int, str], None]) -> Counter[str]:
    """Try inputs ``first`` to ``first + inputs`` in processes of their own; a death or a hang of one is a finding."""
    seeds()  # collected once, before the processes are forked
    context = multiprocessing.get_context("fork")
    waiting = _chunks(first, first + inputs)[::-1]
    now = context.Array("d", 2 * jobs)
    running: dict[int, tuple[Any, Any, range]] = {}
    counts: Counter[str] = Counter()
    with Progress() as progress:
        bar = progress.add_task("inputs", total=inputs)
        while waiting or running:
            for slot in range(jobs):
                if slot not in running and waiting:
                    chunk = waiting.pop()
                    receiver, sender = context.Pipe(duplex=False)
                    now[2 * slot + 1] = 0.0
                    process = context.Process(target=_work, args=(seed, chunk, now, slot, sender.send))
                    process.start()
                    sender.close()
                    running[slot] = (process, receiver, chunk)
            for slot, (process, receiver, chunk) in list(running.items()):
                outcome = _received(receiver)
                since = now[2 * slot + 1]
                hangs = since and time.monotonic() - since > _HANGS_AFTER
                if outcome is None and process.is_alive() and not hangs:
                    continue
                if outcome is not None:
                    counts += outcome[0]
                    for index, text in outcome[1]:
                        found(index, text)
                    tried = len(chunk)
                else:
                    process.kill()
                    process.join()
                    index = int(now[2 * slot])
                    found(index, "hangs" if hangs else f"the process died ({process.exitcode})")
                    # what it counted died with it, so the others are tried again
                    rest = (range(chunk.start, index), range(index + 1, chunk.stop))
                    waiting += [part for part in rest if part]
                    tried = 1
                process.join()
                del running[slot]
                progress.advance(bar, tried)
    return counts


def _received(receiver: Any) -> Any:
    """Return what a process sent, ``None`` where it has not yet, or died first."""
    try:
        return receiver.recv() if receiver.poll(0.02) else None
    except EOFError:
        return None


def main() -> int:
    """Run from the command line; exit 1 where something was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first input, to go on where one stopped"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--findings", type=Path, default=Path("runs/fuzz"))
    options = parser.parse_args()
    kinds: Counter[str] = Counter()

    def found(index: int, text: str) -> None:
        options.findings.mkdir(parents=True, exist_ok=True)
        (options.findings / f"{options.seed}-{index}.onnx").write_bytes(fuzzed(options.seed, index))
        (options.findings / f"{options.seed}-{index}.txt").write_text(text)
        kinds[text.strip().splitlines()[-1][:120]] += 1

    started = time.perf_counter()
    counts = run(options.seed, options.first, options.inputs, options.jobs, found)
    tried = sum(counts.values()) + sum(kinds.values())
    print(
        f"{tried} inputs (seed {options.seed}, from {options.first}) made from {len(seeds())} files, "
        f"{time.perf_counter() - started:.0f} s: {counts['read']} read, {counts['refused']} refused, "
        f"{sum(kinds.values())} findings"
    )
    for kind, count in kinds.most_common():
        print(f"  {count:5d}  {kind}")
    return 1 if kinds else 0


if __name__ == "__main__":
    sys.exit(main())
