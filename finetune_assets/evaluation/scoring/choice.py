"""Metrics of choices. An answer that cannot be read is wrong: it misses its true option and is counted for no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from finetune_assets.evaluation.prediction import Prediction
from finetune_assets.evaluation.scoring.binary import balanced, check_words
from finetune_assets.evaluation.scoring.metric import Metric, Scoring, ratio, share_of
from finetune_assets.evaluation.statistics import FloatArray
from finetune_assets.task.answers import ChoiceAnswer


@dataclass(frozen=True, slots=True)
class ChoiceAnswers:
    """What the metrics need of n answers and k options."""

    truth: FloatArray
    """1 at the true option [n x k]."""
    predicted: FloatArray
    """1 at the option given [n x k]; an unreadable answer has none."""

    @property
    def right(self) -> FloatArray:
        """1 where the option given is the true one [n]."""
        return (self.truth * self.predicted).sum(axis=1)


def macro_f1(answers: ChoiceAnswers, weights: FloatArray) -> FloatArray:
    """Return the mean F1 [b] of the options that occur among true answers or answers given."""
    hits = weights @ (answers.truth * answers.predicted)
    each = ratio(2 * hits, weights @ answers.truth + weights @ answers.predicted)
    return np.nanmean(each, axis=1)


def balanced_accuracy(answers: ChoiceAnswers, weights: FloatArray) -> FloatArray:
    """Return the mean share of correct answers [b] over the options that are true somewhere."""
    recall = ratio(weights @ (answers.truth * answers.predicted), weights @ answers.truth)
    return np.nanmean(recall, axis=1)


METRICS: Mapping[str, Metric[ChoiceAnswers]] = {
    "accuracy": share_of("Accuracy", lambda answers: answers.right),
    "macro_f1": Metric("Macro F1", macro_f1),
    "balanced_accuracy": Metric(
        "Balanced accuracy", balanced_accuracy, lambda answers: balanced(answers.truth.argmax(axis=1), answers.right)
    ),
}


class ChoiceScoring(Scoring[ChoiceAnswers]):
    """Judges one of several words by whether it is the right one."""

    metrics = METRICS

    def __init__(self, answer: ChoiceAnswer) -> None:
        self.labels = tuple(answer.options)

    def score(self, rows: Sequence[Prediction]) -> ChoiceAnswers:
        """Reduce answers to what the metrics need; refuse words that are not the task's."""
        check_words(rows, self.labels)
        return ChoiceAnswers(
            truth=np.array([[row.truth == label for label in self.labels] for row in rows], dtype=float),
            predicted=np.array([[row.predicted == label for label in self.labels] for row in rows], dtype=float),
        )

    def badness(self, row: Prediction) -> float:
        """Return how little probability the truth was given; answers without one come last."""
        return -2 if row.p_truth is None else -row.p_truth
