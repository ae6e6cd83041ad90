"""Platt scaling: from a score between 0 and 1 to a probability, by two numbers fitted on the calibration split.

Arrays are p [n], the scores, and y [n], whether the event happened.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from finetune_assets.evaluation.fitted import Fitted
from finetune_assets.evaluation.reliability import checked, checked_probabilities, clip
from finetune_assets.evaluation.statistics import FloatArray

EVENTS = {"binary": "positive", "choice": "right", "text": "right"}
"""What an example is whose event happened, by kind of answer."""
FEW = 50
"""Below so many examples the two numbers are rough, and a warning says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlattCalibrator(Fitted):
    """Platt scaling: p becomes sigmoid(slope * logit(p) + intercept), the probability that the event happens.

    The event is that the positive answer is true (binary answers), or that the model's answer is right (others).
    Platt 1999, "Probabilistic outputs for support vector machines and comparisons to regularized likelihood methods".
    """

    method: ClassVar[str] = "platt"
    slope: float
    intercept: float
    n_positive: int
    """Examples of `n` whose event happened."""

    @classmethod
    def fit(cls, p: ArrayLike, y: ArrayLike, *, model: str, kind: str = "binary") -> Self:
        """Fit on p, y [n] of the calibration split, as scored by `model`.

        A negative slope would turn the ranking round, and events that all happened, or never, say nothing of a slope.
        The best fit that does not fall is then the constant share of events, and `warning` says so.

        Raises:
            EvaluationError: a probability missing or outside 0..1, or lengths that differ.
        """
        probabilities, labels = checked(p, y)
        n, n_positive = len(labels), int(labels.sum())
        slope, intercept = _fit(probabilities, labels) if 0 < n_positive < n else (0.0, 0.0)
        warning = f"fitted on {n} examples only: enlarge the calibration split" if n < FEW else None
        if slope <= 0:
            slope, intercept = 0.0, float(_logit(np.array([(n_positive + 1) / (n + 2)]))[0])
            warning = (
                f"the probabilities of {model} do not tell apart the {n_positive} {EVENTS[kind]} of {n} examples: "
                "calibration replaces every one of them by that share"
            )
        fingerprint = hashlib.sha256(probabilities.tobytes() + labels.tobytes()).hexdigest()
        return cls(
            kind=kind,
            slope=slope,
            intercept=intercept,
            model=model,
            fingerprint=fingerprint,
            n=n,
            n_positive=n_positive,
            warning=warning,
        )

    def apply(self, p: ArrayLike, *, model: str | None = None) -> FloatArray:
        """Calibrate p [n] without changing its order; `model` says who gave p, where the caller knows it.

        Raises:
            EvaluationError: p of another model, or a probability missing or outside 0..1.
        """
        from scipy.special import expit

        self.require(model)
        return expit(self.slope * _logit(checked_probabilities(p)) + self.intercept)


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
