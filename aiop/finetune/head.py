"""The few-shot head: a new task from none to a few thousand labels, on networks seen as `Views`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError, suggest
from aiop.finetune.calibration import Neighbourhood
from aiop.finetune.chance import Chance, ranked_last
from aiop.finetune.combination import combine, cross_combined, honest_quantile, prior_weights
from aiop.finetune.expectation import Expectation
from aiop.finetune.label_scale import LabelScale, check_labels
from aiop.finetune.members import MEMBERS, Member
from aiop.finetune.monotone import Monotone
from aiop.finetune.nearness import nearness
from aiop.finetune.process_member import ProcessMember
from aiop.finetune.views import Views
from aiop.finetune.zero_labels import COST_DOMAINS, zero_label_ranks, zero_label_sources

if TYPE_CHECKING:
    from aiop.tasks.task import Task

__all__ = ["DEFAULT_MEMBERS", "FewShotHead"]

Array = npt.NDArray[Any]

DEFAULT_MEMBERS = ("costs", "ridge", "gp", "gp-warped", "gp-counting", "trees")
"""A perceptron is there too, as ``mlp``: on top of these it changes no rank and takes longer than all of them."""

_VERSION = 3
_NEAR = ("graph", "embedding")
_SPREAD_BY = "gp"


class FewShotHead:
    """Predicts a new task of networks from a few labels; scikit-learn's conventions, on `Views` instead of a matrix.

    Args:
        coverage: share of new networks, like those labelled, that `interval` is meant to hold.
        direction: ``"max"`` where higher values are better. With ``"min"`` too the value itself is predicted.
        transform: ``"log"`` where ratios matter (latency, energy); the labels must be above 0.
        seed: of the trees and of what is left out together.
        members: names of `aiop.finetune.members.MEMBERS`.
        cost_sign: 1 where the value is expected to grow with costs, -1 where it falls (throughput). The labels decide;
            without labels this does.
        quality: whether the value says how good a network is, or what it costs: which sources rank without labels.

    Attributes:
        held_out_: ``(n,)``, what the head says of each labelled network without its label, in the unit of the labels.
        weights_: share of each member.
        sources_: per source task, what one deviation of it among the labelled networks adds, in deviations of the
            labels, by the linear kernels; a negative number where it counts against. Without labels, the share of each
            in the votes before networks are there to agree on.
    """

    def __init__(
        self,
        *,
        coverage: float = 0.8,
        direction: Literal["max", "min"] = "max",
        transform: Literal["identity", "log"] = "identity",
        seed: int = 0,
        members: Sequence[str] | None = None,
        cost_sign: Literal[1, -1] = 1,
        quality: bool | None = None,
    ) -> None:
        if not 0 < coverage < 1:
            raise AiopError(f"coverage {coverage} is not between 0 and 1: 0.8 means intervals that hold 80%")
        if direction not in ("max", "min"):
            raise AiopError(
                f"direction {direction!r} is unknown{suggest(direction, ('max', 'min'))}: max or min"
            )
        if transform not in ("identity", "log"):
            raise AiopError(
                f"transform {transform!r} is unknown{suggest(transform, ('identity', 'log'))}: identity or log"
            )
        chosen = tuple(dict.fromkeys(DEFAULT_MEMBERS if members is None else members))
        for name in chosen:
            if name not in MEMBERS:
                raise AiopError(
                    f"member {name!r} of the head is unknown{suggest(name, MEMBERS)}: they are {', '.join(MEMBERS)}"
                )
        if not chosen:
            raise AiopError(f"the head has no members: name some of {', '.join(MEMBERS)}")
        self.coverage, self.seed, self.members = float(coverage), int(seed), chosen
        self.direction: Literal["max", "min"] = direction
        self.transform: Literal["identity", "log"] = transform
        self.cost_sign: Literal[1, -1] = 1 if cost_sign > 0 else -1
        self.quality = (transform == "identity" and direction == "max") if quality is None else quality
        self.count_ = -1

    @classmethod
    def for_task(cls, task: Task, **settings: Any) -> Self:
        """Return an unfitted head with the direction, transform and expected trend with costs of a declared task."""
        cost = task.domain in COST_DOMAINS
        defaults: dict[str, Any] = {
            "direction": task.direction,
            "transform": task.transform,
            "cost_sign": -1 if cost and task.direction == "max" else 1,
            "quality": not cost,
        }
        return cls(**(defaults | settings))

    def fit(self, views: Views, values: Array) -> Self:
        """Fit to n labelled networks and their values ``(n,)``; none at all leave ranks only.

        Raises:
            AiopError: for one label alone, missing, infinite or constant labels, views that are not finite, and labels
                not above 0 under ``log``.
        """
        labels = check_labels(values, len(views), self.transform)
        self.count_ = len(labels)
        self._sources = views.sources
        self._widths = [views.embedding.shape[1], views.graph.shape[1]]
        self._fitted: dict[str, Member] = {}
        if not len(labels):
            self._rank_only(views)
            return self
        self._expectation = Expectation.fit(views, quality=self.quality)
        views = self._expectation.added(views)
        self._scale = LabelScale.fit(labels, self.transform)
        targets = self._scale.forward(labels)
        self._chance = Chance.fit(views, labels, quality=self.quality, direction=self.direction)
        for name in self.members:
            self._fitted[name] = MEMBERS[name].fit(views, targets, seed=self.seed, sign=self.cost_sign)
        held_out = np.stack([member.held_out for member in self._fitted.values()], axis=1)
        prior = prior_weights(self.members, len(labels))
        shares = combine(held_out, targets, prior) if len(labels) > 2 else prior
        self.weights_ = {name: float(share) for name, share in zip(self.members, shares, strict=True)}
        raw = cross_combined(held_out, targets, self.members, self.seed)
        self._calibration = Monotone.fit(raw, targets, self.seed)
        self.held_out_ = self._scale.backward(self._calibration(raw))
        process = self._fitted.get(_SPREAD_BY)
        deviation = process.deviation if isinstance(process, ProcessMember) else np.ones(len(labels))
        self._reach = honest_quantile(np.abs(targets - raw) / deviation, self.coverage)
        self.sources_ = self._slopes()
        self._near = {name: nearness(np.asarray(getattr(views, name)), self.seed) for name in _NEAR}
        return self

    def predict(self, views: Views) -> Array:
        """Return values ``(m,)`` in the unit of the labels.

        Without labels: scores that rank the given networks among each other, larger where the value is larger.
        """
        self._check(views)
        if not self.count_:
            ranks = zero_label_ranks(views, self.cost_sign, quality=self.quality)
            return ranked_last(views, ranks, self.direction) if self.quality else ranks
        return self._chance.applied(views, self._scale.backward(self._calibration(self._targets(views))))

    def interval(self, views: Views) -> tuple[Array, Array]:
        """Return low and high ends ``(m,)``, infinite where the labels are too few for the coverage.

        Held-out errors, each relative to what the Gaussian process expects there, give the half-width (jackknife):
        it grows where a network is unlike the labelled ones.
        """
        self._check(views)
        if not self.count_:
            return np.full(len(views), -np.inf), np.full(len(views), np.inf)
        targets = self._targets(views)
        process = self._fitted.get(_SPREAD_BY)
        spread = process.spread(views) if isinstance(process, ProcessMember) else np.ones(len(views))
        centre = self._calibration(targets)
        low = self._scale.backward(np.minimum(targets - self._reach * spread, centre))
        high = self._scale.backward(np.maximum(targets + self._reach * spread, centre))
        value = self._scale.backward(centre)
        moved = (
            self._chance.applied(views, value) - value
        )  # with networks that are put elsewhere goes the interval
        return low + moved, high + moved

    def remoteness(self, views: Views) -> Array:
        """Return how far networks are from the labelled ones, ``(m,)``: 1 is the limit of the inside.

        The larger of two distances, in graph features and in embeddings, each to the nearest labelled networks;
        nan without labels.
        """
        self._check(views)
        if not self.count_:
            return np.full(len(views), np.nan)
        far = [
            near.distance(np.asarray(getattr(views, name), np.float64)) / near.limit
            for name, near in self._near.items()
        ]
        return np.asarray(np.max(far, axis=0))

    def to_state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return everything fitted: arrays by name, and a document that JSON holds."""
        self._check()
        document: dict[str, Any] = {
            "version": _VERSION,
            "coverage": self.coverage,
            "direction": self.direction,
            "transform": self.transform,
            "seed": self.seed,
            "members": list(self.members),
            "cost_sign": self.cost_sign,
            "quality": self.quality,
            "labels": self.count_,
            "sources": list(self._sources),
            "widths": self._widths,
            "weights": self.weights_,
            "importance": self.sources_,
        }
        if not self.count_:
            return {}, document
        arrays: dict[str, Array] = {
            "held_out": self.held_out_,
            "calibration/knots": self._calibration.knots,
            "calibration/values": self._calibration.values,
        }
        for name, near in self._near.items():
            for part in ("mean", "axes", "references"):
                arrays[f"near/{name}/{part}"] = np.asarray(getattr(near, part))
        documents = {}
        for name, member in self._fitted.items():
            found, documents[name] = member.to_state()
            arrays |= {f"member/{name}/{key}": array for key, array in found.items()}
        document |= {
            "scale": self._scale.to_dict(),
            "expectation": self._expectation.to_dict(),
            "chance": self._chance.to_dict(),
            "share": self._calibration.share,
            "reach": self._reach if np.isfinite(self._reach) else None,
            "limits": {name: near.limit for name, near in self._near.items()},
            "states": documents,
        }
        return arrays, document

    @classmethod
    def from_state(cls, arrays: dict[str, Array], document: dict[str, Any]) -> Self:
        """Restore what `to_state` returned.

        Raises:
            AiopError: for another version, or where something is missing or does not fit together.
        """
        if document.get("version") != _VERSION:
            raise AiopError(
                f"the head has version {document.get('version')!r} and this package reads {_VERSION}: fit it again"
            )
        try:
            return cls._restore(arrays, document)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise AiopError(f"the head is damaged ({error!r}): fit it again") from error

    @classmethod
    def _restore(cls, arrays: dict[str, Array], document: dict[str, Any]) -> Self:
        settings = ("coverage", "direction", "transform", "seed", "members", "cost_sign", "quality")
        head = cls(**{name: document[name] for name in settings})
        head.count_ = int(document["labels"])
        head._sources, head._widths = tuple(document["sources"]), list(document["widths"])
        head.weights_, head.sources_ = dict(document["weights"]), dict(document["importance"])
        head.held_out_ = arrays["held_out"] if head.count_ else np.zeros(0)
        head._fitted = {}
        if not head.count_:
            return head
        head._scale = LabelScale(**document["scale"])
        head._expectation = Expectation.from_dict(document["expectation"])
        head._chance = Chance(**document["chance"])
        head._calibration = Monotone(
            arrays["calibration/knots"], arrays["calibration/values"], float(document["share"])
        )
        head._reach = float("inf") if document["reach"] is None else float(document["reach"])
        head._near = {
            name: Neighbourhood(
                mean=arrays[f"near/{name}/mean"],
                axes=arrays[f"near/{name}/axes"],
                references=arrays[f"near/{name}/references"],
                limit=float(document["limits"][name]),
            )
            for name in _NEAR
        }
        for name in head.members:
            prefix = f"member/{name}/"
            own = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
            head._fitted[name] = MEMBERS[name].from_state(own, document["states"][name])
        return head

    def _targets(self, views: Views) -> Array:
        total = np.zeros(len(views))
        views = self._expectation.added(views)
        for name, member in self._fitted.items():
            if self.weights_[name] > 0:
                total += self.weights_[name] * member.predict(views)
        return total

    def _slopes(self) -> dict[str, float]:
        total = np.zeros(len(self._sources))
        for name, member in self._fitted.items():
            if isinstance(member, ProcessMember) and "outputs" in member.process.blocks:
                total += self.weights_[name] * member.process.slopes("outputs")
        return {name: float(slope) for name, slope in zip(self._sources, total, strict=True)}

    def _rank_only(self, views: Views) -> None:
        groups = zero_label_sources(views, quality=self.quality)
        self.weights_, self.held_out_ = {"costs": 1.0}, np.zeros(0)
        self.sources_ = dict.fromkeys(views.sources, 0.0)
        for places in groups.values():
            self.sources_ |= {views.sources[place]: 1.0 / (len(groups) * len(places)) for place in places}

    def _check(self, views: Views | None = None) -> None:
        if self.count_ < 0:
            raise AiopError("the head has not been fitted: call fit(views, values) first")
        if views is None:
            return
        if views.sources != self._sources or [views.embedding.shape[1], views.graph.shape[1]] != self._widths:
            raise AiopError(
                f"the networks are seen by another predictor than the head's ({len(views.sources)} sources for "
                f"{len(self._sources)}): use the predictor it was fitted with, or fit it again"
            )
