"""Metrics of numbers.

An answer is good where it is off by less than the task's tolerance: a share of the truth, or an absolute amount where
that is more. With 0.2 and 40 these are the bands of the product-price course: green is good, orange is off by less than
twice as much, red is the rest. The share of good answers decides, and not the mean error, because one figure must not
hang on a few wild answers and because a good answer is what the task asks for; the mean error stands beside it.

An answer without a number is wrong. It has no error, though: the errors are of the examples that both models answered
with a number, and how many were unreadable is told beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune_assets.dataset.answer_reading import render
from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.prediction import Prediction
from finetune_assets.evaluation.scoring.metric import Constant, Known, Metric, Scoring, mean_of, share_of
from finetune_assets.evaluation.statistics import FloatArray
from finetune_assets.task.answers import NumberAnswer

OUTLIER = 2.0
"""An answer is an outlier where it is off by more than so many times the truth: a price over three times too high."""


@dataclass(frozen=True, slots=True)
class NumberAnswers:
    """What the metrics need of n answers, each array [n]."""

    truth: FloatArray
    guess: FloatArray
    """NaN where the answer has no number."""
    right: FloatArray
    """1 where the answer is within the tolerance, else 0."""

    @property
    def error(self) -> FloatArray:
        """How far off each answer is."""
        return np.abs(self.guess - self.truth)


def rmse(answers: NumberAnswers, weights: FloatArray) -> FloatArray:
    """Return the root of the mean squared error [b]."""
    return np.sqrt((weights @ answers.error**2) / weights.sum(axis=1))


def rmsle(answers: NumberAnswers, weights: FloatArray) -> FloatArray:
    """Return the root of the mean squared difference of log(1 + number) [b], a guess below 0 taken as 0.

    NaN where a true number is below 0.
    """
    if answers.truth.min() < 0:
        return np.full(len(weights), np.nan)
    difference = np.log1p(np.maximum(answers.guess, 0)) - np.log1p(answers.truth)
    return np.sqrt((weights @ difference**2) / weights.sum(axis=1))


def spearman(answers: NumberAnswers, weights: FloatArray) -> FloatArray:
    """Return the correlation [b] of the ranks of truth and guess, -1 to 1; NaN where either is constant."""
    share = weights / weights.sum(axis=1, keepdims=True)
    ranks = [_ranks(values, share) for values in (answers.truth, answers.guess)]
    # The mean rank is one half of the whole weight.
    x, y = (rank - 0.5 for rank in ranks)
    spread = np.sqrt((share * x**2).sum(axis=1) * (share * y**2).sum(axis=1))
    constant = spread < 1e-12
    return np.where(constant, np.nan, (share * x * y).sum(axis=1) / np.where(constant, 1, spread))


def outlier_share(answers: NumberAnswers) -> FloatArray:
    """Return whether each answer is off by more than `OUTLIER` times the truth [n]."""
    return (answers.error > OUTLIER * np.abs(answers.truth)).astype(float)


_ERROR: dict[str, Any] = {"higher_is_better": False, "is_share": False, "of_readable": True}
METRICS: Mapping[str, Metric[NumberAnswers]] = {
    "within_tolerance": share_of("Answers within tolerance", lambda answers: answers.right),
    "mae": mean_of("Mean absolute error", lambda answers: answers.error, **_ERROR),
    "rmse": Metric("Root mean squared error", rmse, **_ERROR),
    "rmsle": Metric("Root mean squared log error", rmsle, **_ERROR),
    "spearman": Metric("Rank correlation", spearman, lowest=-1, of_readable=True),
    "outlier_share": share_of("Outliers", outlier_share, higher_is_better=False, of_readable=True),
}


class NumberScoring(Scoring[NumberAnswers]):
    """Judges numbers by how far they are off."""

    metrics = METRICS
    second = "mae"

    def __init__(self, answer: NumberAnswer) -> None:
        self._answer = answer

    def score(self, rows: Sequence[Prediction]) -> NumberAnswers:
        """Reduce answers to what the metrics need; refuse truths that are no numbers."""
        if not rows:
            raise EvaluationError("there must be at least 1 answer to score, got 0")
        if lacking := [row for row in rows if row.truth_value is None]:
            raise EvaluationError(f"the true answer of {lacking[0].example_id!r} must be a number")
        return NumberAnswers(
            truth=np.array([row.truth_value for row in rows], dtype=float),
            guess=np.array([row.predicted_value for row in rows], dtype=float),
            right=np.array([self.band(row) == "green" for row in rows], dtype=float),
        )

    def band(self, row: Prediction) -> str:
        """Return green within the tolerance, orange within twice the tolerance, else red."""
        if row.predicted_value is None or row.truth_value is None:
            return "red"
        error, truth = abs(row.predicted_value - row.truth_value), abs(row.truth_value)
        for times, colour in ((1, "green"), (2, "orange")):
            near = error < times * self._answer.tolerance_absolute
            # Divided rather than multiplied, so that an error of exactly a fifth of the truth is no less than 0.2.
            if error == 0 or near or (truth > 0 and error / truth < times * self._answer.tolerance):
                return colour
        return "red"

    def constants(self, known: Sequence[Known]) -> list[Constant]:
        """Return the numbers that suit these true ones, the one first that is within the tolerance of the most.

        Beside it the mean and the median: no constant has less squared, or less absolute, error.
        """
        truth = np.array([one.truth_value for one in known], dtype=float)
        values = {
            "which is good most often": self._best(truth),
            "the mean": float(truth.mean()),
            "the median": float(np.median(truth)),
        }
        digits = self._answer.decimals
        return [
            Constant(f"always {value:.{digits}f}, {name}", render(value, self._answer), value)
            for name, value in values.items()
        ]

    def _best(self, truth: FloatArray) -> float:
        """Return the middle of the numbers that are within the tolerance of the most true ones [n]."""
        reach = np.maximum(self._answer.tolerance * np.abs(truth), self._answer.tolerance_absolute)
        # Two that only touch have no number in common: an end comes before a beginning.
        ends = np.concatenate([truth - reach, truth + reach])
        step = np.repeat([1, -1], len(truth))
        order = np.lexsort((step, ends))
        most = int(np.argmax(step[order].cumsum()))
        return float(ends[order][most : most + 2].mean())

    def bands(self, rows: Sequence[Prediction]) -> dict[str, int]:
        """Count the green, orange and red answers."""
        found = [self.band(row) for row in rows]
        return {colour: found.count(colour) for colour in ("green", "orange", "red")}

    def badness(self, row: Prediction) -> float:
        """Return how far it is off; an answer without a number comes first."""
        return np.inf if row.predicted_value is None else abs(row.predicted_value - (row.truth_value or 0.0))


def _ranks(values: FloatArray, share: FloatArray) -> FloatArray:
    """Return each value's rank among all [b x n]: the share of lower values and half that of equal ones."""
    distinct, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(distinct)))
    at_each = np.add.reduceat(np.take(share, order, axis=1), starts, axis=1)
    return np.take(at_each.cumsum(axis=1) - at_each / 2, place, axis=1)
