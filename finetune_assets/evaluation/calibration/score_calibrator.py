"""What calibrators of scores share: from a score between 0 and 1 to the probability that an event happens.

Arrays are p [n], the scores, and y [n], whether the event happened. The event is that the positive answer is true
(binary answers), or that the model's answer is right (others).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from finetune_assets.evaluation.calibration.fitted import Fitted
from finetune_assets.evaluation.calibration.reliability import checked, checked_probabilities, clip
from finetune_assets.evaluation.statistics import FloatArray

EVENTS = {"binary": "positive", "choice": "right", "score": "right", "text": "right", "call": "right"}
"""What an example is whose event happened, by kind of answer."""
FEW = 50
"""Below so many examples a fit is rough, and a warning says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCalibrator(Fitted, ABC):
    """A curve that does not fall, fitted on the calibration split; each method adds the numbers that describe it."""

    n_positive: int
    """Examples of `n` whose event happened."""
    held_out_log_loss: dict[str, float] | None = None
    """By method, on folds of the calibration split that it was not fitted on; None where there was no choice."""

    @classmethod
    def fit(cls, p: ArrayLike, y: ArrayLike, *, model: str, kind: str = "binary") -> Self:
        """Fit on p, y [n] of the calibration split, as scored by `model`.

        A fit that would turn the ranking round, or of events that all happened, or never, becomes a constant, and
        `warning` says so.

        Raises:
            EvaluationError: a probability missing or outside 0..1, or lengths that differ.
        """
        probabilities, labels = checked(p, y)
        n, n_positive = len(labels), int(labels.sum())
        curve = cls._curve(probabilities, labels)
        warning = f"fitted on {n} examples only: enlarge the calibration split" if n < FEW else None
        if cls._is_constant(curve):
            warning = (
                f"the probabilities of {model} do not tell apart the {n_positive} {EVENTS[kind]} of {n} examples: "
                "calibration replaces every one of them by that share"
            )
        return cls(
            kind=kind,
            model=model,
            fingerprint=hashlib.sha256(probabilities.tobytes() + labels.tobytes()).hexdigest(),
            n=n,
            n_positive=n_positive,
            warning=warning,
            **curve,
        )

    def apply(self, p: ArrayLike, *, model: str | None = None) -> FloatArray:
        """Calibrate p [n] without changing its order; `model` says who gave p, where the caller knows it.

        Raises:
            EvaluationError: p of another model, or a probability missing or outside 0..1.
        """
        self.require(model)
        return self._mapped(checked_probabilities(p))

    @classmethod
    @abstractmethod
    def _curve(cls, p: FloatArray, y: FloatArray) -> dict[str, Any]:
        """Return the numbers that the method adds, by field."""

    @staticmethod
    @abstractmethod
    def _is_constant(curve: dict[str, Any]) -> bool:
        """Whether the curve gives every score the same probability."""

    @abstractmethod
    def _mapped(self, p: FloatArray) -> FloatArray:
        """Return the probability of each score [n]."""


def logits(p: FloatArray) -> FloatArray:
    """Return the log odds of p [n], finite."""
    from scipy.special import logit

    return logit(clip(p))


def log_odds_of_events(y: FloatArray) -> float:
    """Return the log odds of the share of events, one of either kind added: neither 0 nor 1 (Laplace's rule)."""
    return float(np.log(y.sum() + 1) - np.log(len(y) - y.sum() + 1))


def logistic_fit(features: FloatArray, y: FloatArray, *, intercept: bool = True) -> tuple[list[float], float]:
    """Return coefficients [k] and intercept of a logistic regression on features [n x k], to Platt's smoothed targets.

    The targets (N+ + 1)/(N+ + 2) and 1/(N- + 2) instead of 1 and 0 keep the fit finite where the classes separate. A
    target t between 0 and 1 is the same example twice: positive with weight t, negative with weight 1 - t.
    """
    from sklearn.linear_model import LogisticRegression

    n_positive, n_negative = y.sum(), (1 - y).sum()
    target = np.where(y == 1, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    twice, labels = np.tile(features, (2, 1)), np.repeat([1, 0], len(y))
    # C is only there to make a coefficient 0, and not undefined, where all probabilities are equal.
    regression = LogisticRegression(C=1e6, tol=1e-8, max_iter=1000, fit_intercept=intercept)
    regression.fit(twice, labels, sample_weight=np.concatenate([target, 1 - target]))
    return regression.coef_[0].tolist(), float(np.ravel(regression.intercept_)[0])  # type: ignore[union-attr]
