"""Whether a training went well, judged by its losses: that it did not diverge, nor overfit, and was long enough.

Losses of single batches are noisy, so means of consecutive stretches are compared, and a rise counts only where it is
both large (`MARGIN`) and beyond the noise (`ALPHA`). The noise is estimated from second differences, which a steady
rise or fall leaves at zero. Losses over a whole validation file have no such noise, and are compared as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from finetune_assets.evaluation.statistics import FloatArray

if TYPE_CHECKING:
    import pandas as pd

IntArray = NDArray[np.int64]

STRETCHES = 5
"""Parts of a training that are compared."""
MARGIN = 0.05
"""Share by which a loss must rise to count as rising."""
ALPHA = 0.001
"""Probability that noise alone makes one stretch seem above another."""
MIN_STEPS = 20
"""Below these, a job has hardly more steps than its learning rate needs to rise and to fall again."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One judgement on a training."""

    good: bool
    words: str


@dataclass(frozen=True, slots=True)
class _Stretches:
    """A loss as its means over consecutive parts of the steps at which it was measured."""

    last: list[int]
    """Last step of each."""
    mean: FloatArray
    noise: FloatArray
    """Above this difference from another mean, of equally many losses, there is more than noise; 0 without noise."""

    def rises(self, low: int, high: int) -> bool:
        """Whether the mean of stretch `high` is above that of `low`."""
        rise = self.mean[high] - self.mean[low]
        return bool(rise > MARGIN * self.mean[low] and rise > max(self.noise[low], self.noise[high]))


def divergence(losses: pd.DataFrame) -> Finding:
    """Judge whether the training loss stayed a number and ended no higher than it began.

    `losses` has the columns `step` and `train_loss`, NaN where a step measured none and infinite where the loss was no
    number.
    """
    step, loss = _measured(losses, "train_loss")
    if len(broken := step[~np.isfinite(loss)]):
        return Finding(False, f"the training loss is no finite number from step {broken[0]} on")
    if len(loss) < 4:
        return Finding(True, "the provider reported too few training losses to judge")
    parts = _stretches(step, loss)
    change = f"({parts.mean[-1]:.4f}) than it began ({parts.mean[0]:.4f})"
    if parts.rises(0, -1):
        return Finding(False, f"the training loss ended higher {change}")
    return Finding(True, f"the training loss ended no higher {change}")


def overfitting(losses: pd.DataFrame) -> Finding:
    """Judge whether the validation loss rose from its lowest while the training loss went on falling.

    `losses` has the columns `step`, `train_loss`, `valid_loss` (one batch) and `full_valid_loss` (the whole file),
    which is judged if it was measured at least twice.
    """
    full, batch = (_finite(*_measured(losses, name)) for name in ("full_valid_loss", "valid_loss"))
    if len(full[0]) >= 2:
        parts = _stretches(*full, noisy=False)
    elif len(batch[0]) >= 2 * STRETCHES:
        parts = _stretches(*batch)
    else:
        return Finding(True, "the provider reported too few validation losses to judge")
    low, end = int(np.argmin(parts.mean)), len(parts.mean) - 1
    if low == end:
        return Finding(True, f"the validation loss ended at its lowest, {parts.mean[end]:.4f}")
    change = f"the validation loss rose from its lowest, {parts.mean[low]:.4f} up to step {parts.last[low]}, "
    change += f"to {parts.mean[end]:.4f}"
    if not parts.rises(low, end):
        return Finding(True, f"{change}, which is within its noise")
    step, loss = _finite(*_measured(losses, "train_loss"))
    train = [loss[(step > (parts.last[k - 1] if k else 0)) & (step <= parts.last[k])] for k in (low, end)]
    if not all(map(len, train)) or train[1].mean() >= train[0].mean():
        return Finding(True, f"{change}, but the training loss did not fall meanwhile")
    fell = f"while the training loss fell from {train[0].mean():.4f} to {train[1].mean():.4f}"
    return Finding(False, f"{change}, {fell}")


def too_short(losses: pd.DataFrame) -> Finding:
    """Judge the number of steps in the column `step`."""
    step = losses["step"].to_numpy(dtype=int)
    if not len(step):
        return Finding(True, "the provider reported no steps")
    return Finding(bool(step.max() >= MIN_STEPS), f"{step.max()} steps were trained")


def _measured(losses: pd.DataFrame, name: str) -> tuple[IntArray, FloatArray]:
    """Return the steps [n] at which a loss was measured, and the losses [n]."""
    loss = losses[name].to_numpy(dtype=float)
    there = ~np.isnan(loss)
    return losses["step"].to_numpy(dtype=int)[there], loss[there]


def _finite(step: IntArray, loss: FloatArray) -> tuple[IntArray, FloatArray]:
    return step[np.isfinite(loss)], loss[np.isfinite(loss)]


def _stretches(step: IntArray, loss: FloatArray, *, noisy: bool = True) -> _Stretches:
    from scipy.stats import t

    # Without noise nothing is gained by a mean, which would hide a late rise.
    n = min(STRETCHES, len(loss) // 2) if noisy else len(loss)
    parts = np.array_split(loss, n)
    noise = np.zeros(n)
    if noisy:
        # Of independent losses the second difference has six times the variance, and half of them tell anything new.
        variance = float(np.mean(np.diff(loss, 2) ** 2)) / 6
        sigmas = float(t.isf(ALPHA, (len(loss) - 2) / 2))
        noise = np.array([sigmas * np.sqrt(2 * variance / len(part)) for part in parts])
    last = [int(at[-1]) for at in np.array_split(step, n)]
    return _Stretches(last, np.array([part.mean() for part in parts]), noise)
