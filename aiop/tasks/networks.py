"""Networks by name: a path to an ONNX file, or ``space:code`` (``space@form:code`` for one form)."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING

from aiop.errors import AiopError
from aiop.tasks.spaces import get_space
from aiop.tasks.spaces.base import SearchSpace

if TYPE_CHECKING:
    import onnx

    from aiop.graph_ir import ComputeGraph
    from aiop.tasks.spaces.writer import WeightMode

__all__ = ["build", "expand", "is_code", "parse_code", "read", "write_atomically"]

# At least two characters before the colon, so that a drive letter is never a space.
_CODE = re.compile(r"([a-z][a-z0-9-]+)(?:@([a-z0-9_.-]+))?:(.*)", re.DOTALL)


def is_code(net: str) -> bool:
    """Whether ``net`` names an architecture as ``space:code`` (an existing file of that name wins)."""
    return _CODE.fullmatch(net) is not None and not os.path.lexists(net)


def parse_code(net: str) -> tuple[SearchSpace[object], str | None, str]:
    """Split ``space@form:code`` into the space, the form (None for the default) and the code."""
    match = _CODE.fullmatch(net)
    if match is None:
        raise AiopError(f'"{net}" is not an architecture code: write "space:code", see "aiop build --help"')
    space, form, code = match.groups()
    return get_space(space), form, code


def build(
    net: str, path: str | Path | None = None, weights: WeightMode = "shapes", seed: int = 0
) -> onnx.ModelProto:
    """Write the network of ``space:code``, to ``path`` where one is given, and return it.

    ``weights="shapes"`` gives a small file whose large weights are constants, ``"random"`` He-initialised
    weights drawn by ``seed``. The file appears complete or not at all.
    """
    space, form, code = parse_code(net)
    network = space.build(code, form, weights, seed)
    if path is not None:
        write_atomically(network.SerializeToString(), Path(path))
    return network


def write_atomically(content: bytes, path: Path) -> None:
    """Write a file that appears complete or not at all; what stands in the way is an `AiopError`."""
    if path.is_dir():
        raise AiopError(f'cannot write "{path}": it is a directory; give the name of a file')
    if path.exists() and not path.is_file():
        raise AiopError(f'cannot write "{path}": it is no regular file; give the name of a file')
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp makes files private
        temporary.replace(path)
    except OSError as error:
        raise AiopError(
            f'cannot write "{path}": {error.strerror or error}; give a path in a writable folder'
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def expand(nets: Sequence[str | Path]) -> list[str]:
    """Resolve codes, files, globs and folders (every ``*.onnx`` below, sorted) into single networks.

    Codes and files are returned as given. A missing file, a folder without networks and a glob without
    matches are `AiopError`.
    """
    names: list[str] = []
    for net in map(str, nets):
        names += _expand_one(net)
    return names


def _expand_one(net: str) -> list[str]:
    if is_code(net):
        return [net]
    path = Path(net)
    try:
        if path.is_dir():
            found = sorted(str(file) for file in path.rglob("*.onnx") if file.is_file())
            if not found:
                raise AiopError(
                    f'directory "{net}" holds no network: put *.onnx files into it, or name a file'
                )
            return found
        if path.exists():
            return [net]
    except OSError as error:
        raise AiopError(f'cannot read "{net}": {error.strerror or error}; check the path') from error
    if has_magic(net):
        found = sorted(file for file in glob(net, recursive=True) if Path(file).is_file())  # noqa: PTH207
        if not found:
            raise AiopError(f'pattern "{net}" matches no file: check the folder and the pattern')
        return found
    raise AiopError(f'file "{net}" does not exist: give a path to an ONNX file, or a "space:code"')


def read(net: str | Path, shapes: Mapping[str, Sequence[int]] | None = None) -> ComputeGraph:
    """Read a network, file or code, as a `ComputeGraph` whose name is ``net`` as given.

    ``shapes`` gives the shape of inputs that the file leaves open, as in ``{"image": (1, 3, 224, 224)}``.
    """
    from aiop.graph_ir import read_onnx

    name = str(net)
    if is_code(name):
        return read_onnx(build(name), name=name, shapes=shapes)
    return read_onnx(Path(name), name=name, shapes=shapes)
