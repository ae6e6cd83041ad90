"""What calibration changed on the test split, and why, where it did not make the probabilities better."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from finetune_assets.evaluation.calibration.recalibration import Recalibration, recalibrate
from finetune_assets.evaluation.calibration.reliability import (
    brier_score,
    calibration_error,
    checked,
    log_loss,
    log_losses,
    squared_errors,
)
from finetune_assets.evaluation.sample_size import needed_examples
from finetune_assets.evaluation.statistics import (
    FloatArray,
    Interval,
    Outcome,
    outcome,
    p_words,
    paired_bootstrap,
    paired_permutation,
    signed_parts,
)

WELL_CALIBRATED = 0.03
"""A calibration error of 3 points is less than most decisions would notice."""


@dataclass(frozen=True, slots=True)
class CalibrationScores:
    """How far probabilities are from the truth; for all three lower is better and 0 is perfect."""

    ece: Interval
    brier: float
    log_loss: float
    recalibration: Recalibration
    """Whether they are shown to be off, and in which way."""


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """Scores before and after calibration; the differences are after minus before, so negative is better."""

    n: int
    before: CalibrationScores
    after: CalibrationScores
    brier_difference: Interval
    log_loss_difference: Interval
    log_loss_p: float
    """Of the permutation test, by groups, that both log losses are the same."""
    why_not: str | None
    """Why the log loss is not significantly lower, None where it is."""
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
    members = np.arange(len(labels)) if groups is None else np.asarray(groups)
    scores = _scores(before, labels, members), _scores(after, labels, members)
    errors = squared_errors(before, labels), squared_errors(after, labels)
    brier = paired_bootstrap(*errors, members)
    losses = log_losses(before, labels), log_losses(after, labels)
    change, p_value = paired_bootstrap(*losses, members), paired_permutation(*losses, members)
    lowered = outcome(change, p_value, higher_is_better=False)
    needed = needed_examples(*losses, members) if lowered == "inconclusive" and change.estimate < 0 else None
    why_not = None if lowered == "better" else _why_not(scores[0], bool(np.ptp(after) == 0), lowered, needed)
    by_brier = outcome(brier, paired_permutation(*errors, members), higher_is_better=False)
    verdict = f"{_judged('Brier score', by_brier, brier)}. {_judged('log loss', lowered, change, p_value)}."
    verdict += f" Before, the probabilities were {scores[0].recalibration}; after: {scores[1].recalibration}."
    return CalibrationReport(
        n=len(labels),
        before=scores[0],
        after=scores[1],
        brier_difference=brier,
        log_loss_difference=change,
        log_loss_p=p_value,
        why_not=why_not,
        outcome=by_brier,
        verdict=f"{verdict} {why_not}" if why_not else verdict,
    )


def _scores(p: FloatArray, y: FloatArray, groups: ArrayLike) -> CalibrationScores:
    return CalibrationScores(
        ece=calibration_error(p, y, groups),
        brier=brier_score(p, y),
        log_loss=log_loss(p, y),
        recalibration=recalibrate(p, y, groups),
    )


def _judged(score: str, found: Outcome, difference: Interval, p_value: float | None = None) -> str:
    did = {"better": "lowered", "worse": "raised", "inconclusive": "did not change"}[found]
    change, low, high = signed_parts(difference, digits=4)
    p = "" if p_value is None else f", {p_words(p_value)}"
    return (
        f"Calibration {did} the {score} significantly: {change} "
        f"({100 * difference.level:g} % interval {low} to {high}{p})"
    )


def _why_not(scores: CalibrationScores, constant: bool, found: Outcome, needed: int | None) -> str:
    """Say why the log loss did not fall, from the calibration error before and what the calibrator makes of scores."""
    before = scores.ece
    error = f"a calibration error of {before.estimate:.3f} (95 % interval {before.low:.3f} to {before.high:.3f})"
    if constant:
        return "The model's probabilities do not tell the answers apart: calibration can give no more than one share."
    if found == "worse":
        return "What holds on the calibration split does not on the test split: see whether both are of the same data."
    if before.high <= WELL_CALIBRATED:
        why = f"There was nothing to gain: the model's own probabilities had {error}."
    elif not scores.recalibration.is_off:
        why = f"The model's own probabilities are not shown to be off: they had {error}."
    else:
        why = f"The model's own probabilities were off, they had {error}, but a gain is not shown."
    if needed is None:
        return why
    return f"{why} About {needed:,} test examples would be needed to show a gain of this size, if it is real."
