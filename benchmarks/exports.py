"""Write real networks to ONNX in every way that exporters and optimisers know, for comparing what is read back.

    python -m benchmarks.exports [--cache FOLDER] [--networks GLOB] [--variants GLOB]

makes `FOLDER/NETWORK/VARIANT.onnx`, without the values of large weights (nothing here reads them), or
`VARIANT.refused` with the reason where an exporter or optimiser cannot. What is there already is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import logging
import os
import random
import re
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import onnx

from aiop.errors import AiopError
from aiop.tasks.corpora import cache_dir
from benchmarks.architectures import NETWORKS, Architecture, build, library

__all__ = ["REFERENCE", "VARIANTS", "Workshop", "default_cache", "export_all", "without_values"]

REFERENCE = "torchscript-17"
"""The variant that all others are compared with."""

_KEPT = 65_536  # bytes: the values of larger tensors are left out of the files


# -- variants


class Workshop:
    """Exports of one network; what several variants start from is made once.

    Where an exporter refuses torch's attention operator (low opsets, more than four axes), timm's attention is
    exported spelled out as products, which is what its users then do.
    """

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.programs: dict[bool, Any] = {}

    @functools.cached_property
    def network(self) -> tuple[Any, Any]:
        """The network and an input."""
        return build(self.architecture)

    @functools.cached_property
    def spelled(self) -> tuple[Any, Any]:
        """The same network with its attention spelled out."""
        return build(self.architecture, fused=False)

    @functools.cached_property
    def reference(self) -> onnx.ModelProto:
        """The variant that optimisers start from, with all weights."""
        return self.torchscript(17)

    def torchscript(self, opset: int, **options: Any) -> onnx.ModelProto:
        """Export by tracing."""
        import torch

        def write(fused: bool) -> onnx.ModelProto:
            network, image = self.network if fused else self.spelled
            buffer = io.BytesIO()
            target: Any = buffer  # the exporter says that it takes paths only, and takes this too
            torch.onnx.export(network, (image,), target, dynamo=False, opset_version=opset, **options)
            return onnx.load_from_string(buffer.getvalue())

        return self._fused_or_spelled(write)

    def dynamo(self, opset: int, **options: Any) -> onnx.ModelProto:
        """Export through `torch.export`."""
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        def write(fused: bool) -> onnx.ModelProto:
            # The fast kernels' strides are not what the exporter's own decomposition gives: it trips over masked
            # attention. With the plain kernel it writes the same operators.
            with sdpa_kernel(SDPBackend.MATH):
                if fused not in self.programs:
                    network, image = self.network if fused else self.spelled
                    self.programs[fused] = torch.export.export(network, (image,), strict=False)
                result: Any = torch.onnx.export(
                    self.programs[fused], dynamo=True, opset_version=opset, verbose=False, **options
                )
            written: onnx.ModelProto = result.model_proto
            return written

        return self._fused_or_spelled(write)

    def _fused_or_spelled(self, write: Callable[[bool], onnx.ModelProto]) -> onnx.ModelProto:
        try:
            return write(True)
        except Exception as error:  # exporters raise anything
            reason = str(_cause(error))
            if self.architecture.library != "timm" or ("attention" not in reason and "query" not in reason):
                raise
            return write(False)

    def with_batch_norm(self) -> onnx.ModelProto:
        """Export with batch norm as an operator of its own."""
        import torch

        return self.torchscript(17, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)

    def slim(self) -> onnx.ModelProto:
        """Return the reference as onnxslim leaves it."""
        network: onnx.ModelProto = library("onnxslim").slim(_copy(self.reference))
        return network

    def simplified(self) -> onnx.ModelProto:
        """Return the reference as onnxsim leaves it."""
        network: onnx.ModelProto = library("onnxsim").simplify(_copy(self.reference))[0]
        return network

    def runtime(self) -> onnx.ModelProto:
        """Return the reference as onnxruntime's basic optimisation leaves it."""
        ort = library("onnxruntime")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "optimised.onnx"
            options = ort.SessionOptions()
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
            options.optimized_model_filepath = str(path)
            options.log_severity_level = 3
            ort.InferenceSession(
                self.reference.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            return onnx.load(path)

    def shuffled(self) -> onnx.ModelProto:
        """Return the reference with other names, nodes in another valid order, and initialisers shuffled."""
        return shuffled(self.reference, zlib.crc32(self.architecture.name.encode()))


Variant = Callable[[Workshop], onnx.ModelProto]

VARIANTS: dict[str, Variant] = {
    REFERENCE: lambda shop: shop.reference,
    "torchscript-17-batchnorm": lambda shop: shop.with_batch_norm(),
    "torchscript-17-unfolded": lambda shop: shop.torchscript(17, do_constant_folding=False),
    "shuffled": lambda shop: shop.shuffled(),
    "ort-basic": lambda shop: shop.runtime(),
    "onnxslim": lambda shop: shop.slim(),
    "onnxsim": lambda shop: shop.simplified(),
    "torchscript-11": lambda shop: shop.torchscript(11),
    "torchscript-13": lambda shop: shop.torchscript(13),
    "torchscript-16": lambda shop: shop.torchscript(16),
    "torchscript-18": lambda shop: shop.torchscript(18),
    "torchscript-20": lambda shop: shop.torchscript(20),
    "dynamo-18": lambda shop: shop.dynamo(18),
    "dynamo-18-raw": lambda shop: shop.dynamo(18, optimize=False),
    "dynamo-20": lambda shop: shop.dynamo(20),
    "dynamo-23": lambda shop: shop.dynamo(23),
}


def _copy(network: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(network)
    return copy


def shuffled(network: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """Return a network with every tensor and node renamed, in a random topological order.

    Names of inputs and outputs change as well. Subgraphs keep their inner order.
    """
    network = _copy(network)
    chance, graph = random.Random(seed), network.graph
    names: dict[str, str] = {"": ""}

    def renamed(name: str) -> str:
        return names.setdefault(name, f"t{chance.getrandbits(48):012x}")

    def rename(part: onnx.GraphProto) -> None:
        for item in (*part.input, *part.output, *part.initializer, *part.value_info):
            item.name = renamed(item.name)
        for node in part.node:
            node.name = f"n{chance.getrandbits(48):012x}"
            node.input[:] = [renamed(name) for name in node.input]
            node.output[:] = [renamed(name) for name in node.output]
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    rename(attribute.g)

    rename(graph)
    for values in (graph.initializer, graph.value_info):
        items = list(values)
        chance.shuffle(items)
        del values[:]
        values.extend(items)
    made_here = {name for node in graph.node for name in node.output}
    waiting, done, order = list(graph.node), set(names.values()) - made_here, []
    while waiting:
        ready = [node for node in waiting if _needed(node) & made_here <= done]
        chosen = {id(node) for node in ready if chance.random() < 0.7} or {id(ready[0])}
        order += (picked := [node for node in ready if id(node) in chosen])
        done.update(name for node in picked for name in node.output)
        waiting = [node for node in waiting if id(node) not in chosen]
    del graph.node[:]
    graph.node.extend(order)
    return network


def _needed(node: onnx.NodeProto) -> set[str]:
    """Return the names a node reads, those inside its subgraphs too."""
    names = set(node.input)
    for attribute in node.attribute:
        for inner in attribute.g.node:
            names |= _needed(inner)
    return names


# -- files


def default_cache() -> Path:
    """Return the folder of the files where none is named."""
    return cache_dir() / "exports"


def export_all(cache: Path, networks: str = "*", variants: str = "*") -> None:
    """Write every variant that is not in ``cache`` yet."""
    chosen = [each for name, each in NETWORKS.items() if fnmatchcase(name, networks)]
    for number, architecture in enumerate(chosen, 1):
        folder = cache / architecture.name
        folder.mkdir(parents=True, exist_ok=True)
        missing = [
            name
            for name in VARIANTS
            if fnmatchcase(name, variants)
            and not (folder / f"{name}.onnx").exists()
            and not (folder / f"{name}.refused").exists()
        ]
        shop, start = Workshop(architecture), time.perf_counter()
        if missing:
            _ = shop.network  # made here, so that no mistake in making it passes for an exporter's refusal
        for name in missing:
            _export(shop, name, folder)
        if missing:
            seconds = time.perf_counter() - start
            print(
                f"[{number}/{len(chosen)}] {architecture.name}: {len(missing)} in {seconds:.0f} s", flush=True
            )


def _export(shop: Workshop, variant: str, folder: Path) -> None:
    """Write one variant, or why there is none."""
    try:
        with _silence():
            network = _copy(VARIANTS[variant](shop))
    except AiopError:
        raise
    except Exception as raised:  # exporters raise anything
        error = _cause(raised)
        reason = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")[:300]
        _write(folder / f"{variant}.refused", reason.encode())
        print(f"  {shop.architecture.name}/{variant} refused: {reason[:160]}", flush=True)
        return
    without_values(network)
    _write(folder / f"{variant}.onnx", network.SerializeToString())


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drop what is printed, by C++ too: exporters print whole graphs when they fail."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(stream) for stream in (1, 2)]
    with Path(os.devnull).open("w") as nowhere:
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, stream)
                os.close(copy)


def _cause(error: BaseException) -> BaseException:
    """Return what an error was first raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def without_values(network: onnx.ModelProto) -> None:
    """Leave out the values of large tensors, as of a file whose external data is absent."""
    for graph in (network.graph, *network.functions):
        for tensor in _tensors(graph):
            if tensor.ByteSize() > _KEPT:
                dims, kind, name = list(tensor.dims), tensor.data_type, tensor.name
                tensor.Clear()
                tensor.dims.extend(dims)
                tensor.data_type, tensor.name = kind, name
                tensor.data_location = onnx.TensorProto.EXTERNAL
                tensor.external_data.add(key="location", value="weights.bin")


def _tensors(graph: Any) -> Iterable[onnx.TensorProto]:
    yield from getattr(graph, "initializer", ())
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)


def _write(path: Path, data: bytes) -> None:
    """Write a file that is never seen half written."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.rename(path)


def main() -> None:
    """Export."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of the files")
    parser.add_argument("--networks", default="*", help="glob of the networks to export")
    parser.add_argument("--variants", default="*", help="glob of the variants to export")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    export_all(options.cache, options.networks, options.variants)


if __name__ == "__main__":
    main()
