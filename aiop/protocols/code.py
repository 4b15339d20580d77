"""A digest of the code behind a method: results of code that has changed since are computed again."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

__all__ = ["code_digest"]

_PACKAGE = "aiop.finetune"
_CONTAINERS = ("aiop.finetune.views",)  # holds what methods are given and does nothing with it
_ROOT = Path(__file__).parents[2]


@cache
def code_digest(module: str, within: str = _PACKAGE) -> str:
    """Return 16 hexadecimal digits of a module's code and of all that it imports from a package.

    Comments, docstrings and layout do not count. A module outside that package stands for itself alone.
    """
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if name in found or path is None:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        waiting += [
            other
            for other in _imports(tree, name, path)
            if other.startswith(within) and not other.startswith(_CONTAINERS)
        ]
        found[name] = ast.dump(_without_docstrings(tree))
    text = "\n".join(f"{name} {found[name]}" for name in sorted(found))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _source(module: str) -> Path | None:
    path = _ROOT / Path(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _imports(tree: ast.Module, module: str, path: Path) -> list[str]:
    """Names of what may be modules among what is imported, at the top or inside functions."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return names


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return tree
