"""Beta calibration: three numbers, for probabilities that are too sure on one side and not on the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from finetune_assets.evaluation.calibration.reliability import clip
from finetune_assets.evaluation.calibration.score_calibrator import ScoreCalibrator, log_odds_of_events, logistic_fit
from finetune_assets.evaluation.statistics import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class BetaCalibrator(ScoreCalibrator):
    """Beta calibration: the log odds of p become a * log(p) - b * log(1 - p) + c, where neither a nor b is negative.

    With a = b it is Platt scaling of log odds. Where the best fit has a negative one, that one is left out, as the
    authors do: the curve must not fall.

    Kull, Silva Filho and Flach, AISTATS 2017, "Beta calibration: a well-founded and easily implemented improvement on
    logistic calibration for binary classifiers".
    """

    method: ClassVar[str] = "beta"
    a: float
    b: float
    c: float

    @classmethod
    def _curve(cls, p: FloatArray, y: FloatArray) -> dict[str, Any]:
        sides = _sides(p)
        used = [0, 1] if 0 < y.sum() < len(y) else []
        while used:
            found, c = logistic_fit(sides[:, used], y)
            if min(found) >= 0:
                return {"a": 0.0, "b": 0.0, **dict(zip(("a", "b")[used[0] :], found, strict=False)), "c": c}
            used.pop(int(np.argmin(found)))
        return {"a": 0.0, "b": 0.0, "c": log_odds_of_events(y)}

    @staticmethod
    def _is_constant(curve: dict[str, Any]) -> bool:
        return curve["a"] == curve["b"] == 0

    def _mapped(self, p: FloatArray) -> FloatArray:
        from scipy.special import expit

        return expit(_sides(p) @ [self.a, self.b] + self.c)


def _sides(p: FloatArray) -> FloatArray:
    """Return log(p) and -log(1 - p) [n x 2]; both rise with p."""
    clipped = clip(p)
    return np.column_stack([np.log(clipped), -np.log1p(-clipped)])
