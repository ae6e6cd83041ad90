"""Which calibrator fits a region's scores best, decided inside the calibration split.

Platt scaling stays unless another method is clearly better on folds that neither was fitted on: by more than one
standard error of the difference. With little data no difference is clear, and the method of two numbers is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finetune_assets.evaluation.calibration.beta import BetaCalibrator
from finetune_assets.evaluation.calibration.isotonic import IsotonicCalibrator
from finetune_assets.evaluation.calibration.platt import PlattCalibrator
from finetune_assets.evaluation.calibration.reliability import checked, log_losses
from finetune_assets.evaluation.calibration.score_calibrator import FEW, ScoreCalibrator
from finetune_assets.evaluation.calibration.temperature import TemperatureCalibrator
from finetune_assets.evaluation.statistics import FloatArray

METHODS: tuple[type[ScoreCalibrator], ...] = (
    PlattCalibrator,
    TemperatureCalibrator,
    BetaCalibrator,
    IsotonicCalibrator,
)
"""The one that is kept in doubt first."""
N_FOLDS = 5
MIN_OF_EITHER = 10
"""Fewer events, or fewer examples without one, would leave folds with next to none."""


def choose(
    p: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None, *, model: str, kind: str = "binary"
) -> ScoreCalibrator:
    """Fit the method with the least log loss on held-out folds, on p, y [n] in groups [n], as scored by `model`.

    No group is in two folds. Where there is no choice (fewer than 50 examples, fewer than ten of either outcome, fewer
    than five groups, or scores that do not rank the events) it is Platt scaling.

    Raises:
        EvaluationError: a probability missing or outside 0..1, or lengths that differ.
    """
    probabilities, labels = checked(p, y)
    members = np.arange(len(labels)) if groups is None else np.asarray(groups)
    platt = PlattCalibrator.fit(probabilities, labels, model=model, kind=kind)
    rarer = min(platt.n_positive, platt.n - platt.n_positive)
    n_groups = len(np.unique(members))
    if platt.slope == 0 or platt.n < FEW or rarer < MIN_OF_EITHER or n_groups < N_FOLDS:
        return platt
    losses = {method.method: np.empty(platt.n) for method in METHODS}
    for kept, held_out in _folds(labels, members):
        for method in METHODS:
            fitted = method.fit(probabilities[kept], labels[kept], model=model, kind=kind)
            losses[method.method][held_out] = log_losses(fitted.apply(probabilities[held_out]), labels[held_out])
    means = {name: float(each.mean()) for name, each in losses.items()}
    chosen = min(METHODS, key=lambda method: means[method.method])
    gain = losses[PlattCalibrator.method] - losses[chosen.method]
    if gain.mean() <= _standard_error(gain, members):
        chosen = PlattCalibrator
    return replace(chosen.fit(probabilities, labels, model=model, kind=kind), held_out_log_loss=means)


def _folds(y: FloatArray, groups: NDArray) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield rows to fit on and rows held out, whole groups with about equal shares of events."""
    from sklearn.model_selection import StratifiedGroupKFold

    yield from StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=0).split(y, y, groups)


def _standard_error(scores: FloatArray, groups: ArrayLike) -> float:
    """Standard error of the mean of scores [n], of which those of one group [n] may go together."""
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    deviation = np.bincount(member, weights=scores - scores.mean(), minlength=len(names))
    return float(np.sqrt((deviation**2).sum() * len(names) / (len(names) - 1)) / len(scores))
