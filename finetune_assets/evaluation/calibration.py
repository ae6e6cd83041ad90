"""Make a probability mean what it says: fitted on the calibration split, judged on the test split, never both on one.

Arrays are p [n], the probability of the positive answer, and y [n], whether the positive answer is true.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.reliability import (
    brier_score,
    calibration_error,
    checked,
    checked_probabilities,
    clip,
    log_loss,
    log_losses,
    squared_errors,
)
from finetune_assets.evaluation.statistics import FloatArray, Interval, Outcome, paired_bootstrap, signed_parts


@dataclass(frozen=True, slots=True)
class PlattCalibrator:
    """Platt scaling: p becomes sigmoid(slope * logit(p) + intercept).

    Platt 1999, "Probabilistic outputs for support vector machines and comparisons to regularized likelihood methods".
    """

    slope: float
    intercept: float
    model: str
    fingerprint: str
    """SHA-256 of the probabilities and labels it was fitted on."""
    n: int
    n_positive: int
    warning: str | None = None
    """Why the calibrator is of little use, or None."""

    @classmethod
    def fit(cls, p: ArrayLike, y: ArrayLike, *, model: str) -> Self:
        """Fit on p, y [n] of the calibration split, as scored by `model`.

        A negative slope would turn the ranking round. It is never used: the best fit that does not fall is then the
        constant share of positives, and `warning` says so.

        Raises:
            EvaluationError: labels of one class only, a probability missing or outside 0..1, or lengths that differ.
        """
        probabilities, labels = checked(p, y)
        n, n_positive = len(labels), int(labels.sum())
        if n_positive in (0, n):
            raise EvaluationError(
                f"calibration needs examples of both answers, got {n_positive} positive and {n - n_positive} negative: "
                "enlarge the calibration split"
            )
        slope, intercept, warning = *_fit(probabilities, labels), None
        if slope <= 0:
            warning = (
                f"the probabilities of {model} do not rise with the share of positive answers "
                f"(slope {slope:.3g} on {n} examples): calibration replaces every one of them by that share"
            )
            slope, intercept = 0.0, float(_logit(np.array([(n_positive + 1) / (n + 2)]))[0])
        fingerprint = hashlib.sha256(probabilities.tobytes() + labels.tobytes()).hexdigest()
        return cls(slope, intercept, model, fingerprint, n, n_positive, warning)

    def apply(self, p: ArrayLike, *, model: str | None = None) -> FloatArray:
        """Calibrate p [n] without changing its order; `model` says who gave p, where the caller knows it.

        Raises:
            EvaluationError: p of another model, or a probability missing or outside 0..1.
        """
        from scipy.special import expit

        if model not in (None, self.model):
            raise EvaluationError(
                f"this calibrator was fitted on probabilities of {self.model!r} and says nothing about those of "
                f"{model!r}: fit one on that model's calibration split"
            )
        return expit(self.slope * _logit(checked_probabilities(p)) + self.intercept)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON; `from_dict` makes an equal calibrator of that."""
        return {"method": "platt", **asdict(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            EvaluationError: another method, or fields missing or unknown.
        """
        fields = {key: value for key, value in data.items() if key != "method"}
        if data.get("method") != "platt" or set(fields) != set(cls.__dataclass_fields__):
            raise EvaluationError(
                f"expected a Platt calibrator, got method {data.get('method')!r} with the fields {sorted(fields)}: "
                "materialise the calibrator again"
            )
        return cls(**fields)


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


def judge(p_before: ArrayLike, p_after: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> CalibrationReport:
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


def _fit(p: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Slope and intercept of a logistic regression on logit(p), to Platt's smoothed targets.

    The targets (N+ + 1)/(N+ + 2) and 1/(N- + 2) instead of 1 and 0 keep the fit finite where the classes separate. A
    target t between 0 and 1 is the same example twice: positive with weight t, negative with weight 1 - t.
    """
    from sklearn.linear_model import LogisticRegression

    n_positive, n_negative = y.sum(), (1 - y).sum()
    target = np.where(y == 1, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    logits = np.tile(_logit(p), 2)[:, None]
    labels = np.repeat([1, 0], len(p))
    # C is only there to make the slope 0, and not undefined, where all probabilities are equal.
    regression = LogisticRegression(C=1e6, tol=1e-8, max_iter=1000)
    regression.fit(logits, labels, sample_weight=np.concatenate([target, 1 - target]))
    return regression.coef_.item(), regression.intercept_.item()  # type: ignore[union-attr]


def _logit(p: FloatArray) -> FloatArray:
    from scipy.special import logit

    return logit(clip(p))
