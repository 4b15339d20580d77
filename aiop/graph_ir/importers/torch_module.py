"""`torch.nn.Module` -> `ComputeGraph`, exported in memory and without its weights.

The TorchScript exporter goes first, the dynamo exporter where it fails (or where a torch no longer has it). Measured on
small networks the first takes a tenth of the time and needs no onnxscript; what decides is that it can leave parameters
out of the file: they become inputs with the names they have in the module. So nothing of them is copied or written,
2 GB of weights are no limit, and parameters that happen to be equal (the layers of a new `nn.TransformerEncoder`, every
new norm) stay apart, where the dynamo exporter's optimiser stores equal ones once and the count comes out short.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import onnx
from onnx import numpy_helper

from aiop.errors import AiopError
from aiop.graph_ir.graph import ComputeGraph
from aiop.graph_ir.reading.reader import read_onnx

if TYPE_CHECKING:
    import torch

    ExampleInputs = torch.Tensor | Sequence[Any] | Mapping[str, Any]

__all__ = ["from_torch", "is_module"]

LARGEST_VALUE = 65_536
"""Bytes: smaller tensors keep their values, since shapes are computed from some of them (as in files)."""

_PREFIX = "module."
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def is_module(value: object) -> bool:
    """Whether ``value`` is a `torch.nn.Module`; never imports torch (who holds a module has done so)."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def from_torch(
    module: torch.nn.Module, example_inputs: ExampleInputs, *, name: str | None = None
) -> ComputeGraph:
    """Export a module in evaluation mode, in memory, and read it as a graph.

    The forward pass runs once or twice on the example. The module comes back as it was, also after a failure:
    parameters are only read, buffers and the training flag of every submodule are put back. ``params`` counts the
    parameters that the forward pass uses, each once; buffers do not count.

    Args:
        module: Any module that can be traced; where its forward pass branches on values, the example's branch counts.
        example_inputs: One tensor, a sequence of positional arguments, or a mapping of keyword arguments of
            ``forward``, on the device of the module. The graph has their shapes.
        name: How the network is called in errors and results; the class of the module where left out.

    Raises:
        AiopError: No module or no tensor was given, the module fails on the example, or no exporter knows one of its
            operators.
    """
    if not is_module(module):
        raise AiopError(
            f"{name or 'network'}: from_torch reads a torch.nn.Module, not a {type(module).__name__}; "
            "give the module, or the path of an ONNX file to aiop.read"
        )
    name = name or type(module).__name__
    if isinstance(module, import_module("torch").jit.ScriptModule):
        raise AiopError(f"{name}: is compiled by TorchScript; give the torch.nn.Module that it was made from")
    args, kwargs = _arguments(example_inputs)
    wrapper, tensors, input_names = _flat(module, args, kwargs, name)
    with _untouched(module):
        try:
            network = _torchscript(wrapper, tensors, input_names)
        except Exception as error:  # whatever a module, a tracer or an exporter raises is a cause to report
            network = _second_attempt(wrapper, tensors, input_names, error, name)
        graph = read_onnx(network, name=name)
        _count_parameters(network, graph, module)
    return graph


# -- calling the module with tensors only


def _arguments(example_inputs: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, list | tuple):
        return tuple(example_inputs), {}
    return (example_inputs,), {}


