"""Proper scores of probabilities, and the gap between what they claim and what happens.

Arrays are p [n], the probability of the positive answer, and y [n], whether the positive answer is true.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.shares import design_effect
from finetune_assets.evaluation.statistics import FloatArray, Interval

MAX_BINS = 10
MIN_PER_BIN = 10
N_DRAWS = 10_000
CLIP = 1e-6
"""Probabilities are kept this far from 0 and 1 before a logarithm: a certain mistake costs 13.8 nats, not infinity."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Examples of similar probability: their number, mean probability, and how many of them were positive."""

    n: int
    mean_probability: float
    n_positive: int

    @property
    def share_positive(self) -> float:
        """Share of positive answers: equal to `mean_probability`, up to chance, where p means what it says."""
        return self.n_positive / self.n


def checked(p: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return p and y [n] as floats, or raise an error that counts what is wrong with them.

    Raises:
        EvaluationError: nothing to score, a probability missing or outside 0..1, a label that is not 0 or 1, or
            lengths that differ.
    """
    probabilities, labels = checked_probabilities(p), np.asarray(y, dtype=float)
    if probabilities.shape != labels.shape:
        raise EvaluationError(f"every probability needs one label, got {probabilities.shape} and {labels.shape}")
    if foreign := int(np.sum((labels != 0) & (labels != 1))):
        raise EvaluationError(f"labels must be 0 or 1, {foreign} of {len(labels)} are not")
    return probabilities, labels


def checked_probabilities(p: ArrayLike) -> FloatArray:
    """Return p [n] as floats.

    Raises:
        EvaluationError: none given, or a probability missing or outside 0..1.
    """
    probabilities = np.asarray(p, dtype=float)
    if probabilities.ndim != 1 or len(probabilities) == 0:
        raise EvaluationError(f"expected a list of at least 1 probability, got shape {probabilities.shape}")
    if missing := int(np.isnan(probabilities).sum()):
        raise EvaluationError(
            f"{missing} of {len(probabilities)} probabilities are missing: leave out answers without log-probabilities"
        )
    if outside := int(np.sum((probabilities < 0) | (probabilities > 1))):
        raise EvaluationError(f"probabilities must lie between 0 and 1, {outside} of {len(probabilities)} do not")
    return probabilities


def brier_score(p: ArrayLike, y: ArrayLike) -> float:
    """Return the mean of (p - y)^2, 0 to 1 (Brier 1950); 0 is perfect, 0.25 is what always saying 0.5 gets."""
    return float(squared_errors(*checked(p, y)).mean())


def log_loss(p: ArrayLike, y: ArrayLike) -> float:
    """Return the mean of -log of the probability given to the truth, in nats; p is kept `CLIP` away from 0 and 1."""
    return float(log_losses(*checked(p, y)).mean())


def squared_errors(p: FloatArray, y: FloatArray) -> FloatArray:
    """Return the Brier score of each example [n]."""
    return (p - y) ** 2


def log_losses(p: FloatArray, y: FloatArray) -> FloatArray:
    """Return the log loss of each example [n], in nats."""
    clipped = clip(p)
    return -np.where(y == 1, np.log(clipped), np.log1p(-clipped))


def clip(p: FloatArray) -> FloatArray:
    """Return p [n], at least `CLIP` away from 0 and 1."""
    return np.clip(p, CLIP, 1 - CLIP)


def calibration_error(p: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None, seed: int = 0) -> Interval:
    """Estimate the expected calibration error (root mean square, equal-mass bins), debiased, with its interval.

    The debiased estimator of Kumar, Liang and Ma (NeurIPS 2019, "Verified Uncertainty Calibration"): where bin b has
    n_b examples, mean probability c_b and share of positives a_b,

        ece^2 = sum_b n_b / n * ((a_b - c_b)^2 - a_b (1 - a_b) / (n_b - 1)),   taken as 0 where negative.

    The last term removes what chance alone adds to the first: without it a perfect forecast of 160 examples looks 9
    points off. The interval holds each error s at which that first term, T, would come out neither larger nor smaller
    than it did in 2.5 % of cases: with gaps s * u_b in proportion to those found and chance e_b added to each,

        T(s) = sum_b n_b / n * (s u_b + e_b)^2,   sum_b n_b / n * u_b^2 = 1.

    At most 10 bins, of about 10 examples or more each. Where examples share groups [n], chance is as much larger as the
    `design_effect` of y - p.

    Raises:
        EvaluationError: what `checked` raises.
    """
    probabilities, labels = checked(p, y)
    bins = _equal_mass_bins(probabilities)
    n = np.bincount(bins).astype(float)
    claimed, happened = (np.bincount(bins, weights=values) / n for values in (probabilities, labels))
    share, gap = n / n.sum(), happened - claimed
    chance = happened * (1 - happened) / np.maximum(n - 1, 1)
    estimate = float(np.sqrt(max(0.0, share @ (gap**2 - chance))))
    effect = 1.0 if groups is None else design_effect(labels - probabilities, groups)[0]
    found = _possible_errors(share, gap, np.sqrt(effect * _variance(n, claimed, happened)), seed)
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))


def _variance(n: FloatArray, claimed: FloatArray, happened: FloatArray) -> FloatArray:
    """Return the variance of the share of positives in each bin, as if two more had come as claimed: never 0."""
    likely = (n * happened + 2 * claimed) / (n + 2)
    return likely * (1 - likely) / n


def _possible_errors(share: FloatArray, gap: FloatArray, error: FloatArray, seed: int) -> FloatArray:
    """Return, for each draw of chance in the bins, the error s whose T(s) is what was found; 0 where none is."""
    found = share @ gap**2
    towards = gap / np.sqrt(found) if found > 0 else np.zeros_like(gap)
    drawn = error * np.random.default_rng(seed).standard_normal((N_DRAWS, len(gap)))
    # T(s) = s^2 + 2 s * along + around
    along, around = drawn @ (share * towards), drawn**2 @ share
    root = along**2 + found - around
    return np.where(root < 0, 0.0, np.maximum(0.0, np.sqrt(np.maximum(root, 0.0)) - along))


def reliability_bins(p: ArrayLike, y: ArrayLike) -> list[ReliabilityBin]:
    """Return the bins that `calibration_error` uses, in rising order of probability.

    Raises:
        EvaluationError: what `checked` raises.
    """
    probabilities, labels = checked(p, y)
    bins = _equal_mass_bins(probabilities)
    return [
        ReliabilityBin(int(inside.sum()), float(probabilities[inside].mean()), int(labels[inside].sum()))
        for inside in (bins == b for b in np.unique(bins))
    ]


def _equal_mass_bins(p: FloatArray) -> NDArray[np.intp]:
    """Bin of each example [n], numbered from 0 without gaps. Equal probabilities share a bin, whatever their order."""
    n_bins = min(MAX_BINS, max(1, len(p) // MIN_PER_BIN))
    edges = np.unique(np.quantile(p, np.arange(1, n_bins) / n_bins))
    return np.unique(np.searchsorted(edges, p, side="right"), return_inverse=True)[1]
