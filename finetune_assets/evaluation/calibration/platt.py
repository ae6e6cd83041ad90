"""Platt scaling: from a score between 0 and 1 to a probability, by two numbers fitted on the calibration split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from finetune_assets.evaluation.calibration.score_calibrator import (
    ScoreCalibrator,
    log_odds_of_events,
    logistic_fit,
    logits,
)
from finetune_assets.evaluation.statistics import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PlattCalibrator(ScoreCalibrator):
    """Platt scaling: p becomes sigmoid(slope * logit(p) + intercept).

    A negative slope would turn the ranking round, and events that all happened, or never, say nothing of a slope. The
    best fit that does not fall is then the constant share of events.

    Platt 1999, "Probabilistic outputs for support vector machines and comparisons to regularized likelihood methods".
    """

    method: ClassVar[str] = "platt"
    slope: float
    intercept: float

    @classmethod
    def _curve(cls, p: FloatArray, y: FloatArray) -> dict[str, Any]:
        if 0 < y.sum() < len(y):
            [slope], intercept = logistic_fit(logits(p)[:, None], y)
            if slope > 0:
                return {"slope": slope, "intercept": intercept}
        return {"slope": 0.0, "intercept": log_odds_of_events(y)}

    @staticmethod
    def _is_constant(curve: dict[str, Any]) -> bool:
        return curve["slope"] == 0

    def _mapped(self, p: FloatArray) -> FloatArray:
        from scipy.special import expit

        return expit(self.slope * logits(p) + self.intercept)
