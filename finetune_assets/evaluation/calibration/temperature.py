"""Temperature scaling: one number makes all probabilities less sure, or surer, of what they already say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from finetune_assets.evaluation.calibration.score_calibrator import ScoreCalibrator, logistic_fit, logits
from finetune_assets.evaluation.statistics import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureCalibrator(ScoreCalibrator):
    """Temperature scaling: p becomes sigmoid(slope * logit(p)), so that 0.5 stays where it is.

    Guo, Pleiss, Sun and Weinberger, ICML 2017, "On calibration of modern neural networks".
    """

    method: ClassVar[str] = "temperature"
    slope: float
    """One over the temperature: below 1 where the model is too sure; 0 makes everything 0.5."""

    @classmethod
    def _curve(cls, p: FloatArray, y: FloatArray) -> dict[str, Any]:
        if not 0 < y.sum() < len(y):
            return {"slope": 0.0}
        [slope], _ = logistic_fit(logits(p)[:, None], y, intercept=False)
        return {"slope": max(0.0, slope)}

    @staticmethod
    def _is_constant(curve: dict[str, Any]) -> bool:
        return curve["slope"] == 0

    def _mapped(self, p: FloatArray) -> FloatArray:
        from scipy.special import expit

        return expit(self.slope * logits(p))
