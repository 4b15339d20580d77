"""The way back: a network as ONNX -> a `torch.nn.Module` to fine-tune, converted by onnx2torch.

What onnx2torch 1.5 leaves open is settled here: weights that ONNX reads beside an operator (of a matrix product, a
layer scale, an embedding of positions) become buffers there and would never be trained; batch norms come in training
mode; and it imports torchvision, for two operators of detection, which fails beside a build of torch that is not the
one torchvision was made for.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from aiop.errors import AiopError
from aiop.search.editing.network import EditableNetwork

if TYPE_CHECKING:
    import torch
    from torch import fx

__all__ = ["to_torch"]

_NEWEST = 17
"""The newest opset of which onnx2torch converts nearly every operator; newer files are brought down to it."""

_NOT_TRAINED = frozenset("Resize Upsample Pad Clip Where Slice Tile Range OneHot".split())
"""Operators whose constants are settings, numbers though they may be."""

_MASKED = -50.0  # a constant that holds nothing between this and 0 exclusive, and something below, is a mask


def to_torch(source: str | Path | bytes | onnx.ModelProto | EditableNetwork) -> torch.nn.Module:
    """Return a network as a module with its weights, in evaluation mode; inputs and outputs keep their order.

    Weights are parameters, and running statistics of batch norms are buffers. Convolutions that share their weights in
    the file get a copy each. A batch norm that an exporter has folded into its convolution stays folded: export with
    ``training=torch.onnx.TrainingMode.PRESERVE`` to keep it. Sizes that the file fixes stay fixed, the batch too:
    export with an open batch.

    Args:
        source: an ONNX file, its bytes or its message, or a network that was edited.

    Raises:
        AiopError: onnx2torch is not installed, or does not know an operator of the network.
    """
    network, name = _message(source)
    convert = _converter()
    try:
        module = convert(_lowered(network), attach_onnx_mapping=True)
    except Exception as error:  # whatever a converter raises is a cause to report
        raise AiopError(
            f"{name}: onnx2torch cannot convert it ({_line(error)}); export the network with opset {_NEWEST}, "
            "or fine-tune it where it was made"
        ) from error
    _promote(module)
    return module.eval()


def _message(source: str | Path | bytes | onnx.ModelProto | EditableNetwork) -> tuple[onnx.ModelProto, str]:
    if isinstance(source, EditableNetwork):
        return source.proto(), source.name
    editable = EditableNetwork.read(source)  # which inlines functions, and refuses what is not a network
    return editable.proto(), editable.name


def _lowered(network: onnx.ModelProto) -> onnx.ModelProto:
    """Return the network with an opset that the converter knows; as it is where that cannot be."""
    version = max(
        (item.version for item in network.opset_import if item.domain in ("", "ai.onnx")), default=0
    )
    if version <= _NEWEST:
        return network
    try:
        return onnx.version_converter.convert_version(network, _NEWEST)
    except Exception:  # the converter says what it lacks, if it lacks anything
        return network


def _promote(module: fx.GraphModule) -> None:
    """Make parameters of the constants that are weights, in place.

    onnx2torch copies a constant for every operator that reads it: copies of one initialiser become one parameter again.
    """
    torch = import_module("torch")
    holder = getattr(module, "initializers", None)
    if holder is None:
        return
    first: dict[str, str] = {}
    for node in module.graph.nodes:
        if node.op != "get_attr" or not node.target.startswith("initializers."):
            continue
        name = node.target.removeprefix("initializers.")
        values = getattr(holder, name)
        if not values.is_floating_point() or values.numel() < 2 or _is_setting(values, node, module):
            continue
        delattr(holder, name)
        source = _source(node, module)
        node.target = first.setdefault(source, node.target)
        if node.target == f"initializers.{name}":
            holder.register_parameter(name, torch.nn.Parameter(values))
    module.recompile()


def _source(node: fx.Node, module: fx.GraphModule) -> str:
    """Return the name that the ONNX file has for a constant."""
    user = next(iter(node.users))
    place = user.args.index(node) if node in user.args else None
    mapping: Any = module.get_submodule(str(user.target)).onnx_mapping
    return str(node.target) if place is None else str(mapping.inputs[place])


def _is_setting(values: torch.Tensor, node: fx.Node, module: fx.GraphModule) -> bool:
    readers = {type(module.get_submodule(str(user.target))).__name__ for user in node.users}
    if any(reader.removeprefix("Onnx").startswith(tuple(_NOT_TRAINED)) for reader in readers):
        return True
    masked = values <= _MASKED
    return bool(masked.any()) and bool((masked | (values == 0)).all())


def _converter() -> Callable[..., fx.GraphModule]:
    if sys.modules.get("onnx2torch") is None:
        try:
            with _torchvision_or_stand_in():
                import_module("onnx2torch")
        except ImportError as error:
            raise AiopError(
                f"fine-tuning needs onnx2torch ({error}): install it with `pip install 'aiop[tuning]'`"
            ) from error
    convert: Callable[..., fx.GraphModule] = sys.modules["onnx2torch"].convert
    return convert


@contextmanager
def _torchvision_or_stand_in() -> Iterator[None]:
    """Where torchvision does not import, put an empty module in its place while onnx2torch is imported.

    Only onnx2torch sees it; its converters of `NonMaxSuppression` and `RoiAlign` then fail when they are called.
    """
    try:
        import_module("torchvision")
    except (ImportError, RuntimeError):  # RuntimeError: "operator torchvision::nms does not exist"
        pass
    else:
        yield
        return
    _forget_torchvision()
    package, operators = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
    package.ops = operators  # type: ignore[attr-defined]
    operators.roi_align = _missing  # type: ignore[attr-defined]
    sys.modules |= {"torchvision": package, "torchvision.ops": operators}
    try:
        yield
    finally:
        _forget_torchvision()


def _forget_torchvision() -> None:
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]


def _missing(*args: object, **kwargs: object) -> None:
    raise AiopError("RoiAlign needs torchvision: install the one that was made for your build of torch")


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
