"""Make a score mean what it says: fitted on the calibration split, judged on the test split, never both on one.

A number gets an interval around it (`conformal`), every other answer a probability (`platt`): that the positive answer
is true (binary), or that the model's answer is right (choice, text).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finetune_assets.evaluation.conformal import ConformalCalibrator, CoverageReport, judge_coverage
from finetune_assets.evaluation.platt import PlattCalibrator
from finetune_assets.evaluation.prediction import Prediction, read_predictions
from finetune_assets.evaluation.reliability import (
    brier_score,
    calibration_error,
    checked,
    log_loss,
    log_losses,
    squared_errors,
)
from finetune_assets.evaluation.scoring import scoring_of
from finetune_assets.evaluation.statistics import FloatArray, Interval, Outcome, paired_bootstrap, signed_parts
from finetune_assets.task import Answer, BinaryAnswer, NumberAnswer, Split

if TYPE_CHECKING:
    import pandas as pd

Calibrator = PlattCalibrator | ConformalCalibrator


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the fine-tuned model's answers of one split say; each array [n]. Answers without a score are left out."""

    score: FloatArray
    """A probability, or the number answered."""
    truth: FloatArray
    """Whether the event happened (1 or 0), or the true number."""
    groups: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.score)


def evidence(predictions: pd.DataFrame, split: Split, answer: Answer) -> Evidence:
    """Collect what calibration needs of one split of the predictions.

    Raises:
        EvaluationError: columns missing.
    """
    rows = [row for row in read_predictions(predictions, split, "fine_tuned") if row.error is None]
    pairs = [_score_and_truth(row, answer) for row in rows]
    kept = [(score, truth, row.group) for row, (score, truth) in zip(rows, pairs, strict=True) if score is not None]
    scores, truths, groups = zip(*kept, strict=True) if kept else ((), (), ())
    return Evidence(np.array(scores, dtype=float), np.array(truths, dtype=float), np.array(groups, dtype=object))


@dataclass(frozen=True, slots=True)
class CalibrationScores:
    """How far probabilities are from the truth; for all three lower is better and 0 is perfect."""

    ece: Interval
    brier: float
    log_loss: float


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """Scores before and after calibration; the differences are after minus before, so negative is better."""

    n: int
    before: CalibrationScores
    after: CalibrationScores
    brier_difference: Interval
    log_loss_difference: Interval
    outcome: Outcome
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def judge_probabilities(
    p_before: ArrayLike, p_after: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None
) -> CalibrationReport:
    """Compare p before and after calibration [n] on the test split, example by example and by group.

    The outcome goes by the Brier score: it is proper and bounded, where one certain mistake rules the log loss.

    Raises:
        EvaluationError: a probability missing or outside 0..1, lengths that differ, or fewer than two groups.
    """
    before, labels = checked(p_before, y)
    after, _ = checked(p_after, y)
    brier = paired_bootstrap(squared_errors(before, labels), squared_errors(after, labels), groups)
    losses = paired_bootstrap(log_losses(before, labels), log_losses(after, labels), groups)
    outcome: Outcome = "better" if brier.high < 0 else "worse" if brier.low > 0 else "inconclusive"
    return CalibrationReport(
        n=len(labels),
        before=_scores(before, labels, groups),
        after=_scores(after, labels, groups),
        brier_difference=brier,
        log_loss_difference=losses,
        outcome=outcome,
        verdict=_verdict(outcome, brier, losses),
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
    return PlattCalibrator.fit(calibration.score, calibration.truth, model=model, kind=answer.kind)


def judge(calibrator: Calibrator, test: Evidence, model: str) -> CalibrationReport | CoverageReport:
    """Judge a calibrator on the test split.

    Raises:
        EvaluationError: scores of another model, none, or of fewer than two groups.
    """
    if isinstance(calibrator, ConformalCalibrator):
        return judge_coverage(calibrator, test.truth, test.score, test.groups, model=model)
    after = calibrator.apply(test.score, model=model)
    return judge_probabilities(test.score, after, test.truth, test.groups)


def load(data: dict[str, Any]) -> Calibrator:
    """Read what a calibrator's `to_dict` wrote.

    Raises:
        EvaluationError: not a calibrator of ours.
    """
    return (ConformalCalibrator if data.get("method") == "conformal" else PlattCalibrator).from_dict(data)


def _score_and_truth(row: Prediction, answer: Answer) -> tuple[float | None, float | None]:
    match answer:
        case BinaryAnswer():
            return row.p_positive, float(row.truth == answer.positive)
        case NumberAnswer():
            return row.predicted_value, row.truth_value
        case _:
            return row.p_predicted, float(scoring_of(answer).score([row]).right[0])


def _scores(p: FloatArray, y: FloatArray, groups: ArrayLike | None) -> CalibrationScores:
    return CalibrationScores(ece=calibration_error(p, y, groups), brier=brier_score(p, y), log_loss=log_loss(p, y))


def _verdict(outcome: Outcome, brier: Interval, losses: Interval) -> str:
    words = {
        "better": "Calibration lowered the Brier score significantly",
        "worse": "Calibration raised the Brier score significantly",
        "inconclusive": "Calibration did not change the Brier score significantly",
    }
    return f"{words[outcome]}: {_change(brier)}. Log loss: {_change(losses)}."


def _change(difference: Interval) -> str:
    change, low, high = signed_parts(difference, digits=4)
    return f"{change} ({100 * difference.level:g} % interval {low} to {high})"
