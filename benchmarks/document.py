"""Write what a benchmark printed into docs/results.md or another document, between the markers of its section."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aiop.graph_ir.tensor_file import atomic_path

__all__ = ["DOCUMENT", "write_page", "write_section"]

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "results.md"


def write_section(section: str, lines: Sequence[str], document: Path = DOCUMENT) -> None:
    """Replace the lines between ``<!-- section: start -->`` and ``<!-- section: end -->``; both must be there."""
    start, end = f"<!-- {section}: start -->", f"<!-- {section}: end -->"
    text = document.read_text(encoding="utf-8")
    before, opened, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise SystemExit(f"{document.name} has no section {section!r}; add the lines {start} and {end} to it")
    document.write_text(f"{before}{start}\n" + "\n".join(lines) + f"\n{end}{after}", encoding="utf-8")


def write_page(page: Path, text: str) -> None:
    """Write a document that is all of one benchmark, complete or not at all."""
    with atomic_path(page) as part:
        part.write_text(text, encoding="utf-8")
