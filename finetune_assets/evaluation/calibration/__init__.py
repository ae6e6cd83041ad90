"""Make a score mean what it says: fitted on the calibration split, judged on the test split, never both on one.

A number gets an interval around it (`conformal`), every other answer a probability (`choice`): that the
positive answer is true (binary), or that the model's answer is right (choice, text).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetune_assets.evaluation.calibration.choice import METHODS, choose
from finetune_assets.evaluation.calibration.conformal import ConformalCalibrator, CoverageReport, judge_coverage
from finetune_assets.evaluation.calibration.parts import Part, by_option, by_subgroup
from finetune_assets.evaluation.calibration.platt import PlattCalibrator
from finetune_assets.evaluation.calibration.report import CalibrationReport, judge_probabilities
from finetune_assets.evaluation.calibration.score_calibrator import ScoreCalibrator
from finetune_assets.evaluation.prediction import Prediction, read_predictions
from finetune_assets.evaluation.scoring import scoring_of
from finetune_assets.evaluation.statistics import FloatArray
from finetune_assets.task import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer, Split
from finetune_assets.task.judging import DecidingMetric

if TYPE_CHECKING:
    import pandas as pd

Calibrator = ScoreCalibrator | ConformalCalibrator


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
    return choose(calibration.score, calibration.truth, calibration.groups, model=model, kind=answer.kind)


def judge(calibrator: Calibrator, test: Evidence, model: str) -> CalibrationReport | CoverageReport:
    """Judge a calibrator on the test split.

    Raises:
        EvaluationError: scores of another model, none, or of fewer than two groups.
    """
    if isinstance(calibrator, ConformalCalibrator):
        return judge_coverage(calibrator, test.truth, test.score, test.groups, model=model)
    after = calibrator.apply(test.score, model=model)
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
    if isinstance(answer, ChoiceAnswer):
        rows = [row for row in read_predictions(predictions, "test", "fine_tuned") if row.error is None]
        found["option"] = by_option(rows, answer.options, calibrator)
    if test.subgroups is not None and len(test):
        found["subgroup"] = by_subgroup(calibrator.apply(test.score), test.truth, test.groups, test.subgroups)
    return {what: parts for what, parts in found.items() if parts}


def load(data: dict[str, Any]) -> Calibrator:
    """Read what a calibrator's `to_dict` wrote.

    Raises:
        EvaluationError: not a calibrator of ours.
    """
    known = {calibrator.method: calibrator for calibrator in (*METHODS, ConformalCalibrator)}
    return known.get(str(data.get("method")), PlattCalibrator).from_dict(data)


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
