"""The trained networks and their ONNX files: made once per cache folder, each when it is first asked for."""

from __future__ import annotations

import io
import warnings
from dataclasses import asdict
from pathlib import Path

import onnx
import torch
from torch import nn

from aiop.graph_ir.checkpoint import load_checkpoint, save_checkpoint
from aiop.graph_ir.tensor_file import atomic_path
from benchmarks.compress.networks import make
from benchmarks.compress.training import OWN, TRAINING, Images, accuracy, fit

__all__ = ["OPSET", "export", "original"]

OPSET = 17


def original(kind: str, images: Images, folder: Path) -> tuple[onnx.ModelProto, float]:
    """Return a trained network of a kind as ONNX and its accuracy, %; from the folder where it was made before."""
    path, plan = folder / f"{kind}.safetensors", OWN.get(kind, TRAINING)
    network = make(kind, seed=0)
    if path.exists():
        tensors, state = load_checkpoint(path)
        if state["plan"] == asdict(plan) and {name: v.shape for name, v in tensors.items()} == {
            name: v.shape for name, v in network.state_dict().items()
        }:
            network.load_state_dict(tensors)
            return _file(network, path.with_suffix(".onnx")), float(state["accuracy"])
    fit(network, images, plan, seed=0, channels_last=True)
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    found = accuracy(network, images)
    path.with_suffix(".onnx").unlink(missing_ok=True)
    save_checkpoint(path, network.state_dict(), {"plan": asdict(plan), "accuracy": found})
    return _file(network, path.with_suffix(".onnx")), found


def _file(network: nn.Module, path: Path) -> onnx.ModelProto:
    if not path.exists():
        with atomic_path(path) as temporary:
            temporary.write_bytes(export(network).SerializeToString())
    return onnx.load(path)


def export(network: nn.Module, size: int = 64) -> onnx.ModelProto:
    """Return a network in evaluation mode as ONNX with an open batch, its batch norms apart from its convolutions."""
    network.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.zeros(2, 3, size, size),), written,
            dynamo=False, opset_version=OPSET, training=torch.onnx.TrainingMode.PRESERVE,
            input_names=["image"], output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )  # fmt: skip
    return onnx.load_from_string(written.getvalue())
