"""What the networks of a corpus are made by: a fingerprint of builders, reader and passes that nobody has to keep.

A few fixed networks of every space are built, read and brought to canonical form; whatever changes what comes out
changes the fingerprint. As that takes up to a second, results are remembered in the cache for as long as the source
code and the packages that it builds on stay the same.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np

from aiop.errors import AiopError
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.graph_ir.reading.reader import read_onnx
from aiop.graph_ir.tensor_file import atomic_path
from aiop.tasks.spaces import get_space, list_spaces
from aiop.tasks.tables import iter_timm
from aiop.tasks.task import get_task, list_tasks

__all__ = ["ARCHIVES", "builder_fingerprint", "forms_of"]

ARCHIVES: Mapping[str, Callable[[], Iterator[tuple[str, bytes]]]] = {"timm": iter_timm}
"""Table -> stream of (name, ONNX bytes), where networks come from an archive and not from a search space."""

_SAMPLES = 2  # probes of a space besides its example
_MEMBERS = 3  # probes of an archive
_PACKAGES = ("numpy", "onnx", "protobuf")


def forms_of(name: str) -> tuple[str, ...]:
    """Return the forms besides the default one in which a table's networks were measured, in the space's order."""
    if name not in list_spaces():
        return ()
    space = get_space(name)
    measured = {get_task(task).form for task in list_tasks(f"*/{name}/*")} - {"", space.default_form}
    return tuple(form for form in space.forms if form in measured)


def builder_fingerprint(
    spaces: Mapping[str, Sequence[str]],
    archives: Mapping[str, str],
    files: Sequence[str],
    folder: Path,
) -> str:
    """Return the SHA-256 over what becomes of the probes.

    Args:
        spaces: search space -> forms besides the default one.
        archives: of `ARCHIVES`, each with the hash of its file.
        files: ONNX files, which count with their size and time of change.
        folder: where results are remembered.
    """
    probes = {
        json.dumps([name, *forms]): (lambda name=name, forms=forms: _of_space(name, forms))
        for name, forms in spaces.items()
    } | {
        json.dumps([name, digest]): (lambda name=name: islice(ARCHIVES[name](), _MEMBERS))
        for name, digest in archives.items()
    }
    memory = folder / "builders.json"
    known = _remembered(memory)
    found = {key: known.get(key) or _digest(probe()) for key, probe in probes.items()}
    if not found.keys() <= known.keys():
        with suppress(AiopError), atomic_path(memory) as path:  # only a memory
            path.write_text(json.dumps({"code": _code(), "digests": known | found}), encoding="utf-8")
    return hashlib.sha256(json.dumps([found, [_stamp(file) for file in files]]).encode()).hexdigest()


def _of_space(name: str, forms: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    space = get_space(name)
    rng = np.random.default_rng(0)
    for code in (space.example, *(space.sample(rng) for _ in range(_SAMPLES))):
        for form in (None, *forms):
            yield code, space.build(code, form).SerializeToString()


def _digest(probes: Iterator[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256()
    for name, content in probes:
        digest.update(content)
        try:
            graph = read_onnx(content, name=name)
            seen = [content_hash(canonicalise(graph)), graph.macs, graph.params]
        except AiopError as error:
            seen = [str(error)]
        digest.update(json.dumps(seen).encode())
    return digest.hexdigest()


def _stamp(file: str) -> list[object]:
    try:
        status = Path(file).stat()
    except OSError:
        return [file]
    return [file, status.st_size, status.st_mtime_ns]


def _remembered(path: Path) -> dict[str, str]:
    with suppress(OSError, ValueError, KeyError, TypeError):
        memory = json.loads(path.read_text(encoding="utf-8"))
        if memory["code"] == _code():
            return {str(key): str(value) for key, value in memory["digests"].items()}
    return {}


@cache
def _code() -> str:
    """Hash of the source code that builds and reads networks, and the versions of what it builds on."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256(json.dumps([sys.version, *map(version, _PACKAGES)]).encode())
    for folder in ("graph_ir", "tasks"):
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
