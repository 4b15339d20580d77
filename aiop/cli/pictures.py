"""Where ``--svg`` puts pictures: one network's into a file, many into a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph

__all__ = ["Pictures"]

_LONGEST_STEM = 120  # characters of a file name made from an architecture code


class Pictures:
    """Writes pictures to ``target``, a file that ends in ``.svg``, or a folder: one there, or ending in ``/``.

    Raises:
        AiopError: for a target that no picture may be written to, and for one file when ``nets`` are several networks.
    """

    def __init__(self, target: str, nets: Sequence[str]) -> None:
        self._path = Path(target)
        self._is_folder = target.endswith(("/", os.sep)) or self._path.is_dir()
        self._taken: set[str] = set()
        if self._is_folder:
            return
        if self._path.suffix.lower() != ".svg":
            raise AiopError(
                f'--svg "{target}" does not end in .svg: write it like graph.svg, or a folder like graphs/'
            )
        if self._path.exists() and not self._path.is_file():
            raise AiopError(f'cannot write "{target}": it is no regular file; give the name of a file')
        count = _networks(nets)
        if count > 1:
            raise AiopError(f'--svg "{target}" is one file for {count} networks: give a folder like graphs/')

    def write(self, network: str, graph: ComputeGraph) -> Path:
        """Draw a network; its file appears complete or not at all. Return where it is."""
        from aiop.graph_ir.svg import to_svg
        from aiop.graph_ir.tensor_file import atomic_path

        picture = to_svg(graph).encode()
        path = self._path / self._name(network) if self._is_folder else self._path
        with atomic_path(path) as temporary:
            temporary.write_bytes(picture)
        return path

    def _name(self, network: str) -> str:
        """Return a file name that no network before has got."""
        from aiop.tasks.networks import is_code

        stem = Path(network).stem
        if is_code(network):
            stem = re.sub(r"[^\w.-]+", "-", network, flags=re.ASCII).strip("-.")[:_LONGEST_STEM]
        name, number = f"{stem}.svg", 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem}-{number}.svg"
        self._taken.add(name.casefold())
        return name


def _networks(nets: Sequence[str]) -> int:
    """Return how many networks there are; what cannot be found is reported where it is read."""
    from aiop.tasks.networks import expand

    count = 0
    for net in nets:
        with suppress(AiopError):
            count += len(expand([net]))
    return count
