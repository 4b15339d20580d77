"""What corpora cost on disk and to read: opening one, and 1,000 random graphs, as medians over repeats.

    python -m benchmarks.corpora [TABLE ...] [--repeats 5] [--write]

`aiop corpus build` makes them and prints how long that took. Opening is measured twice: in this process once the check
has run (what a program that opens several pays), and in a new process that has imported the package, as the first.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import numpy as np

from aiop.errors import AiopError
from aiop.tasks.corpora import open_corpus
from aiop.tasks.tables import list_tables
from benchmarks.document import write_section

GRAPHS = 1000
HEADER = (
    "| corpus | graphs | nodes | MB | open, ms | open first, ms | read 1,000 graphs, ms |",
    "|---|---|---|---|---|---|---|",
)
FIRST = (
    "import sys, time\n"
    "from aiop.tasks.corpora import open_corpus\n"
    "start = time.perf_counter()\n"
    "open_corpus(sys.argv[1])\n"
    "print(time.perf_counter() - start)"
)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="all benchmark tables by default")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="replace the table in docs/results.md")
    options = parser.parse_args()
    lines = list(HEADER)
    print("\n".join(lines))
    totals = np.zeros(3)
    for name in options.tables or list_tables():
        try:
            line, sizes = measure(name, options.repeats)
        except AiopError as error:
            sys.exit(f"error: {error}")
        print(line, flush=True)
        lines.append(line)
        totals += sizes
    lines.append(f"| all | {totals[0]:,.0f} | {totals[1]:,.0f} | {totals[2]:.1f} | | | |")
    print(lines[-1])
    if options.write:
        write_section("corpora", lines)


def measure(name: str, repeats: int) -> tuple[str, tuple[int, int, float]]:
    """Return the row of one corpus, and its graphs, nodes and megabytes."""
    corpus = open_corpus(name)
    first = [
        float(subprocess.run([sys.executable, "-c", FIRST, name], capture_output=True, check=True).stdout)
        for _ in range(repeats)
    ]
    opened, read = [], []
    for seed in range(repeats):
        start = time.perf_counter()
        corpus = open_corpus(name)
        opened.append(time.perf_counter() - start)
        rows = np.random.default_rng(seed).integers(len(corpus), size=GRAPHS).tolist()
        start = time.perf_counter()
        for row in rows:
            corpus[row]
        read.append(time.perf_counter() - start)
    nodes = len(corpus.tables["number"])
    size = corpus.path.stat().st_size / 1e6
    times = " | ".join(f"{1000 * statistics.median(found):.1f}" for found in (opened, first, read))
    return f"| {name} | {len(corpus):,} | {nodes:,} | {size:.1f} | {times} |", (len(corpus), nodes, size)


if __name__ == "__main__":
    main()
