"""Metrics of binary answers. An answer that cannot be parsed counts as the wrong answer in every one of them.

Each metric works on many resamples at once, so that its estimate and its interval come from the same few lines: weights
[b x n] say how often each example was drawn, and all ones give the estimate itself. Where a metric is not defined (no
example of one class) its value is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.statistics import FloatArray
from finetune_assets.task import BinaryAnswer

YES_NO = BinaryAnswer(kind="binary", positive="Yes", negative="No")


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of answers: a row for each true answer, a column for each answer given and a last one for unparseable."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class BinaryMetrics:
    """Metrics over n examples, all 0 to 1 except `mcc` (-1 to 1), higher is better; None where one is not defined."""

    n: int
    n_unparseable: int
    n_ranked: int
    """Examples with a probability: those that `roc_auc` and `pr_auc` are computed on."""
    accuracy: float
    balanced_accuracy: float | None
    f1: float | None
    mcc: float | None
    roc_auc: float | None
    pr_auc: float | None
    confusion: Confusion


@dataclass(frozen=True, slots=True)
class ScoredAnswers:
    """What the metrics need of n answers, each array [n]."""

    positive: FloatArray
    """1 where the true answer is positive, else 0."""
    correct: FloatArray
    """1 where the answer given is the true one, else 0."""
    p: FloatArray
    """Probability of the positive answer, NaN where there is none."""


def scored(
    truth: Sequence[str], p_positive: Sequence[float | None], predicted: Sequence[str | None], answer: BinaryAnswer
) -> ScoredAnswers:
    """Reduce answers in the task's words to what metrics need; None in `predicted` is an unparseable answer.

    Raises:
        EvaluationError: nothing to score, lengths that differ, or words that are not the task's.
    """
    if not 0 < len(truth) == len(p_positive) == len(predicted):
        raise EvaluationError(
            "truth, probabilities and predictions must align and not be empty, "
            f"got {len(truth)}, {len(p_positive)} and {len(predicted)}"
        )
    words = {answer.positive, answer.negative}
    if foreign := (set(truth) | {word for word in predicted if word is not None}) - words:
        raise EvaluationError(f"answers must be {sorted(words)}, found {sorted(map(str, foreign))[:5]}")
    return ScoredAnswers(
        positive=np.array([word == answer.positive for word in truth], dtype=float),
        correct=np.array([given == true for given, true in zip(predicted, truth, strict=True)], dtype=float),
        p=np.array([np.nan if p is None else p for p in p_positive], dtype=float),
    )


def binary_metrics(
    truth: Sequence[str],
    p_positive: Sequence[float | None],
    predicted: Sequence[str | None],
    answer: BinaryAnswer = YES_NO,
) -> BinaryMetrics:
    """Score n answers in the task's words against the truth.

    Raises:
        EvaluationError: what `scored` raises.
    """
    answers = scored(truth, p_positive, predicted, answer)
    values = {name: float(metric(answers, np.ones((1, len(truth))))[0]) for name, metric in METRICS.items()}
    labels = (answer.positive, answer.negative)
    pairs = list(zip(truth, predicted, strict=True))
    return BinaryMetrics(
        n=len(truth),
        n_unparseable=sum(word is None for word in predicted),
        n_ranked=int(np.sum(~np.isnan(answers.p))),
        confusion=Confusion(
            labels, tuple(tuple(pairs.count((row, word)) for word in (*labels, None)) for row in labels)
        ),
        **{name: None if np.isnan(value) else value for name, value in values.items()},  # type: ignore[arg-type]
    )


def accuracy(answers: ScoredAnswers, weights: FloatArray) -> FloatArray:
    """Return the share of correct answers [b]."""
    return (weights @ answers.correct) / weights.sum(axis=1)


def balanced_accuracy(answers: ScoredAnswers, weights: FloatArray) -> FloatArray:
    """Return the mean of the shares of correct answers among positive and among negative examples [b]."""
    tp, fp, fn, tn = _counts(answers, weights)
    return (_ratio(tp, tp + fn) + _ratio(tn, tn + fp)) / 2


def f1(answers: ScoredAnswers, weights: FloatArray) -> FloatArray:
    """Return the harmonic mean of precision and recall of the positive answer [b]."""
    tp, fp, fn, _ = _counts(answers, weights)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def mcc(answers: ScoredAnswers, weights: FloatArray) -> FloatArray:
    """Return Matthews' correlation of answer and truth [b], -1 to 1; 0 where all answers given are the same."""
    tp, fp, fn, tn = _counts(answers, weights)
    one_class = (tp + fn == 0) | (tn + fp == 0)
    scale = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return np.where(one_class, np.nan, (tp * tn - fp * fn) / np.where(scale == 0, 1, scale))


def roc_auc(answers: ScoredAnswers, weights: FloatArray) -> FloatArray:
    """Return the chance [b] that a positive example has a higher probability than a negative one, ties as one half."""
    positive, negative = _by_falling_probability(answers, weights)
    negatives_below = negative.sum(axis=1, keepdims=True) - negative.cumsum(axis=1)
    wins = (positive * (negatives_below + negative / 2)).sum(axis=1)
    return _ratio(wins, positive.sum(axis=1) * negative.sum(axis=1))


def pr_auc(answers: ScoredAnswers, weights: FloatArray) -> FloatArray:
    """Return the average precision [b]: precision at each threshold, weighted by the recall it adds."""
    positive, negative = _by_falling_probability(answers, weights)
    found = positive.cumsum(axis=1)
    precision = found / np.maximum(found + negative.cumsum(axis=1), 1)
    undefined = negative.sum(axis=1) == 0
    return np.where(undefined, np.nan, _ratio((positive * precision).sum(axis=1), positive.sum(axis=1)))


METRICS: Mapping[str, Callable[[ScoredAnswers, FloatArray], FloatArray]] = {
    metric.__name__: metric for metric in (accuracy, balanced_accuracy, f1, mcc, roc_auc, pr_auc)
}


def _counts(answers: ScoredAnswers, weights: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return true positives, false positives, false negatives and true negatives, each [b]."""
    positive, correct = answers.positive, answers.correct
    cells = positive * correct, (1 - positive) * (1 - correct), positive * (1 - correct), (1 - positive) * correct
    tp, fp, fn, tn = (weights @ cell for cell in cells)
    return tp, fp, fn, tn


def _by_falling_probability(answers: ScoredAnswers, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
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


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Divide part by whole [b]; NaN where whole is 0."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
