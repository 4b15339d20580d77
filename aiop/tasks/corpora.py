"""Benchmark tables, and users' own, as corpora of encoded graphs, kept in a cache on disk.

A corpus holds a table's networks in the order of the table, then some of them in other forms (`variants`). It says what
it was made from: the features, the table's files, and what the builders, the reader and the passes make of a few probe
networks. Where any of them has changed the corpus is stale and is refused with the command that builds it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aiop.errors import AiopError
from aiop.graph_ir.corpus import Corpus, CorpusWriter
from aiop.graph_ir.features import fingerprint
from aiop.tasks import networks
from aiop.tasks.provenance import ARCHIVES, builder_fingerprint, forms_of
from aiop.tasks.shards import Item, write_shards
from aiop.tasks.spaces import list_spaces
from aiop.tasks.tables import Table, list_tables, load_table, table_dir
from aiop.tasks.tables.table import is_own, sha256

try:
    import fcntl
except ImportError:  # Windows: two processes that build the same corpus are not kept apart
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "CorpusState",
    "build_corpus",
    "cache_dir",
    "corpus_path",
    "corpus_state",
    "open_corpus",
    "own_sources",
    "plain",
    "source_of",
    "variants",
]

_FORM_EVERY = 5
_WORTH_PROCESSES = 300  # networks: starting processes costs more than encoding fewer


def cache_dir() -> Path:
    """The folder that corpora are kept in: ``$AIOP_CACHE``, else ``~/.cache/aiop``."""
    given = os.environ.get("AIOP_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "aiop"


def variants(table: Table) -> list[str]:
    """Return the networks that a table's corpus holds besides the table's own: ``space@form:code``.

    One network in five is there in every form that a task of the table was measured in, so that a predictor learns
    what changes with the head and what does not. A user's own table names its forms itself.
    """
    found = []
    for place, form in enumerate(forms_of(table.name)):
        for network in table.networks[place % _FORM_EVERY :: _FORM_EVERY]:
            space, _, code = network.partition(":")
            found.append(f"{space}@{form}:{code}")
    return found


def plain(network: str) -> str:
    """Return the name without the form: ``space:code`` of ``space@form:code``."""
    space, _, code = network.partition(":")
    return f"{space.partition('@')[0]}:{code}"


def source_of(table: str | Table) -> str:
    """Return what `load_table` takes for a table: the name of a benchmark table, or the path of a user's own."""
    name = table if isinstance(table, str) else table.path or table.name
    return str(Path(name).resolve()) if is_own(name) else name


def own_sources() -> list[str]:
    """Return the paths of users' own tables that have corpora in the cache, sorted."""
    found = []
    for path in cache_dir().glob("*.corpus"):
        with suppress(AiopError):
            source = Corpus(path, check_fingerprint=False).metadata.get("source")
            if isinstance(source, str) and is_own(source) and corpus_path(source) == path:
                found.append(source)
    return sorted(found)


def corpus_path(table: str | Table) -> Path:
    """Return where the corpus of a table, given by name or path or as loaded, is kept; it need not be there."""
    source = source_of(table)
    # tables of one's own may have the same name in several folders
    mark = f"-{hashlib.sha256(source.encode()).hexdigest()[:8]}" if is_own(source) else ""
    return cache_dir() / f"{Path(source).stem if mark else source}{mark}.corpus"


@dataclass(frozen=True)
class CorpusState:
    """Whether a corpus fits its table and this version.

    Attributes:
        kind: ``fresh``, ``stale`` or ``missing``.
        why: what changed, of a stale one.
        corpus: the corpus itself where it is fresh.
    """

    kind: Literal["fresh", "stale", "missing"]
    why: str = ""
    corpus: Corpus | None = None


def corpus_state(table: str | Table) -> CorpusState:
    """Look whether the corpus of a table, given by name or path or as loaded, can be used as it is.

    A table given by name or path is not loaded. An unknown name is an `AiopError`.
    """
    if isinstance(table, str) and not is_own(table) and table not in list_tables(embedded=True):
        load_table(table)  # says what the tables are
    path = corpus_path(table)
    if not path.is_file():
        return CorpusState("missing")
    try:
        corpus = Corpus(path, check_fingerprint=False)
        why = _changes(corpus, table)
    except (AiopError, AttributeError, KeyError, TypeError, ValueError) as error:
        why = str(error) if isinstance(error, AiopError) else "its header lacks what it was made from"
        return CorpusState("stale", why)
    return CorpusState("stale", why) if why else CorpusState("fresh", corpus=corpus)


def _changes(corpus: Corpus, table: str | Table) -> str:
    """What a corpus was made from that is no longer so, or nothing."""
    made = corpus.metadata
    if corpus.fingerprint != fingerprint():
        return "it was encoded with other features than this version has"
    if isinstance(table, Table):
        files = table.files
    else:
        # of one's own table the networks' files are looked at below
        paths = [Path(table)] if is_own(table) else [table_dir(table) / file for file in made["files"]]
        files = {path.name: _sha256(path) for path in paths}
    changed = sorted(file for file, digest in files.items() if made["files"].get(file) != digest)
    if changed:
        return f"{', '.join(changed)} changed"
    if isinstance(table, Table) and made["networks"] != _digest([*table.networks, *variants(table)]):
        return "the table holds other networks"
    made_by = made["made_by"]
    if made["table"] in list_spaces():  # which forms are measured may have changed
        made_by = made_by | {"spaces": {made["table"]: list(forms_of(made["table"]))}}
    if made["builder"] != builder_fingerprint(**made_by, folder=cache_dir()):
        return "builders, reader or passes make other networks of the same codes"
    return ""


