"""An interval around each number a model answers that holds the truth as often as it says.

Split conformal prediction (Vovk et al. 2005; Lei et al. 2018, "Distribution-free predictive inference for regression"):
the interval reaches as far as the residuals of the calibration split do, whatever their distribution.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.calibration.fitted import Fitted
from finetune_assets.evaluation.shares import accuracy_interval
from finetune_assets.evaluation.statistics import (
    FloatArray,
    Interval,
    Outcome,
    in_words,
)
from finetune_assets.task.answers import NumberAnswer

LEVEL = 0.9
MIN_GROUPS_TO_CHOOSE = 30
"""From so many groups on, every third one chooses between the two kinds of residual; fewer are needed as they are."""

Residual = Literal["absolute", "relative"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConformalCalibrator(Fitted):
    """The interval is guess plus and minus `reach`, times the size of the guess where residuals are relative."""

    method: ClassVar[str] = "conformal"
    residual: Residual
    reach: float | None
    """None is without end: too few examples for the level."""
    level: float
    smallest: float
    """Guesses nearer to 0 count as so large where residuals are relative: one step of the answer's last decimal."""
    minimum: float | None
    maximum: float | None
    n_groups: int
    """Groups of the examples that `reach` was taken from; each counts once."""

    @classmethod
    def fit(
        cls, truth: ArrayLike, guess: ArrayLike, groups: ArrayLike | None = None, *, answer: NumberAnswer, model: str
    ) -> Self:
        """Fit on true numbers and guesses [n] of the calibration split, in groups [n], as answered by `model`.

        Residuals are relative where their absolute size grows with the guess more than their relative size falls, by
        rank correlation. That is decided on other examples than `reach` is taken from, so that the guarantee holds.

        Raises:
            EvaluationError: no examples, numbers missing, or lengths that differ.
        """
        y, x = _checked(truth, guess)
        members = np.arange(len(y)) if groups is None else np.asarray(groups)
        names, member = np.unique(members, return_inverse=True)
        step = 10.0**-answer.decimals
        choosing = np.zeros(len(y), dtype=bool)
        residual: Residual = "absolute"
        if len(names) >= MIN_GROUPS_TO_CHOOSE:
            # Which groups choose must not follow their names' order, which may be that of time or place.
            choosing = (np.random.default_rng(0).permutation(len(names)) % 3 == 0)[member]
            residual = _choose(y[choosing], x[choosing], step)
        size = _size(x, residual, step)
        n_groups = len(np.unique(member[~choosing]))
        reach = group_quantile((np.abs(y - x) / size)[~choosing], member[~choosing], LEVEL)
        return cls(
            kind="number",
            residual=residual,
            reach=reach if math.isfinite(reach) else None,
            level=LEVEL,
            smallest=step,
            minimum=answer.minimum,
            maximum=answer.maximum,
            model=model,
            fingerprint=hashlib.sha256(y.tobytes() + x.tobytes()).hexdigest(),
            n=len(y),
            n_groups=n_groups,
            warning=None if math.isfinite(reach) else _too_few(n_groups),
        )

    def intervals(self, guess: ArrayLike, *, model: str | None = None) -> tuple[FloatArray, FloatArray]:
        """Return the lower and the upper ends [n] around guesses [n], within the task's minimum and maximum.

        Raises:
            EvaluationError: guesses of another model.
        """
        self.require(model)
        x = np.asarray(guess, dtype=float)
        reach = math.inf if self.reach is None else self.reach
        half = reach * _size(x, self.residual, self.smallest)
        least = -math.inf if self.minimum is None else self.minimum
        most = math.inf if self.maximum is None else self.maximum
        return np.clip(x - half, least, most), np.clip(x + half, least, most)


@dataclass(frozen=True, slots=True)
class CoverageReport:
    """How many intervals of the test split hold the truth, against how many should."""

    n: int
    level: float
    coverage: Interval
    expected: Interval
    """The level, and the range that coverage lies in 95 % of the time by chance: both splits are finite."""
    median_width: float | None
    """Of the intervals; None where they have no end."""
    outcome: Outcome
    """Worse only where coverage is below that range."""
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def judge_coverage(
    calibrator: ConformalCalibrator,
    truth: ArrayLike,
    guess: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    model: str | None = None,
) -> CoverageReport:
    """Count on the test split how many intervals hold the truth; numbers [n] in groups [n].

    Raises:
        EvaluationError: no examples, numbers missing, lengths that differ, another model, or all of one group.
    """
    y, x = _checked(truth, guess)
    low, high = calibrator.intervals(x, model=model)
    inside = (low <= y) & (y <= high)
    n_groups = len(y) if groups is None else len(np.unique(np.asarray(groups)))
    coverage = accuracy_interval(inside, groups)
    expected = _expected(calibrator, n_groups)
    width = float(np.median(high - low))
    outcome: Outcome = "worse" if coverage.estimate < expected.low else "inconclusive"
    return CoverageReport(
        n=len(y),
        level=calibrator.level,
        coverage=coverage,
        expected=expected,
        median_width=width if math.isfinite(width) else None,
        outcome=outcome,
        verdict=_verdict(calibrator, coverage, expected, width),
    )


