"""Make a score mean what it says: fitted on the calibration split, judged on the test split, never both on one.

A number gets an interval around it (`conformal`), every other answer a probability (`choice`): that the
positive answer is true (binary), or that the model's answer is right (choice, text).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.calibration.choice import METHODS, choose
from finetune_assets.evaluation.calibration.conformal import ConformalCalibrator, CoverageReport, judge_coverage
from finetune_assets.evaluation.calibration.ordinal_sets import with_sets
from finetune_assets.evaluation.calibration.parts import Part, by_option, by_subgroup
from finetune_assets.evaluation.calibration.platt import PlattCalibrator
from finetune_assets.evaluation.calibration.report import CalibrationReport, judge_probabilities
from finetune_assets.evaluation.calibration.score_calibrator import ScoreCalibrator
from finetune_assets.evaluation.calibration.vectors import (
    OrdinalCalibrator,
    VectorCalibrator,
    VectorTemperatureCalibrator,
)
from finetune_assets.evaluation.prediction import Prediction, read_predictions
from finetune_assets.evaluation.scoring import scoring_of
from finetune_assets.evaluation.statistics import FloatArray
from finetune_assets.task import Split
from finetune_assets.task.answers import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer, ScoreAnswer
from finetune_assets.task.judging import DecidingMetric

if TYPE_CHECKING:
    import pandas as pd

Calibrator = ScoreCalibrator | VectorCalibrator | ConformalCalibrator
_OF_WORDS = (VectorTemperatureCalibrator, OrdinalCalibrator)


@dataclass(frozen=True, slots=True)
class Words:
    """What n answers say of each of a task's k words."""

    p: FloatArray
    """The model's probabilities [n x k]."""
    said: NDArray[np.intp]
    """Which word was answered [n]."""
    true: NDArray[np.intp]
    """Which word is true [n]."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the fine-tuned model's answers of one split say; each array [n]. Answers without a score are left out."""

    score: FloatArray
    """A probability, or the number answered."""
    truth: FloatArray
    """Whether the event happened (1 or 0), or the true number."""
    groups: NDArray[np.object_]
    subgroups: NDArray[np.object_] | None = None
    """Name of each answer's subgroup, "" where it has none."""
    words: Words | None = None
    """Of choice and score answers whose words were all weighed."""

    def __len__(self) -> int:
        return len(self.score)


def evidence(predictions: pd.DataFrame, split: Split, answer: Answer, metric: DecidingMetric | None = None) -> Evidence:
    """Collect what calibration needs of one split of the predictions; `metric` says which texts are right.

    Raises:
        EvaluationError: columns missing.
    """
    rows = [row for row in read_predictions(predictions, split, "fine_tuned") if row.error is None]
    pairs = [_score_and_truth(row, answer, metric) for row in rows]
    kept = [(row, *pair) for row, pair in zip(rows, pairs, strict=True) if pair[0] is not None]
    return Evidence(
        score=np.array([score for _, score, _ in kept], dtype=float),
        truth=np.array([truth for _, _, truth in kept], dtype=float),
        groups=np.array([row.group for row, *_ in kept], dtype=object),
        subgroups=np.array([row.subgroup or "" for row, *_ in kept], dtype=object),
        words=_words([row for row, *_ in kept], answer),
    )


def fit(calibration: Evidence, answer: Answer, model: str) -> Calibrator:
    """Fit the calibrator of this kind of answer on the calibration split.

    Raises:
        EvaluationError: no scores.
    """
    if isinstance(answer, NumberAnswer):
        return ConformalCalibrator.fit(
            calibration.truth, calibration.score, calibration.groups, answer=answer, model=model
        )
    if calibration.words is not None and isinstance(answer, ChoiceAnswer | ScoreAnswer):
        words, kind = calibration.words, answer.kind
        if isinstance(answer, ChoiceAnswer):
            return VectorTemperatureCalibrator.fit(words.p, words.true, answer.options, model=model, kind=kind)
        curve = OrdinalCalibrator.fit(words.p, words.true, answer.options, model=model, kind=kind)
        return with_sets(curve, words.p, words.true, calibration.groups)
    return choose(calibration.score, calibration.truth, calibration.groups, model=model, kind=answer.kind)


