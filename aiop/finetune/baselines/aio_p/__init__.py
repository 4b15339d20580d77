"""AIO-P as published (Mills et al., AAAI 2023, arXiv 2211.17228), rebuilt from the paper and its public code.

    store = GraphStore.of_table("nas-bench-101")
    base = train_base(store.graphs(names), values, "cifar10", checkpoint=Path("base.state"))
    aio_p = train_adapter(base, other_graphs, other_values, "cityscapes")
    FewShotAioP(pretrained=aio_p).fit(views, labels).predict(views)

What is the same: the 26 operations (with out-of-vocabulary and five reserved places), what is left out of a graph, the
six sizes divided by fixed maxima (classifiers) or the graph's own (graphs with a task's head), kernels, bias flag;
every layer and its width; the optimizer and its settings, batches of equally large graphs that stay together, the
scalers, their mean and deviation from the labels of the target; K-adapters on a frozen base with labels scaled on their
own; the plain mean over adapters; fine-tuning with batches of one for 100 epochs, in four forms. None of this package's
richer features is seen.

What differs:

- Graphs are read from ONNX, theirs are made by TensorFlow 1.15. A layout change, a slice or another operation that
  their word list does not keep is left out as there; swish written as a product with a sigmoid stays two nodes (theirs
  is one), a global average pool is always ``Mean``, and convolutions that pad carry no node ``Paddings``.
- Operators outside their families: other norms count as ``BatchNorm``, leaky ReLUs as ``ReLU``, attention and recurrent
  layers as out-of-vocabulary (each is one node), a transposed or grouped convolution is ``Conv``, kernels above 7 count
  as 7 (theirs fail), tensors of three axes as square images.
- The epoch is chosen by the mean absolute error in the label's unit on networks set aside. Their code compares scaled
  predictions with unscaled labels there.
- FLOPs are twice the multiply-accumulates of convolutions and matrix products; theirs are TensorFlow's count.
- Their module also holds 6,240 parameters that no output depends on (an unused aggregation layer and two unused
  projections); they are left out.
- Adapters train for 40 epochs, the default of their code; their example asks for 100.
- What adapters learn from are labels of tables here. Pseudo-labels from a shared task head are data, not part of the
  predictor.
- The variant that rescales a frozen regressor's weights is not here.
"""

from __future__ import annotations

from aiop.finetune.baselines.aio_p.few_shot import FewShotAioP, TunedAioP
from aiop.finetune.baselines.aio_p.graphs import PublishedGraph, publish
from aiop.finetune.baselines.aio_p.labels import LabelScaling
from aiop.finetune.baselines.aio_p.pretrained import AioP, load_aio_p
from aiop.finetune.baselines.aio_p.store import GraphStore, read_published
from aiop.finetune.baselines.aio_p.training import Settings, train_adapter, train_base

__all__ = [
    "AioP",
    "FewShotAioP",
    "GraphStore",
    "LabelScaling",
    "PublishedGraph",
    "Settings",
    "TunedAioP",
    "load_aio_p",
    "publish",
    "read_published",
    "train_adapter",
    "train_base",
]