def _flat(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str
) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], list[str]]:
    """Return the module as one that takes and returns tensors only, the example's tensors, and their names."""
    torch = import_module("torch")
    tree = import_module("torch.utils._pytree")
    leaves, structure = tree.tree_flatten((args, kwargs))
    slots = [index for index, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    if not slots:
        raise AiopError(
            f"{name}: the example inputs hold no tensor; give the arguments of forward, for example "
            "torch.randn(1, 3, 224, 224)"
        )

    class Flat(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.training = False
            self.module = module

        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            filled = list(leaves)
            for slot, tensor in zip(slots, tensors, strict=True):
                filled[slot] = tensor
            positional, named = tree.tree_unflatten(filled, structure)
            found: list[Any] = []
            for leaf in tree.tree_leaves(self.module(*positional, **named)):
                parts = vars(leaf).values() if dataclasses.is_dataclass(leaf) else (leaf,)
                found += [part for part in parts if isinstance(part, torch.Tensor)]
            if not found:
                raise TypeError("forward returns no tensor")
            return tuple(found)

    tensors = tuple(leaves[slot] for slot in slots)
    return Flat(), tensors, _input_names(module, args, kwargs, tensors)


def _input_names(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: tuple[torch.Tensor, ...]
) -> list[str]:
    """Return the names that ``forward`` gives its arguments, or numbered ones where tensors are nested in them."""
    names: dict[int, str] = {}
    with contextlib.suppress(TypeError, ValueError):
        bound = inspect.signature(module.forward).bind_partial(*args, **kwargs)
        names = {id(value): key for key, value in bound.arguments.items()}
    found = [names.get(id(tensor), "") for tensor in tensors]
    if all(found) and len(set(found)) == len(found):
        return found
    return [f"input_{index}" for index in range(len(tensors))]


@contextlib.contextmanager
def _untouched(module: torch.nn.Module) -> Iterator[None]:
    """Switch to evaluation, silence everything, and put back whatever the export may have changed."""
    torch = import_module("torch")
    # Flags are set one by one: `module.eval()` may be overridden, and some modules merge weights in it.
    modes = [(child, child.training) for child in module.modules()]
    buffers = [tensor for tensor in module.buffers() if not tensor.is_inference()]  # those cannot change
    state = [(tensor, tensor._version, tensor.detach().clone()) for tensor in buffers]
    fast = torch.backends.mha.get_fastpath_enabled()
    disabled = logging.root.manager.disable
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            stack.enter_context(warnings.catch_warnings())
            # A log of failures that goes past `sys.stdout` and cannot be turned off.
            stack.enter_context(_replaced(torch._C, "_jit_onnx_log", lambda _, *args: None))
            # Shape inference, which transposes the values of weights to know their shapes: it does without values.
            stack.enter_context(
                _replaced(
                    torch._C,
                    "_jit_pass_onnx_graph_shape_type_inference",
                    lambda infer, graph, values, *rest: infer(graph, {}, *rest),
                )
            )
            stack.enter_context(torch.random.fork_rng(devices=[]))
            stack.enter_context(torch.no_grad())
            warnings.simplefilter("ignore")
            logging.disable(logging.CRITICAL)
            torch.backends.mha.set_fastpath_enabled(False)  # one fused operator that no exporter knows
            for child, _ in modes:
                child.training = False
            yield
    finally:
        logging.disable(disabled)
        torch.backends.mha.set_fastpath_enabled(fast)
        for child, mode in modes:
            child.training = mode
        with torch.no_grad():
            for tensor, version, saved in state:
                if tensor._version != version:
                    tensor.copy_(saved)


@contextlib.contextmanager
def _replaced(home: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Call ``function``, the original before its arguments, instead of a function that another torch may not have."""
    original = getattr(home, name, None)
    if original is None:
        yield
        return
    setattr(home, name, partial(function, original))
    try:
        yield
    finally:
        setattr(home, name, original)


# -- the exporters


def _torchscript(
    wrapper: torch.nn.Module, tensors: tuple[torch.Tensor, ...], input_names: list[str]
) -> onnx.ModelProto:
    torch = import_module("torch")
    onnx_export = import_module("torch.onnx")
    file = io.BytesIO()
    onnx_export.export(
        wrapper,
        tensors,
        file,
        input_names=input_names,
        dynamo=False,
        export_params=False,
        keep_initializers_as_inputs=True,  # no merging of equal values
        do_constant_folding=False,  # no folding of batch norm into convolutions
        training=onnx_export.TrainingMode.PRESERVE,  # no call of train(), which modules may override
    )
    network = onnx.load_model_from_string(file.getvalue())
    state = wrapper.state_dict(keep_vars=True)
    inputs = list(network.graph.input)
    del network.graph.input[:]
    for value in inputs:
        tensor = state.get(value.name)
        if tensor is None:
            network.graph.input.append(value)
            continue
        weight = network.graph.initializer.add(
            name=value.name, data_type=value.type.tensor_type.elem_type, dims=tuple(tensor.shape)
        )
        if tensor.numel() * tensor.element_size() <= LARGEST_VALUE and tensor.device.type != "meta":
            with contextlib.suppress(TypeError):  # element types that numpy does not have
                weight.CopyFrom(
                    numpy_helper.from_array(tensor.detach().to(torch.device("cpu")).numpy(), value.name)
                )
    return network


def _dynamo(
    wrapper: torch.nn.Module, tensors: tuple[torch.Tensor, ...], input_names: list[str]
) -> onnx.ModelProto:
    onnx_export = import_module("torch.onnx")
    ir = import_module("onnx_ir")
    # The optimiser stores equal parameters once; the passes of this package do what else it does.
    program = onnx_export.export(
        wrapper, tensors, input_names=input_names, dynamo=True, optimize=False, verbose=False
    )
    network = program.model
    for key, value in network.graph.initializers.items():
        weight = value.const_value
        if weight is None:
            continue
        if weight.nbytes > LARGEST_VALUE or getattr(getattr(weight, "raw", None), "is_meta", False):
            value.const_value = ir.ExternalTensor("", None, None, weight.dtype, shape=weight.shape, name=key)
    proto: onnx.ModelProto = ir.to_proto(network)
    for tensor in proto.graph.initializer:
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    return proto


def _second_attempt(
    wrapper: torch.nn.Module,
    tensors: tuple[torch.Tensor, ...],
    input_names: list[str],
    first: Exception,
    name: str,
) -> onnx.ModelProto:
    try:
        wrapper(*tensors)
    except Exception as error:
        raise AiopError(
            f"{name}: its forward pass fails on the example inputs ({_cause(error)}); give inputs of the shape, type "
            "and device that the module takes"
        ) from error
    try:
        import_module("onnxscript")
    except ImportError:
        raise AiopError(
            f"{name}: cannot be exported to a graph ({_cause(first)}); install the newer exporter with "
            '"pip install onnxscript", or replace the operator'
        ) from first
    try:
        return _dynamo(wrapper, tensors, input_names)
    except Exception as error:
        raise AiopError(
            f"{name}: cannot be exported to a graph ({_cause(first)}; the newer exporter: {_cause(error)}); replace "
            "the operator, or export the network to an ONNX file yourself"
        ) from first


def _cause(error: Exception) -> str:
    """Return what an error stems from: the first line that says something, of at most 200 characters."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = [line.strip() for line in _COLOURS.sub("", str(error)).splitlines() if line.strip()]
    text = lines[0] if lines else ""
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


# -- parameters


def _count_parameters(network: onnx.ModelProto, graph: ComputeGraph, module: torch.nn.Module) -> None:
    """Count at every operation the parameters that it is the first to use.

    A file cannot tell a parameter from a buffer, or a learned number from a constant; the module can. The counts of
    the reader stay where a parameter is used in a way that this does not follow.
    """
    parameters = {_PREFIX + key: tensor for key, tensor in module.named_parameters(remove_duplicate=False)}
    sizes = {id(tensor): tensor.numel() for tensor in parameters.values()}  # a tied one has several names
    known = {operation.name for operation in graph.operations}
    constant: dict[str, set[int]] = {}  # constant tensor -> the parameters it is made of
    for tensor in network.graph.initializer:
        constant[tensor.name] = {id(parameters[tensor.name])} if tensor.name in parameters else set()
    left: set[int] = set().union(*constant.values())
    counts: dict[str, int] = {}
    for node in network.graph.node:
        read = node.input[:1] if node.op_type == "CastLike" else node.input  # the second says a type only
        sources = [constant.get(key) for key in read if key]
        roots: set[int] = set().union(*(source for source in sources if source is not None))
        if all(source is not None for source in sources) and node.op_type != "If":
            constant.update(dict.fromkeys(node.output, roots))
            continue
        label = node.name or node.output[0]
        if label in known:
            counts[label] = sum(sizes[root] for root in roots & left)
            left -= roots
    if left:
        return
    for operation in graph.operations:
        operation.params = counts.get(operation.name, 0)
