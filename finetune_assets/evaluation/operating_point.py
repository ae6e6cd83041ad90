"""From which probability on an answer is the positive one: chosen on the calibration split, judged on the test split.

Arrays are p [n], the calibrated probability that the positive answer is true, and y [n], whether it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetune_assets.evaluation.shares import accuracy_interval
from finetune_assets.evaluation.statistics import FloatArray, Interval
from finetune_assets.task.judging import MistakeCosts, OperatingPoint

Groups = NDArray[np.object_]
USUAL = 0.5


@dataclass(frozen=True, slots=True)
class PointReport:
    """What an operating point does to the test split; None where there is no example to tell."""

    threshold: float
    n: int
    n_positive: int
    n_missed: int
    """Positive examples that are called negative."""
    n_false_alarms: int
    """Negative examples that are called positive."""
    accuracy: Interval
    sensitivity: Interval | None
    specificity: Interval | None
    ppv: Interval | None
    """Share of positive answers that are right, at the test split's own share of positive examples."""
    npv: Interval | None
    """Share of negative answers that are right."""
    prevalence: float | None
    """Share of positive examples that the task states; the next two are for it."""
    ppv_there: Interval | None
    npv_there: Interval | None

    def __str__(self) -> str:
        if self.sensitivity is None or self.specificity is None:
            return f"at a threshold of {self.threshold:.3f}: the test split has examples of one answer only"
        words = (
            f"at a threshold of {self.threshold:.3f} it misses {self.n_missed} of {self.n_positive} positive examples "
            f"(sensitivity {_percent(self.sensitivity)}) and raises {self.n_false_alarms} false alarms among "
            f"{self.n - self.n_positive} negative ones (specificity {_percent(self.specificity)})"
        )
        if self.prevalence is None or self.ppv_there is None or self.npv_there is None:
            return words
        return (
            f"{words}; where {100 * self.prevalence:g} % are positive, {_percent(self.ppv_there)} of its positive and "
            f"{_percent(self.npv_there)} of its negative answers are right"
        )

    def misses(self, point: OperatingPoint) -> str | None:
        """Return in words what the test split shows not to hold of what was asked, if anything."""
        asked = [("sensitivity", point.sensitivity, self.sensitivity), ("precision", point.precision, self.ppv)]
        for what, target, found in asked:
            if target is not None and found is not None and found.high < target:
                return f"the {what} of {100 * target:g} % does not hold on the test split: {_percent(found)}"
        return None


def choose(point: OperatingPoint | None, p: FloatArray, y: FloatArray) -> float:
    """Return the threshold that the task's operating point asks for on the calibration split; 0.5 without one.

    Where no threshold reaches the precision, it is the one with the highest: the test split will show it.
    """
    if point is None:
        return USUAL
    levels = np.unique(p)
    # Between two probabilities that occur, so that rounding moves no answer.
    thresholds = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]])
    called = p[None, :] >= thresholds[:, None]
    hits, alarms = (called & (y == 1)).sum(axis=1), (called & (y == 0)).sum(axis=1)
    if point.sensitivity is not None:
        reached = np.flatnonzero(hits >= point.sensitivity * y.sum())
        return float(thresholds[reached[-1]])
    if point.precision is not None:
        precision = hits / np.maximum(hits + alarms, 1)
        reached = np.flatnonzero(precision >= point.precision)
        return float(thresholds[reached[0] if len(reached) else int(precision.argmax())])
    costs = point.costs or MistakeCosts(missed=1, false_alarm=1)
    cost = costs.missed * (y.sum() - hits) + costs.false_alarm * alarms
    return float(thresholds[int(cost.argmin())])


def judge(
    threshold: float, p: FloatArray, y: FloatArray, groups: Groups, prevalence: float | None = None
) -> PointReport:
    """Judge a threshold on the test split."""
    called, positive = p >= threshold, y == 1
    right = called == positive

    def share(of: NDArray[np.bool_]) -> Interval | None:
        return accuracy_interval(right[of], groups[of]) if of.any() else None

    sensitivity, specificity = share(positive), share(~positive)
    there = (None, None)
    if prevalence is not None and sensitivity and specificity:
        there = _predictive(sensitivity, specificity, prevalence)
    return PointReport(
        threshold=threshold,
        n=len(y),
        n_positive=int(positive.sum()),
        n_missed=int((positive & ~called).sum()),
        n_false_alarms=int((~positive & called).sum()),
        accuracy=accuracy_interval(right, groups),
        sensitivity=sensitivity,
        specificity=specificity,
        ppv=share(called),
        npv=share(~called),
        prevalence=prevalence,
        ppv_there=there[0],
        npv_there=there[1],
    )


def _predictive(sensitivity: Interval, specificity: Interval, prevalence: float) -> tuple[Interval, Interval]:
    """Return the predictive values at another prevalence (Bayes); their ends are those of both intervals together."""

    def ppv(sens: float, spec: float) -> float:
        found, alarms = sens * prevalence, (1 - spec) * (1 - prevalence)
        return found / (found + alarms) if found + alarms > 0 else 1.0

    def npv(sens: float, spec: float) -> float:
        cleared, missed = spec * (1 - prevalence), (1 - sens) * prevalence
        return cleared / (cleared + missed) if cleared + missed > 0 else 1.0

    ends = [(sensitivity.estimate, specificity.estimate), (sensitivity.low, specificity.low)]
    ends.append((sensitivity.high, specificity.high))
    return Interval(*(ppv(*end) for end in ends)), Interval(*(npv(*end) for end in ends))


def _percent(share: Interval) -> str:
    return f"{100 * share.estimate:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f})"
