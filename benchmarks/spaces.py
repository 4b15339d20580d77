"""Every search space: how fast its networks are written and read, whether they run, whether they cost what tables say.

    python -m benchmarks.spaces [--spaces GLOB] [--speed] [--run [N]] [--rows [N]] [--write]

``--speed``: architectures per second and core, in the default form of the space, each number the median of repeats in
one thread. ``--run N``: N random networks of every form, with random weights, in onnxruntime. ``--rows N``: N random
rows of every table that prints MACs or parameters (all rows where it has fewer), counted by the rules of
`benchmarks.table_counts`; `AIOP_DATA` names the folder of the tables. Without any of the three, all of them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatch

import numpy as np
import onnxruntime

from aiop.graph_ir import read_onnx
from aiop.tasks import get_space, list_spaces
from aiop.tasks.tables import data_dir, list_tables, load_table
from benchmarks.document import write_section
from benchmarks.table_rows import PRICES

CODES = 40
REPEATS = 5


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spaces", default="*", help="glob of the spaces; all by default")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--run", type=int, nargs="?", const=20, default=0, metavar="N")
    parser.add_argument("--rows", type=int, nargs="?", const=1000, default=0, metavar="N")
    parser.add_argument(
        "--most-gmacs", type=float, default=1000.0, help="do not run larger networks, but name them"
    )
    parser.add_argument("--write", action="store_true", help="put the tables into docs/results.md")
    options = parser.parse_args()
    spaces = [name for name in list_spaces() if fnmatch(name, options.spaces)]
    if not spaces:
        parser.error(f"no space is called {options.spaces}: the spaces are {', '.join(list_spaces())}")
    if options.write and len(spaces) < len(list_spaces()):
        parser.error("--write needs all spaces: leave --spaces out")
    if not (options.speed or options.run or options.rows):
        options.speed, options.run, options.rows = True, 20, 1000
    sections: dict[str, list[str]] = {}
    if options.speed:
        sections["spaces_speed"] = speed(spaces)
    if options.run:
        sections["spaces_run"] = run(spaces, options.run, options.most_gmacs)
    if options.rows:
        sections["spaces_rows"] = rows(spaces, options.rows)
    if options.write:
        for section, lines in sections.items():
            write_section(section, lines)


class Lines(list[str]):
    """Lines of a document, printed as they come."""

    def say(self, *lines: str) -> None:
        """Add and print lines."""
        for line in lines:
            print(line, flush=True)
            self.append(line)


def speed(spaces: Sequence[str]) -> list[str]:
    """Time code to bytes, bytes to graph and code to graph."""
    lines = Lines()
    lines.say(
        f"Per second and core, medians of {REPEATS} turns over {CODES} random codes each:",
        "",
        "| space, form | code to ONNX bytes | bytes to graph | code to graph | operations | kB |",
        "|---|---|---|---|---|---|",
    )
    for name in spaces:
        space = get_space(name)
        rng = np.random.default_rng(1)
        codes = [space.sample(rng) for _ in range(CODES)]
        built: list[bytes] = [space.build(code).SerializeToString() for code in codes]
        operations = statistics.mean(len(read_onnx(content).operations) for content in built)
        rates = [
            per_second(lambda: [space.build(code).SerializeToString() for code in codes]),  # noqa: B023
            per_second(lambda: [read_onnx(content) for content in built]),  # noqa: B023
            per_second(lambda: [read_onnx(space.build(code)) for code in codes]),  # noqa: B023
        ]
        size = statistics.mean(map(len, built)) / 1000
        lines.say(
            f"| {name}, {space.default_form} | {' | '.join(f'{rate:,.0f}' for rate in rates)} "
            f"| {operations:.0f} | {size:.0f} |"
        )
    return lines


def per_second(function: Callable[[], Sequence[object]]) -> float:
    """Return how many results a second ``function`` gives, the median of `REPEATS` turns."""
    rates: list[float] = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        count = len(function())
        rates.append(count / (time.perf_counter() - start))
    return statistics.median(rates)


def run(spaces: Sequence[str], count: int, most_gmacs: float) -> list[str]:
    """Run random networks and compare what they give with what the space says."""
    lines = Lines()
    lines.say(
        f"Of {count} random networks of every form, with random weights, in onnxruntime:",
        "",
        "| space | form | outputs | outputs of these shapes, all finite | GMACs |",
        "|---|---|---|---|---|",
    )
    notes: list[str] = []
    for name in spaces:
        space = get_space(name)
        for form in space.forms:
            rng = np.random.default_rng(2)
            passed, costs = 0, []
            shapes: dict[str, tuple[int, ...]] = {}
            for seed in range(count):
                code = space.sample(rng)
                shapes = space.output_shapes(code, form)
                gmacs = read_onnx(space.build(code, form)).macs / 1e9
                costs.append(gmacs)
                if gmacs > most_gmacs:
                    notes.append(f"not run, {gmacs:.0f} GMACs: {name}@{form}:{code}")
                    continue
                fault = fault_of(name, form, code, seed)
                passed += not fault
                notes += [f"{fault}: {name}@{form}:{code}"] if fault else []
            described = ", ".join(f"{key} {' x '.join(map(str, shape))}" for key, shape in shapes.items())
            span = f"{min(costs):.3g} to {max(costs):.3g}"
            lines.say(f"| {name} | {form} | {described} | {passed} of {count} | {span} |")
    if notes:
        lines.say("", *[f"- {note}" for note in notes])
    return lines


def fault_of(name: str, form: str, code: str, seed: int) -> str:
    """Run one network on noise; return what is wrong, or nothing."""
    space = get_space(name)
    network = space.build(code, form, weights="random", seed=seed).SerializeToString()
    expected = space.output_shapes(code, form)
    image = np.random.default_rng(seed).standard_normal(space.input_shape(code, form), dtype=np.float32)
    session = onnxruntime.InferenceSession(network)
    found = dict(zip(expected, session.run(list(expected), {"image": image}), strict=True))
    wrong = {key: value.shape for key, value in found.items() if value.shape != expected[key]}
    if wrong:
        return f"gave {wrong}"
    return "" if all(np.isfinite(value).all() for value in found.values()) else "is not finite"


def rows(spaces: Sequence[str], count: int) -> list[str]:
    """Compare the costs that tables print with those of the networks built from their codes."""
    lines = Lines()
    lines.say(
        "Rows (for TransNAS-Bench-101: row and task) whose MACs and parameters are those of the network built:",
        "",
        "| space | equal | tried | with costs in the table |",
        "|---|---|---|---|",
    )
    notes: list[str] = []
    for name in spaces:
        if name not in PRICES:
            lines.say(f"| {name} | {costless(name)} | | |")
            continue
        prices = PRICES[name]
        every = prices.rows(data_dir())
        rng = np.random.default_rng(3)
        chosen = rng.choice(len(every), min(count, len(every)), replace=False)
        wrong = [every[i].network for i in chosen if not prices.agrees(every[i])]
        lines.say(f"| {name} | {len(chosen) - len(wrong)} | {len(chosen)} | {len(every)} |")
        if wrong:
            known = f" ({prices.note})" if prices.note else ""
            notes.append(f"- {len(wrong)} of {name}{known}, the first one `{wrong[0]}`")
    if notes:
        lines.say("", "Different:", "", *notes)
    return lines


def costless(name: str) -> str:
    """Say why there is nothing to compare; a table with costs that nothing here compares is a fault."""
    if name not in list_tables():
        return "no table"
    table = load_table(name)
    if np.isfinite(table.macs).any() or np.isfinite(table.params).any():
        raise SystemExit(f"the table of {name} prints costs: add it to benchmarks.table_rows.PRICES")
    return "no costs in the table"


if __name__ == "__main__":
    main()
