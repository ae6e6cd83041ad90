"""A calibrator as a server of this package applies it: curve, options, and the conversation that it is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetune_assets.evaluation.answering import Rule
from finetune_assets.evaluation.calibration import Calibrator
from finetune_assets.evaluation.calibration.beta import BetaCalibrator
from finetune_assets.evaluation.calibration.isotonic import IsotonicCalibrator
from finetune_assets.evaluation.calibration.platt import PlattCalibrator
from finetune_assets.evaluation.calibration.temperature import TemperatureCalibrator
from finetune_assets.evaluation.calibration.vectors import OrdinalCalibrator, VectorTemperatureCalibrator


def as_registered(
    calibrator: Calibrator, rule: Rule, options: Sequence[str], asked: Sequence[dict[str, Any]]
) -> dict[str, Any] | None:
    """Return what is registered with a champion at its server; None where its answers are not weighed word by word.

    Args:
        calibrator: of the champion.
        rule: what becomes of its probabilities.
        options: the task's words, in its order.
        asked: the conversation in which it is asked, `role` and `text` of each message (see `server.calibration`).
    """
    curve = _curve(calibrator)
    if curve is None:
        return None
    kind = {"temperature": "choice", "cumulative": "score"}.get(curve["type"], "predicate")
    if kind == "predicate" and calibrator.kind != "binary":
        return None  # it calibrates the answer that was given, not each word
    said = {"kind": kind, "options": list(options), "curve": curve, "asked": list(asked), "threshold": rule.threshold}
    return said if rule.least is None else said | {"least": rule.least}


def _curve(calibrator: Calibrator) -> dict[str, Any] | None:
    match calibrator:
        case PlattCalibrator(slope=slope, intercept=intercept):
            return {"type": "log_odds", "a": slope, "b": slope, "c": intercept}
        case TemperatureCalibrator(slope=slope):
            return {"type": "log_odds", "a": slope, "b": slope, "c": 0.0}
        case BetaCalibrator(a=a, b=b, c=c):
            return {"type": "log_odds", "a": a, "b": b, "c": c}
        case IsotonicCalibrator(scores=scores, probabilities=probabilities):
            return {"type": "points", "scores": scores, "probabilities": probabilities}
        case VectorTemperatureCalibrator(slope=slope):
            return {"type": "temperature", "slope": slope}
        case OrdinalCalibrator(slope=slope, intercept=intercept):
            return {"type": "cumulative", "slope": slope, "intercept": intercept}
        case _:
            return None
