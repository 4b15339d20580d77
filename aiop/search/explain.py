"""Which layers of a network to widen or to cut: the gradient of a prediction with respect to every width.

The idea of network coding propagation (Ding et al., ICLR 2022) on any ONNX network: it has no code, but its widths, the
channels that go together, are numbers that the predictor's features depend on smoothly
(`aiop.search.widths`). One pass back through the predictor gives all derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aiop.errors import AiopError
from aiop.search.editing.coupling import coupling
from aiop.search.editing.network import EditableNetwork
from aiop.search.widths import WidthFeatures, width_features

if TYPE_CHECKING:
    from aiop.graph_ir.features import GraphArrays
    from aiop.predictor import Predictor
    from aiop.predictor.gradient import FeatureGradient

__all__ = ["Explanation", "WidthEffect", "explain", "width_effects"]

Advice = Literal["widen", "cut", "keep"]

_MORE = math.log(1.1)  # what 10% more width is, as a logarithm
_CLEAR = 0.25  # of the exchange rate of the whole network: how far from it a layer must be


@dataclass(frozen=True, slots=True)
class WidthEffect:
    """What a width does, to first order.

    layer: name of the first layer that makes these channels; layers: all that do.
    width: channels of the first layer.
    macs_share: MACs that grow in proportion to the width, as a share of all (a layer's MACs grow with what it reads
        and with what it writes, so that the shares add up to more than 1).
    value_per_10: change of the predicted value, in the task's unit, with 10% more channels.
    macs_per_10, params_per_10: change of MACs and parameters with it.
    value_per_percent_macs: the same change, per 1% of the network's MACs that it takes.
    advice: ``widen`` where MACs buy clearly more of what is wanted than in the network as a whole, ``cut`` where they
        buy clearly less, else ``keep``.
    """

    layer: str
    layers: tuple[str, ...]
    width: int
    macs_share: float
    value_per_10: float
    macs_per_10: float
    params_per_10: float
    value_per_percent_macs: float
    advice: Advice


@dataclass(frozen=True, slots=True)
class Explanation:
    """Sensitivities of a network's predicted value to its widths, in the order of the layers.

    value: predicted, in ``unit``; direction: which values are better.
    value_per_percent_macs: of all widths at once, what the network as a whole gains per 1% more MACs.
    fixed: layer -> why its width cannot change.
    notes: what the gradient leaves out.
    """

    network: str
    task: str
    unit: str
    direction: Literal["max", "min"]
    value: float
    macs: int
    value_per_percent_macs: float
    widths: tuple[WidthEffect, ...]
    fixed: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values ready for JSON."""
        return asdict(self) | {"fixed": dict(self.fixed)}

    def to_svg(self) -> str:
        """Draw the widths as bars, the first layer on top."""
        from aiop.search.explain_picture import draw

        return draw(self)


def explain(
    network: str | Path | EditableNetwork,
    predictor: Predictor,
    task: str,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Explanation:
    """Differentiate the prediction of a task by every width of a network.

    Networks of the ensemble and kernel experts are differentiated (`aiop.predictor.gradient`); what a few true labels
    correct of an infused task is not, which a note says.

    Args:
        network: an ONNX file, which may lack its weights, ``space:code``, or a network read before.
        predictor: of `aiop.load`.
        task: a task of the predictor, or words of its name as `aiop.search.compression` takes them.
        shapes: of inputs whose sizes the file leaves open.

    Raises:
        AiopError: no such task, a network that cannot be read or that has no width that could change.
    """
    from aiop.predictor import check_predictable
    from aiop.predictor.gradient import feature_gradient
    from aiop.search.compression.judging import find_predicted_task

    if not isinstance(network, EditableNetwork):
        network = EditableNetwork.read(network, shapes=shapes, fill=0)
    graph = network.compute_graph()
    check_predictable(graph)
    name = find_predicted_task(predictor, task, graph)
    card = predictor.task_card(name)
    notes = []
    if "correction" in card.extra.get("truth", {}):
        notes.append(f"{name} is corrected by true labels, which its gradient leaves out")
    if not predictor.predict(graph, tasks=name)[name].in_distribution:
        notes.append(
            f"{network.name} is out of distribution for {name}: its sensitivities are extrapolations"
        )
    features, gradient, effects, rate = width_effects(
        network, lambda arrays: feature_gradient(predictor, arrays, name), card.direction
    )
    return Explanation(
        network=network.name, task=name, unit=card.unit, direction=card.direction, value=gradient.value,
        macs=features.total_macs, value_per_percent_macs=rate, widths=effects, fixed=dict(coupling(network).refused),
        notes=tuple(notes),
    )  # fmt: skip


def width_effects(
    network: EditableNetwork,
    differentiate: Callable[[GraphArrays], FeatureGradient],
    direction: Literal["max", "min"] = "max",
) -> tuple[WidthFeatures, FeatureGradient, tuple[WidthEffect, ...], float]:
    """Return a network's features, the gradient by them, what every width does, and the gain per 1% MACs of all.

    ``differentiate`` returns the gradient of whatever is explained with respect to the features.

    Raises:
        AiopError: no width that could change.
    """
    features = width_features(network)
    if not features.groups:
        reasons = coupling(network).refused
        cause = next(iter(f"{layer}: {reason}" for layer, reason in reasons.items()), "it has no layers")
        raise AiopError(f"{network.name} has no width that could change ({cause}): explain another network")
    gradient = differentiate(features.arrays)
    slopes = np.einsum("nf,nfk->k", gradient.node, features.node) + gradient.graph @ features.graph
    total = max(1, features.total_macs)
    percents = 100.0 * features.macs / total  # more MACs per unit of the logarithm of a width
    rates = np.divide(slopes, percents, out=np.zeros_like(slopes), where=percents > 0)
    rate = float(slopes.sum() / percents.sum()) if percents.sum() > 0 else 0.0
    sign = 1.0 if direction == "max" else -1.0
    margin = _CLEAR * max(abs(rate), float(np.median(np.abs(rates))))
    effects = []
    for number, group in enumerate(features.groups):
        apart = sign * (rates[number] - rate)
        advice: Advice = "keep" if abs(apart) <= margin else "widen" if apart > 0 else "cut"
        effects.append(
            WidthEffect(
                layer=group.where, layers=group.producers, width=group.channels,
                macs_share=float(features.macs[number] / total), value_per_10=float(slopes[number] * _MORE),
                macs_per_10=float(features.macs[number] * _MORE),
                params_per_10=float(features.params[number] * _MORE),
                value_per_percent_macs=float(rates[number]), advice=advice,
            )
        )  # fmt: skip
    return features, gradient, tuple(effects), rate
