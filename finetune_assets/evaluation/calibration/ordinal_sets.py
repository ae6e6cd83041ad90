"""Sets of neighbouring levels around an answer that hold the true one as often as they say.

Split conformal prediction with the sets of Lu, Angelopoulos and Pomerantz, MICCAI 2022, "Improving trustworthiness of
AI disease severity rating in medical imaging with ordinal conformal prediction sets": from the likeliest level on, the
likelier neighbour is added until the set has enough probability.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune_assets.evaluation.calibration.conformal import group_quantile
from finetune_assets.evaluation.calibration.vectors import OrdinalCalibrator
from finetune_assets.evaluation.shares import accuracy_interval
from finetune_assets.evaluation.statistics import FloatArray, Interval


@dataclass(frozen=True, slots=True)
class SetReport:
    """How many sets of the test split hold the true level."""

    n: int
    level: float
    coverage: Interval
    mean_size: float
    """Levels in a set."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    def __str__(self) -> str:
        held, low, high = (100 * part for part in (self.coverage.estimate, self.coverage.low, self.coverage.high))
        return (
            f"{100 * self.level:g} % sets held {held:.1f} % of the true levels (95 % interval {low:.1f} to "
            f"{high:.1f}) and have {self.mean_size:.1f} levels on average"
        )


def with_sets(calibrator: OrdinalCalibrator, p: FloatArray, y: NDArray[np.intp], groups: NDArray) -> OrdinalCalibrator:
    """Fit how far sets reach, on p [n x k] and true levels y [n] in groups [n] of the calibration split."""
    _, member = np.unique(groups, return_inverse=True)
    needed = _mass(calibrator.apply(p))[np.arange(len(y)), y]
    reach = group_quantile(needed, member, calibrator.level)
    return replace(calibrator, reach=reach if math.isfinite(reach) else None)


def sets(calibrator: OrdinalCalibrator, p: FloatArray) -> NDArray[np.bool_]:
    """Return which levels are in the set of each answer [n x k], from the model's own p [n x k]."""
    calibrated = calibrator.apply(p)
    if calibrator.reach is None:
        return np.ones(calibrated.shape, dtype=bool)
    held = _mass(calibrated) <= calibrator.reach
    held[np.arange(len(held)), calibrated.argmax(axis=1)] = True
    return held


def judge(calibrator: OrdinalCalibrator, p: FloatArray, y: NDArray[np.intp], groups: NDArray) -> SetReport:
    """Count on the test split how many sets hold the true level."""
    held = sets(calibrator, p)
    inside = held[np.arange(len(y)), y]
    return SetReport(len(y), calibrator.level, accuracy_interval(inside, groups), float(held.sum(axis=1).mean()))


def _mass(p: FloatArray) -> FloatArray:
    """Return for each level the probability of the set at which it joins [n x k]."""
    n, k = p.shape
    rows = np.arange(n)
    low = high = p.argmax(axis=1)
    mass = np.full((n, k), np.nan)
    total = p[rows, low]
    mass[rows, low] = total
    for _ in range(k - 1):
        below = np.where(low > 0, p[rows, low - 1], -1.0)
        above = np.where(high < k - 1, p[rows, (high + 1) % k], -1.0)
        down = below >= above
        low, high = np.where(down, low - 1, low), np.where(down, high, high + 1)
        joined = np.where(down, low, high)
        total = total + p[rows, joined]
        mass[rows, joined] = total
    return mass