def open_corpus(table: str | Table) -> Corpus:
    """Open the corpus of a table, given by name or path or as loaded; of a name or path the table is not loaded.

    ``metadata["refused"]`` maps every network that could not be read to the reason.

    Raises:
        AiopError: with the command that builds it, where the corpus is not there or is stale.
    """
    state = corpus_state(table)
    if state.corpus is None:
        source = source_of(table)
        found = "has no corpus yet" if state.kind == "missing" else f"has a stale corpus ({state.why})"
        raise AiopError(f'table "{source}" {found}: build it with `aiop corpus build {source}`')
    return state.corpus


def build_corpus(
    table: str | Table, *, workers: int | None = None, progress: bool = True, anew: bool = False
) -> Corpus:
    """Encode the networks of a table, given by name or path or as loaded, and return the corpus.

    A corpus that is up to date is returned as it is. What an interrupted run finished is not done again; the file is
    the same to the byte however many processes made it and however often they were interrupted.

    Args:
        table: the table.
        workers: processes that encode; as many as there are processors by default.
        progress: show a bar on stderr.
        anew: build also what is up to date.

    Raises:
        AiopError: for a table that cannot be loaded, where none of its networks can be read, and while another
            process builds the same corpus.
    """
    table = load_table(table) if isinstance(table, str) else table
    path = corpus_path(table)
    parts = path.with_name(f"{path.name}.parts")
    with _building(parts):
        state = corpus_state(table)
        if state.corpus is not None and not anew:
            return state.corpus
        _build(table, path, parts, workers or _processors(), progress)
    return Corpus(path)


def _build(table: Table, path: Path, parts: Path, workers: int, progress: bool) -> None:
    names = [*table.networks, *variants(table)]
    made_by = _made_by(table, names)
    builder = builder_fingerprint(**made_by, folder=cache_dir())
    refused: dict[str, str] = {}
    metadata = {
        "table": table.name,
        "source": source_of(table),
        "files": table.files,
        "licence": table.licence,
        "networks": _digest(names),
        "made_by": made_by,
        "builder": builder,
        "refused": refused,
    }
    key = _digest([fingerprint(), builder, sorted(table.files.items())])
    shards: dict[int, Path] = {}
    with _bar(progress) as bar:
        task = bar.add_task(f"encoding {table.name}", total=len(names), refused="")
        count = 0
        for shard in write_shards(_items(table), parts, key, 1 if len(names) < _WORTH_PROCESSES else workers):
            shards[shard.number] = shard.path
            count += shard.refused
            bar.update(task, advance=shard.networks, refused=f"{count:,} refused" if count else "")
    with CorpusWriter(path, fingerprint(), metadata, may_be_empty=True) as writer:
        for number in range(len(shards)):
            shard_corpus = Corpus(shards[number])
            refused |= shard_corpus.metadata["refused"]
            writer.extend(shard_corpus)
        if len(refused) == len(names):
            name, why = next(iter(refused.items()), ("none", "it names no network"))
            raise AiopError(f'table "{table.name}" has no network that can be read, e.g. {name}: {why}')


def _made_by(table: Table, names: Sequence[str]) -> dict[str, Any]:
    """The arguments of `builder_fingerprint` for a table with networks ``names``."""
    if table.name in ARCHIVES:
        return {"spaces": {}, "archives": {table.name: _digest(sorted(table.files.items()))}, "files": []}
    if table.name in list_spaces():
        return {"spaces": {table.name: list(forms_of(table.name))}, "archives": {}, "files": []}
    forms: dict[str, set[str]] = {}
    files = []
    for name in names:
        if not networks.is_code(name):
            files.append(name)
            continue
        with suppress(AiopError):  # such a network is refused with its reason
            space, form, _ = networks.parse_code(name)
            forms.setdefault(space.name, set()).update({form or ""} & space.forms.keys())
    spaces = {space: sorted(found) for space, found in sorted(forms.items())}
    return {"spaces": spaces, "archives": {}, "files": sorted(files)}


def _items(table: Table) -> Iterator[Item]:
    if table.name in ARCHIVES:
        wanted = set(table.networks)
        return ((name, content) for name, content in ARCHIVES[table.name]() if name in wanted)
    return ((name, None) for name in (*table.networks, *variants(table)))


def _digest(value: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _sha256(path: Path) -> str:
    try:
        return sha256(path)
    except OSError:
        return "not there"


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _bar(progress: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[refused]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (progress and console.is_terminal),
    )


@contextmanager
def _building(parts: Path) -> Iterator[None]:
    """Make the folder of the shards, keep other processes out of it, and remove it once the block has succeeded."""
    try:
        parts.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(parts, os.O_RDONLY) if fcntl else -1
    except OSError as error:
        raise AiopError(
            f"{parts} cannot be made ({error.strerror}): check AIOP_CACHE and its rights"
        ) from error
    try:
        if fcntl:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AiopError(f"another process is building into {parts}: wait until it is done") from None
        yield
        shutil.rmtree(parts, ignore_errors=True)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
