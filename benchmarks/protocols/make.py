"""Write the split file of every table and the settings of every fold's pretraining, as plan.yaml says.

    python -m benchmarks.protocols.make [--tables GLOB] [--check]

`--check` writes nothing and ends with status 1 where a file would change. The corpora have to be built
(`aiop corpus build`): twins are known by the hashes of their graphs. What is not about folds in the settings is that of
`benchmarks/shipped.yaml`.
"""

from __future__ import annotations

import argparse
import json
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from aiop.protocols.plan import Fold, Plan, load_plan, protocols_dir
from aiop.protocols.splits import make_split
from aiop.tasks.corpora import open_corpus
from aiop.tasks.tables import list_tables, load_table

SETTINGS = Path(__file__).resolve().parents[1] / "shipped.yaml"


def main() -> None:
    """Write or check the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", default="*", help="glob of the tables to make split files of")
    parser.add_argument("--check", action="store_true", help="only say what would change")
    options = parser.parse_args()
    folder = protocols_dir()
    plan = load_plan(folder)
    files = {folder / f"{fold.name}.yaml": fold_settings(plan, fold) for fold in plan.folds}
    for name in list_tables():
        if fnmatchcase(name, options.tables):
            table = load_table(name)
            files[folder / "tables" / f"{name}.json"] = split_text(make_split(table, open_corpus(table)))
    changed = [path for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in changed:
        if not options.check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
        print(f"{path.relative_to(folder)} {'would change' if options.check else 'written'}")
    if options.check and changed:
        sys.exit(1)


def fold_settings(plan: Plan, fold: Fold) -> str:
    """Return the settings of a fold's pretraining as YAML."""
    settings: dict[str, Any] = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    settings |= plan.settings.get(fold.name, {})
    corpora = fold.corpora(list_tables())
    weights = {name: value for name, value in settings.pop("sampling_weights", {}).items() if name in corpora}
    settings |= {"corpora": corpora, "out": f"../../runs/folds/{fold.name}"}
    if "steps" in plan.settings.get(fold.name, {}):
        settings["eval_every"] = min(settings.get("eval_every", 0), settings["steps"])
    exclude = plan.exclude(fold)
    kept_out = ", ".join([*fold.spaces, *fold.groups])
    lines = [
        f"# {fold.name}: kept out {kept_out}.",
        "# Made from plan.yaml and ../shipped.yaml by `python -m benchmarks.protocols.make`.",
        _line("corpora", settings.pop("corpora")),
        *([_line("exclude", exclude)] if exclude else []),
        *([_line("sampling_weights", weights)] if weights else []),
        *(_line(key, value) for key, value in settings.items()),
    ]
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return f"{key}: {text.strip().removesuffix('...').strip()}"


def split_text(values: dict[str, Any]) -> str:
    """Return a split file: JSON with one list of indices on a line."""
    rows = {part: values[part] for part in ("test", "copies", "tests", "draws")}
    head = {key: value for key, value in values.items() if key not in rows}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    lines += [f'"{part}": {_compact(rows[part])}' for part in ("test", "copies")]
    for part in ("tests", "draws"):
        inner = ",\n".join(_compact(row) for row in rows[part])
        lines.append(f'"{part}": [\n{inner}\n]' if inner else f'"{part}": []')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


if __name__ == "__main__":
    main()
