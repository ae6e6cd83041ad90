"""Isotonic regression: whatever curve does not fall, for many examples and a curve of no simple form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from finetune_assets.evaluation.calibration.score_calibrator import ScoreCalibrator
from finetune_assets.evaluation.statistics import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class IsotonicCalibrator(ScoreCalibrator):
    """The rising curve through points nearest to the events, straight between points and level beyond them.

    n examples cannot show a probability nearer to 0 or 1 than 1 / (n + 2), so the curve stays that far from both.

    Zadrozny and Elkan, KDD 2002, "Transforming classifier scores into accurate multiclass probability estimates".
    """

    method: ClassVar[str] = "isotonic"
    scores: list[float]
    probabilities: list[float]

    @classmethod
    def _curve(cls, p: FloatArray, y: FloatArray) -> dict[str, Any]:
        from sklearn.isotonic import IsotonicRegression

        nearest = 1 / (len(y) + 2)
        fitted = IsotonicRegression(y_min=nearest, y_max=1 - nearest).fit(p, y)
        return {"scores": fitted.X_thresholds_.tolist(), "probabilities": fitted.y_thresholds_.tolist()}

    @staticmethod
    def _is_constant(curve: dict[str, Any]) -> bool:
        return len(set(curve["probabilities"])) == 1

    def _mapped(self, p: FloatArray) -> FloatArray:
        return np.interp(p, self.scores, self.probabilities)
