"""What a cut network is worth: accuracy after fine-tuning, and latency beside the original."""

from __future__ import annotations

import time

import numpy as np
import onnx
import onnxruntime
import torch

from aiop.search.way_back import to_torch
from benchmarks.compress.training import FINE_TUNING, Images, accuracy, fit

__all__ = ["fine_tuned", "input_size", "latency_ratio"]

_BLOCKS, _RUNS = 9, 16
_IMAGES = 8


def input_size(network: onnx.ModelProto) -> int:
    """Return the height and width that a network reads."""
    return int(network.graph.input[0].type.tensor_type.shape.dim[-1].dim_value)


def fine_tuned(network: onnx.ModelProto, images: Images, seed: int) -> tuple[float, float]:
    """Return the accuracy of a network as it is and after fine-tuning in PyTorch, %."""
    module, size = to_torch(network), input_size(network)
    before = accuracy(module, images, size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fit(module, images, FINE_TUNING, seed, size)
    return before, accuracy(module, images, size)


def latency_ratio(network: onnx.ModelProto, original: onnx.ModelProto, blocks: int = _BLOCKS) -> float:
    """Return the latency of a network on a few images over that of the original, on one thread.

    Runs alternate between the two. The ratio is that of the fastest runs within a block of `_RUNS`, which other work on
    the machine disturbs least, and the median over blocks.
    """
    sessions = [_session(original), _session(network)]
    feeds = [
        {"image": np.zeros((_IMAGES, 3, input_size(item), input_size(item)), np.float32)}
        for item in (original, network)
    ]
    ratios = []
    for block in range(blocks + 1):
        fastest = [np.inf, np.inf]
        for turn in range(_RUNS):
            for which in (0, 1) if turn % 2 else (1, 0):
                start = time.perf_counter()
                sessions[which].run(None, feeds[which])
                fastest[which] = min(fastest[which], time.perf_counter() - start)
        if block:  # the first one allocates
            ratios.append(fastest[1] / fastest[0])
    return float(np.median(ratios))


def _session(network: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        network.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
