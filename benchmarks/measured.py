"""What the public tables hold of every task: networks with a value, and noise where measurements are repeated.

    python -m benchmarks.measured [--write]

Prints one line per task. `--write` puts the facts into aiop/tasks/measured.json, where `aiop tasks` finds them without
the tables.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping

import numpy as np

from aiop.errors import AiopError
from aiop.graph_ir.tensor_file import atomic_path
from aiop.tasks.tables import Table, list_tables, load_table
from aiop.tasks.task import MEASURED

Facts = Mapping[str, float]


def measured(table: Table) -> dict[str, Facts]:
    """Task -> ``rows``, the networks that have a value, and ``noise`` to three digits where the table knows it."""
    facts: dict[str, Facts] = {}
    for task, values in table.values.items():
        facts[task] = {"rows": int(np.isfinite(values).sum())}
        noise = table.noise.get(task, np.nan)
        if np.isfinite(noise):
            facts[task] = {**facts[task], "noise": float(f"{noise:.3g}")}
    return facts


def as_text(facts: Mapping[str, Facts]) -> str:
    """JSON with one task per line, in the order of the names."""
    lines = [f"{json.dumps(task)}: {json.dumps(facts[task])}" for task in sorted(facts)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    """Load every table, print the facts, and write them where asked."""
    parser = argparse.ArgumentParser(description="What the public tables hold of every task.")
    parser.add_argument("--write", action="store_true", help="write aiop/tasks/measured.json")
    arguments = parser.parse_args()
    facts: dict[str, Facts] = {}
    for name in list_tables(embedded=True):
        facts |= measured(load_table(name))
    width = max(map(len, facts))
    print(f"{'task':{width}}  {'rows':>6}  noise")
    for task in sorted(facts):
        print(f"{task:{width}}  {facts[task]['rows']:6}  {facts[task].get('noise', ''):>6}")
    print(f"{len(facts)} tasks of {len(list_tables(embedded=True))} tables")
    if arguments.write:
        with atomic_path(MEASURED) as temporary:
            temporary.write_text(as_text(facts), encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except AiopError as error:
        raise SystemExit(f"error: {error}") from None