def judge(calibrator: Calibrator, test: Evidence, model: str) -> CalibrationReport | CoverageReport:
    """Judge a calibrator on the test split.

    Raises:
        EvaluationError: scores of another model, none, or of fewer than two groups.
    """
    if isinstance(calibrator, ConformalCalibrator):
        return judge_coverage(calibrator, test.truth, test.score, test.groups, model=model)
    after = calibrated(calibrator, test, model=model)
    return judge_probabilities(test.score, after, test.truth, test.groups)


def judge_parts(
    calibrator: Calibrator, predictions: pd.DataFrame, test: Evidence, answer: Answer
) -> dict[str, tuple[Part, ...]]:
    """Judge the calibrator on parts of the test split, by what they are; nothing of numbers.

    Raises:
        EvaluationError: columns missing.
    """
    if isinstance(calibrator, ConformalCalibrator):
        return {}
    found = {}
    if isinstance(answer, ChoiceAnswer | ScoreAnswer):
        rows = [row for row in read_predictions(predictions, "test", "fine_tuned") if row.error is None]
        found["option"] = by_option(rows, answer.options, calibrator)
    if test.subgroups is not None and len(test):
        found["subgroup"] = by_subgroup(calibrated(calibrator, test), test.truth, test.groups, test.subgroups)
    return {what: parts for what, parts in found.items() if parts}


def calibrated(
    calibrator: ScoreCalibrator | VectorCalibrator, found: Evidence, *, model: str | None = None
) -> FloatArray:
    """Return the calibrated probability of each answer's event [n].

    Raises:
        EvaluationError: another model's answers, or answers whose words were not weighed.
    """
    if isinstance(calibrator, ScoreCalibrator):
        return calibrator.apply(found.score, model=model)
    if found.words is None:
        raise EvaluationError(f"a {calibrator.method} calibrator needs the probability of every word of each answer")
    return calibrator.apply(found.words.p, model=model)[np.arange(len(found)), found.words.said]


def of_answer(
    calibrator: ScoreCalibrator | VectorCalibrator,
    score: float | None,
    word: str | None,
    weighed: Sequence[float] | None,
    *,
    model: str | None = None,
) -> float | None:
    """Return the calibrated probability of one answer's event; None where what it needs is not known.

    Args:
        calibrator: of the model that answered.
        score: the model's own probability of the event.
        word: what was answered.
        weighed: the model's probability of each of the task's words, in the task's order.
        model: who answered, where the caller knows it.

    Raises:
        EvaluationError: another model.
    """
    if isinstance(calibrator, ScoreCalibrator):
        return None if score is None else float(calibrator.apply([score], model=model)[0])
    if word is None or weighed is None:
        return None
    return float(calibrator.apply([weighed], model=model)[0, calibrator.options.index(word)])


def load(data: dict[str, Any]) -> Calibrator:
    """Read what a calibrator's `to_dict` wrote.

    Raises:
        EvaluationError: not a calibrator of ours.
    """
    known = {calibrator.method: calibrator for calibrator in (*METHODS, *_OF_WORDS, ConformalCalibrator)}
    return known.get(str(data.get("method")), PlattCalibrator).from_dict(data)


def _words(rows: Sequence[Prediction], answer: Answer) -> Words | None:
    if not isinstance(answer, ChoiceAnswer | ScoreAnswer) or not rows:
        return None
    weighed = [p for row in rows if (p := row.weighed) is not None]
    if len(weighed) < len(rows):
        return None
    places = {word: place for place, word in enumerate(answer.options)}
    said, true = ([places[str(getattr(row, name))] for row in rows] for name in ("predicted", "truth"))
    return Words(np.array(weighed, dtype=float), np.array(said, dtype=np.intp), np.array(true, dtype=np.intp))


def _score_and_truth(
    row: Prediction, answer: Answer, metric: DecidingMetric | None
) -> tuple[float | None, float | None]:
    match answer:
        case BinaryAnswer():
            return row.p_positive, float(row.truth == answer.positive)
        case NumberAnswer():
            return row.predicted_value, row.truth_value
        case _:
            return row.p_predicted, float(scoring_of(answer, metric).score([row]).right[0])
