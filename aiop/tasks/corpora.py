"""Benchmark tables as corpora of encoded graphs, cached on disk."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

from rich.progress import track

from aiop.errors import AiopError
from aiop.graph_ir.corpus import Corpus, CorpusWriter
from aiop.graph_ir.features import GraphArrays, encode, fingerprint
from aiop.graph_ir.reading.reader import read_onnx
from aiop.tasks import networks
from aiop.tasks.tables import Table, iter_timm

__all__ = ["FORMS", "cache_dir", "open_corpus", "plain", "variants"]

_CHUNK = 32
_WORTH_PROCESSES = 300
Item = tuple[str, bytes | None]  # name, ONNX bytes (None: the name says how to build it)
Encoded = tuple[str, GraphArrays | None, int, int, str]  # name, arrays, MACs, parameters, why it was refused


def cache_dir() -> Path:
    """The folder that corpora are kept in: ``$AIOP_CACHE``, else ``~/.cache/aiop``."""
    given = os.environ.get("AIOP_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "aiop"


FORMS: dict[str, tuple[str, ...]] = {
    "nas-bench-201": ("cifar10", "imagenet16-120"),
    "nas-bench-mr": ("cls-10", "seg"),
}
"""Other input sizes and heads of a space that are part of its corpus: one in five networks is there in each of them, so
that a predictor learns what changes with the head and what does not. They come after the table's own networks."""

_FORM_EVERY = 5


def variants(table: Table) -> list[str]:
    """Return the networks of `FORMS` that a table's corpus holds besides the table's own: ``space@form:code``."""
    found = []
    for place, form in enumerate(FORMS.get(table.name, ())):
        for network in table.networks[place::_FORM_EVERY]:
            space, _, code = network.partition(":")
            found.append(f"{space}@{form}:{code}")
    return found


def plain(network: str) -> str:
    """Return the name without the form: ``space:code`` of ``space@form:code``."""
    space, _, code = network.partition(":")
    return f"{space.partition('@')[0]}:{code}"


def open_corpus(table: Table, *, workers: int | None = None, progress: bool = True) -> Corpus:
    """Return the corpus of a table's networks, encoding them first where the cache has none that fits.

    A cached corpus fits where it has the features of this version and was made from the same table files.
    ``metadata["macs"]`` and ``["params"]`` count each network as given (in the order of ``corpus.names``),
    ``["refused"]`` maps a network that could not be read to the reason.
    """
    path = cache_dir() / f"{table.name}-{fingerprint()[:12]}.corpus"
    if path.is_file():
        try:
            corpus = Corpus(path)
        except AiopError:
            pass  # made by another version or damaged: it is only a cache
        else:
            if corpus.metadata.get("files") == table.files:
                return corpus
    # starting processes costs more than encoding a few hundred networks
    _build(table, path, (workers or os.cpu_count() or 1) if len(table) >= _WORTH_PROCESSES else 1, progress)
    return Corpus(path)


def _build(table: Table, path: Path, workers: int, progress: bool) -> None:
    metadata: dict[str, object] = {"table": table.name, "files": table.files, "licence": table.licence}
    macs: list[int] = []
    params: list[int] = []
    refused: dict[str, str] = {}
    metadata |= {"macs": macs, "params": params, "refused": refused}
    with CorpusWriter(path, fingerprint(), metadata) as writer:
        encoded = _encode_all(_items(table), workers)
        for name, arrays, mac_count, param_count, why in track(
            encoded,
            f"encoding {table.name}",
            total=len(table) + len(variants(table)),
            disable=not progress,
            transient=True,
        ):
            if arrays is None:
                refused[name] = why
            else:
                writer.add(name, arrays)
                macs.append(mac_count)
                params.append(param_count)


def _items(table: Table) -> Iterator[Item]:
    if table.name == "timm":
        wanted = set(table.networks)
        return ((name, content) for name, content in iter_timm() if name in wanted)
    return ((name, None) for name in (*table.networks, *variants(table)))


def _encode_all(items: Iterator[Item], workers: int) -> Iterator[Encoded]:
    """Encode in order, on several processes, with a bounded number of networks in flight."""
    if workers == 1:
        yield from (
            result for chunk in iter(lambda: list(islice(items, 1)), []) for result in _encode_chunk(chunk)
        )
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = [
            pool.submit(_encode_chunk, chunk) for chunk in _chunks(islice(items, 2 * workers * _CHUNK))
        ]
        while waiting:
            yield from waiting.pop(0).result()
            waiting += [pool.submit(_encode_chunk, chunk) for chunk in _chunks(islice(items, _CHUNK))]


def _chunks(items: Iterator[Item]) -> list[list[Item]]:
    return list(iter(lambda: list(islice(items, _CHUNK)), []))


def _encode_chunk(chunk: list[Item]) -> list[Encoded]:
    return [_encode_one(name, content) for name, content in chunk]


def _encode_one(name: str, content: bytes | None) -> Encoded:
    try:
        graph = networks.read(name) if content is None else read_onnx(content, name=name)
        return name, encode(graph), graph.macs, graph.params, ""
    except AiopError as error:
        return name, None, 0, 0, str(error)
