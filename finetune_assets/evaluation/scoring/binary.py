"""Metrics of binary answers. An answer that cannot be parsed counts as the wrong answer in every one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.prediction import Prediction
from finetune_assets.evaluation.scoring.metric import Metric, Scoring, ratio, share_of
from finetune_assets.evaluation.statistics import FloatArray
from finetune_assets.task.answers import BinaryAnswer

YES_NO = BinaryAnswer(kind="binary", positive="Yes", negative="No")


@dataclass(frozen=True, slots=True)
class BinaryAnswers:
    """What the metrics need of n answers, each array [n]."""

    positive: FloatArray
    """1 where the true answer is positive, else 0."""
    right: FloatArray
    """1 where the answer given is the true one, else 0."""
    p: FloatArray
    """Probability of the positive answer, NaN where there is none."""


def balanced_accuracy(answers: BinaryAnswers, weights: FloatArray) -> FloatArray:
    """Return the mean of the shares of correct answers among positive and among negative examples [b]."""
    tp, fp, fn, tn = _counts(answers, weights)
    return (ratio(tp, tp + fn) + ratio(tn, tn + fp)) / 2


def balanced(truth: FloatArray, right: FloatArray) -> FloatArray:
    """Return scores [n] whose mean is the mean share of right answers [n] over the true answers that occur."""
    _, member, n_of = np.unique(truth, return_inverse=True, return_counts=True)
    return right * len(truth) / (len(n_of) * n_of[member])


def f1(answers: BinaryAnswers, weights: FloatArray) -> FloatArray:
    """Return the harmonic mean of precision and recall of the positive answer [b]."""
    tp, fp, fn, _ = _counts(answers, weights)
    return ratio(2 * tp, 2 * tp + fp + fn)


def mcc(answers: BinaryAnswers, weights: FloatArray) -> FloatArray:
    """Return Matthews' correlation of answer and truth [b], -1 to 1; 0 where all answers given are the same."""
    tp, fp, fn, tn = _counts(answers, weights)
    one_class = (tp + fn == 0) | (tn + fp == 0)
    scale = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return np.where(one_class, np.nan, (tp * tn - fp * fn) / np.where(scale == 0, 1, scale))


def roc_auc(answers: BinaryAnswers, weights: FloatArray) -> FloatArray:
    """Return the chance [b] that a positive example has a higher probability than a negative one, ties as one half."""
    positive, negative = _by_falling_probability(answers, weights)
    negatives_below = negative.sum(axis=1, keepdims=True) - negative.cumsum(axis=1)
    wins = (positive * (negatives_below + negative / 2)).sum(axis=1)
    return ratio(wins, positive.sum(axis=1) * negative.sum(axis=1))


def pr_auc(answers: BinaryAnswers, weights: FloatArray) -> FloatArray:
    """Return the average precision [b]: precision at each threshold, weighted by the recall it adds."""
    positive, negative = _by_falling_probability(answers, weights)
    found = positive.cumsum(axis=1)
    precision = found / np.maximum(found + negative.cumsum(axis=1), 1)
    undefined = negative.sum(axis=1) == 0
    return np.where(undefined, np.nan, ratio((positive * precision).sum(axis=1), positive.sum(axis=1)))


METRICS: Mapping[str, Metric[BinaryAnswers]] = {
    "accuracy": share_of("Accuracy", lambda answers: answers.right),
    "balanced_accuracy": Metric(
        "Balanced accuracy", balanced_accuracy, lambda answers: balanced(answers.positive, answers.right)
    ),
    "f1": Metric("F1", f1),
    "mcc": Metric("Matthews correlation", mcc, lowest=-1),
    "roc_auc": Metric("ROC AUC", roc_auc),
    "pr_auc": Metric("PR AUC", pr_auc),
}


class BinaryScoring(Scoring[BinaryAnswers]):
    """Judges answers of two words by whether they are right; ranks them by the probability of the positive one."""

    metrics = METRICS

    def __init__(self, answer: BinaryAnswer = YES_NO) -> None:
        self.labels = (answer.positive, answer.negative)

    def score(self, rows: Sequence[Prediction]) -> BinaryAnswers:
        """Reduce answers to what the metrics need; refuse words that are not the task's."""
        check_words(rows, self.labels)
        return BinaryAnswers(
            positive=np.array([row.truth == self.labels[0] for row in rows], dtype=float),
            right=np.array([row.predicted == row.truth for row in rows], dtype=float),
            p=np.array([np.nan if row.p_positive is None else row.p_positive for row in rows], dtype=float),
        )

    def badness(self, row: Prediction) -> float:
        """Return how little probability the truth was given; answers without one come last."""
        return -2 if row.p_truth is None else -row.p_truth


def check_words(rows: Sequence[Prediction], words: Sequence[str]) -> None:
    """Refuse rows without an answer of the task's words.

    Raises:
        EvaluationError: no rows, or words that are not the task's.
    """
    if not rows:
        raise EvaluationError("there must be at least 1 answer to score, got 0")
    found = {row.truth for row in rows} | {row.predicted for row in rows if row.predicted is not None}
    if foreign := found - set(words):
        raise EvaluationError(f"answers must be {sorted(words)}, found {sorted(foreign)[:5]}")


def _counts(answers: BinaryAnswers, weights: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return true positives, false positives, false negatives and true negatives, each [b]."""
    positive, right = answers.positive, answers.right
    cells = positive * right, (1 - positive) * (1 - right), positive * (1 - right), (1 - positive) * right
    tp, fp, fn, tn = (weights @ cell for cell in cells)
    return tp, fp, fn, tn


def _by_falling_probability(answers: BinaryAnswers, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weight of positive and of negative examples at each distinct probability, highest first, each [b x distinct]."""
    ranked = np.flatnonzero(~np.isnan(answers.p))
    if len(ranked) == 0:
        return np.zeros((len(weights), 1)), np.zeros((len(weights), 1))
    order = ranked[np.argsort(-answers.p[ranked])]
    starts = np.unique(-answers.p[order], return_index=True)[1]
    drawn, positive = np.take(weights, order, axis=1), answers.positive[order]
    at_each = np.add.reduceat(drawn, starts, axis=1)
    positive_at_each = np.add.reduceat(drawn * positive, starts, axis=1)
    return positive_at_each, at_each - positive_at_each
