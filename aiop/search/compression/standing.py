"""How candidates stand: their scores after what was compared and measured, and who is ahead of whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from aiop.search.compression.candidate import Candidate
from aiop.search.compression.judging import Correction, Judge
from aiop.search.compression.scoring import Scale, faded, outputs_term
from aiop.search.compression.space import SearchSpace

__all__ = ["Standing"]

_EXPLORE = 0.5  # deviations of the correction that a candidate is ahead for being unlike those measured


class Standing:
    """Scores candidates beside the original.

    Args:
        judge: What predicts them.
        weights: Of the terms of the score, as of `aiop.search.compression.scoring`.
        original: The network that is compressed, as a candidate.
    """

    def __init__(self, judge: Judge, weights: Mapping[str, float], original: Candidate) -> None:
        self.judge, self.weights, self.original = judge, weights, original
        self._deviation: dict[int, float] = {}
        start = original.predicted
        self._scale = Scale.of(start.value, start.low, start.high)
        self._measured = 0

    def rescore(self, space: SearchSpace, candidates: Sequence[Candidate]) -> None:
        """Correct the predictions by what was measured and score all candidates anew."""
        everyone = [self.original, *candidates]
        zero = np.zeros(len(space), np.int64)
        known = [item for item in everyone if item.measured is not None]
        self._measured = len(known)
        if known:
            features = {
                id(item): space.features(np.array(item.levels, np.int64) if item.levels else zero)
                for item in everyone
            }
            correction = Correction.fit(
                np.stack([features[id(item)] for item in known]),
                np.array([item.raw.value for item in known]),
                np.array([float(item.measured or 0.0) for item in known]),
            )
            values, deviation = correction.moved(
                np.stack([features[id(item)] for item in everyone]),
                np.array([item.raw.value for item in everyone]),
            )
            for item, value, spread in zip(everyone, values, deviation, strict=True):
                item.predicted = correction.apply(item.raw, float(value))
                self._deviation[item.number] = _EXPLORE * float(spread) / self._scale.unit
        if not candidates:
            return
        similarities = np.array(
            [np.nan if item.similarity is None else item.similarity for item in candidates], np.float64
        )
        outputs = outputs_term(np.array([item.loss for item in candidates]), similarities)
        weight = faded(self.weights["outputs"], len(known))
        for item, kept in zip(candidates, outputs, strict=True):
            gain = self._gain(item) / self._scale.unit
            item.terms = {"predicted": float(gain), "outputs": float(kept)}
            item.score = float(self.weights["predicted"] * gain + weight * kept)

    def _gain(self, item: Candidate) -> float:
        """How much better than the original, in the task's unit; of unmeasured ones by the worse ends."""
        judge, start = self.judge, self.original
        if item.measured is not None:
            known = start.predicted.value if start.measured is None else start.measured
            return judge.better(item.measured) - judge.better(known)
        gain = judge.pessimistic(item.predicted) - judge.pessimistic(start.predicted)
        # cuts that look like gains are the predictor's error as long as nothing was measured
        return gain if self._measured else min(gain, 0.0)

    def outside(self, item: Candidate) -> bool:
        """Return whether the predictor does not know such networks, though it knows the original."""
        return self.original.in_distribution and not item.in_distribution

    def rank(self, item: Candidate) -> tuple[bool, float, int]:
        """Return what candidates are sorted by, the best first."""
        return self.outside(item), -item.score, item.number

    def objectives(self, item: Candidate, *, maximised: bool = False) -> tuple[float, ...]:
        """Score, MACs and cost; ``maximised``: so that more of each is better."""
        values = [item.score, -float(item.macs) if maximised else float(item.macs)]
        if item.latency is not None:
            less = maximised and self.judge.latency_direction == "min"
            values.append(-item.latency.value if less else item.latency.value)
        return tuple(values)

    def drop(self, candidate: Candidate) -> float:
        """Return how much worse than the original a candidate is predicted to be, in the task's unit."""
        values = [
            item.measured if item.measured is not None else item.predicted.value
            for item in (self.original, candidate)
        ]
        return self.judge.better(values[0]) - self.judge.better(values[1])

    def promise(self, item: Candidate) -> tuple[bool, float, int]:
        """Return what candidates are sorted by that may be measured next, the most promising first."""
        return self.outside(item), -item.score - self._deviation.get(item.number, 0.0), item.number