def _verdict(calibrator: ConformalCalibrator, coverage: Interval, expected: Interval, width: float) -> str:
    if calibrator.reach is None:
        return f"There are no {100 * calibrator.level:g} % intervals: {calibrator.warning}."
    held, low, high = (100 * part for part in (coverage.estimate, coverage.low, coverage.high))
    judged = "as they should" if expected.low <= coverage.estimate else "fewer than they should"
    return (
        f"{100 * calibrator.level:g} % intervals held {held:.1f} % of the true numbers (95 % interval {low:.1f} to "
        f"{high:.1f}), {judged}: {100 * expected.low:.1f} to {100 * expected.high:.1f} % come by chance with so few "
        f"examples. Their median width is {in_words(width)}."
    )


def _expected(calibrator: ConformalCalibrator, n_test: int) -> Interval:
    """Return the coverage to expect: of n test examples a beta-binomial number, as calibration has its own chance.

    With k the place of the quantile among m residuals, coverage is Beta(k, m + 1 - k) (Vovk 2012, "Conditional validity
    of inductive conformal predictors"). Groups count as one example each, which widens the range.
    """
    from scipy.stats import betabinom

    m = calibrator.n_groups
    place = math.ceil((m + 1) * calibrator.level - 1e-9)
    if place > m:
        return Interval(1.0, 1.0, 1.0)
    low, high = betabinom(n_test, place, m + 1 - place).ppf([0.025, 0.975]) / n_test
    return Interval(calibrator.level, float(low), float(high))


def group_quantile(residuals: FloatArray, member: np.ndarray, level: float) -> float:
    """Return the finite-sample quantile of residuals [n], each group having the weight of one example.

    The example to come has that weight too, at infinity (Lee, Barber and Willett 2023, "Distribution-free inference
    with hierarchical data"). Where every example is its own group it is the ceil((n + 1) * level)-th smallest residual.
    """
    sizes = np.bincount(member)
    weight = 1 / sizes[member] / (np.count_nonzero(sizes) + 1)
    order = np.argsort(residuals)
    reached = np.cumsum(weight[order]) >= level - 1e-9
    return float(residuals[order][reached][0]) if reached.any() else math.inf


def _choose(y: FloatArray, x: FloatArray, step: float) -> Residual:
    """Return the kind of residual whose size depends less on the guess."""
    from scipy.stats import spearmanr

    size = np.abs(x)
    if np.ptp(size) == 0:
        return "absolute"

    def dependence(residual: Residual) -> float:
        error = np.abs(y - x) / _size(x, residual, step)
        return 0.0 if np.ptp(error) == 0 else abs(float(spearmanr(error, size)[0]))  # pyright: ignore[reportArgumentType]

    return "relative" if dependence("relative") < dependence("absolute") else "absolute"


def _size(guess: FloatArray, residual: Residual, step: float) -> FloatArray:
    """Return what a residual is measured in [n]."""
    return np.maximum(np.abs(guess), step) if residual == "relative" else np.ones_like(guess)


def _too_few(n_groups: int) -> str:
    needed = math.ceil(LEVEL / (1 - LEVEL) - 1e-9)
    return f"{n_groups} examples of the calibration split are too few, {needed} are needed; the intervals have no end"


def _checked(truth: ArrayLike, guess: ArrayLike) -> tuple[FloatArray, FloatArray]:
    y, x = np.asarray(truth, dtype=float), np.asarray(guess, dtype=float)
    if y.ndim != 1 or y.shape != x.shape or len(y) == 0:
        raise EvaluationError(f"every guess needs one true number, got {x.shape} and {y.shape}")
    if missing := int(np.sum(~np.isfinite(y) | ~np.isfinite(x))):
        raise EvaluationError(f"{missing} of {len(y)} numbers are missing: leave out answers without a number")
    return y, x
