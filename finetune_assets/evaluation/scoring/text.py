"""Metrics of texts, on words: case, punctuation and articles make no difference; signs and symbols (`-5`, `C++`) do.

A true answer may be an answer proper and its explanation, divided by the task's separator: only the first part can be
right or wrong. Whether the model's text contains it decides, and not the overlap of words, because a model that learned
to be brief gains overlap without knowing more; the overlap (token F1) stands beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.prediction import Prediction
from finetune_assets.evaluation.scoring.metric import Known, Metric, Scoring, mean_of, share_of
from finetune_assets.evaluation.scoring.text_words import holds, words
from finetune_assets.evaluation.statistics import FloatArray
from finetune_assets.task.answers import TextAnswer


@dataclass(frozen=True, slots=True)
class TextAnswers:
    """The score of each of n answers, each array [n], 0 to 1; an empty answer has 0 throughout."""

    right: FloatArray
    """1 where the answer proper is in the text, or where it alone is, by what the task takes for right; else 0."""
    holds: FloatArray
    f1: FloatArray
    exact: FloatArray
    in_format: FloatArray


METRICS: Mapping[str, Metric[TextAnswers]] = {
    "contains_answer": share_of("Answers that hold the truth", lambda answers: answers.holds),
    "token_f1": mean_of("Token F1", lambda answers: answers.f1),
    "exact_match": share_of("Exact match", lambda answers: answers.exact),
    "format_adherence": share_of("Keeps the format", lambda answers: answers.in_format),
}


class TextScoring(Scoring[TextAnswers]):
    """Judges free text by whether the true answer is in it."""

    metrics = METRICS
    second = "token_f1"

    def __init__(self, answer: TextAnswer, *, exact: bool = False) -> None:
        self._separator = answer.separator
        self._exact = exact

    def score(self, rows: Sequence[Prediction]) -> TextAnswers:
        """Compare the answers proper word by word."""
        if not rows:
            raise EvaluationError("there must be at least 1 answer to score, got 0")
        holds = np.array([self.contains(row) for row in rows], dtype=float)
        pairs = [(words(self._proper(row.truth)), words(self._proper(row.predicted or ""))) for row in rows]
        exact = np.array([row.predicted is not None and t == g for row, (t, g) in zip(rows, pairs, strict=True)])
        return TextAnswers(
            right=exact.astype(float) if self._exact else holds,
            holds=holds,
            f1=np.array([token_f1(true, given) for true, given in pairs], dtype=float),
            exact=exact.astype(float),
            in_format=np.array([self._in_format(row) for row in rows], dtype=float),
        )

    def contains(self, row: Prediction) -> bool:
        """Return whether the answer proper stands word for word, and not denied, in what the model wrote."""
        return holds(row.predicted or "", self._proper(row.truth))

    def badness(self, row: Prediction) -> float:
        """Return how sure the model was of a wrong text; those without log-probabilities come last."""
        return -1 if row.p_predicted is None else row.p_predicted

    def _suggested(self, known: Known) -> str:
        return self._proper(known.truth).strip()

    def _proper(self, text: str) -> str:
        return text.partition(self._separator)[0]

    def _in_format(self, row: Prediction) -> bool:
        """Whether the model came to an end and explained itself exactly where the true answer does."""
        if row.predicted is None or row.truncated:
            return False
        return row.predicted.count(self._separator) == row.truth.count(self._separator)


def token_f1(true: Sequence[str], given: Sequence[str]) -> float:
    """Return the harmonic mean of the shares of words that both have, 0 to 1; two empty texts agree."""
    if not true and not given:
        return 1.0
    shared = sum((Counter(true) & Counter(given)).values())
    return 2 * shared / (len(true) + len(given))
