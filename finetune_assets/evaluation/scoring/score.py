"""Metrics of scores, whose words are levels in an order: one far from the truth is worse than one near to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from finetune_assets.evaluation.prediction import Prediction
from finetune_assets.evaluation.scoring.binary import check_words
from finetune_assets.evaluation.scoring.metric import Metric, Scoring, mean_of, ratio, share_of
from finetune_assets.evaluation.statistics import FloatArray
from finetune_assets.task.answers import ScoreAnswer


@dataclass(frozen=True, slots=True)
class ScoreAnswers:
    """What the metrics need of n answers and k levels."""

    truth: FloatArray
    """The true level [n], 0 to k - 1."""
    predicted: FloatArray
    """The level given [n]; NaN where the answer is unreadable."""
    k: int

    @property
    def right(self) -> FloatArray:
        """1 where the level given is the true one [n]."""
        return (self.truth == self.predicted).astype(float)


def quadratic_agreement(answers: ScoreAnswers) -> FloatArray:
    """Return 1 - (d / (k - 1))^2 of each answer [n] that is d levels off: 1 is right; an unreadable one has 0."""
    off = (answers.predicted - answers.truth) / (answers.k - 1)
    return np.nan_to_num(1 - off**2, nan=0.0)


def quadratic_kappa(answers: ScoreAnswers, weights: FloatArray) -> FloatArray:
    """Return the agreement [b] beyond chance, -1 to 1, errors weighted by the square of their distance.

    1 - (mean of d^2) / (mean of d^2 if answers were dealt out anew), of readable answers; NaN where all answers given
    and all true ones are of one level. Cohen 1968, "Weighted kappa".
    """
    readable = np.isfinite(answers.predicted)
    w = weights[:, readable]
    truth, given = answers.truth[readable], answers.predicted[readable]
    total = w.sum(axis=1)
    seen = w @ (truth - given) ** 2
    # The mean of (x - y)^2 over all pairs, from the moments of both.
    chance = w @ truth**2 + w @ given**2 - 2 * ratio((w @ truth) * (w @ given), total)
    return 1 - ratio(seen, chance)


METRICS: Mapping[str, Metric[ScoreAnswers]] = {
    "quadratic_agreement": mean_of("Quadratic agreement", quadratic_agreement),
    "accuracy": share_of("Accuracy", lambda answers: answers.right),
    "quadratic_kappa": Metric("Quadratic kappa", quadratic_kappa, lowest=-1, of_readable=True),
    "levels_off": mean_of(
        "Levels off", lambda answers: np.abs(answers.predicted - answers.truth),
        higher_is_better=False, is_share=False, of_readable=True,
    ),
}  # fmt: skip


class ScoreScoring(Scoring[ScoreAnswers]):
    """Judges one of several ordered levels by how far it is from the true one."""

    metrics = METRICS
    second = "quadratic_kappa"

    def __init__(self, answer: ScoreAnswer) -> None:
        self.labels = tuple(answer.levels)

    def score(self, rows: Sequence[Prediction]) -> ScoreAnswers:
        """Reduce answers to what the metrics need; refuse words that are not the task's."""
        check_words(rows, self.labels)
        place = {label: float(number) for number, label in enumerate(self.labels)}
        return ScoreAnswers(
            truth=np.array([place[row.truth] for row in rows]),
            predicted=np.array([np.nan if row.predicted is None else place[row.predicted] for row in rows]),
            k=len(self.labels),
        )

    def badness(self, row: Prediction) -> float:
        """Return how many levels an answer is off; unreadable ones come last."""
        if row.predicted is None:
            return -1
        return abs(self.labels.index(row.predicted) - self.labels.index(row.truth))
