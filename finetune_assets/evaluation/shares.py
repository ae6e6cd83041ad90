"""Intervals of shares of examples, and of differences of two shares that come from the same examples."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.statistics import Interval


def accuracy_interval(correct: ArrayLike, groups: ArrayLike | None = None, level: float = 0.95) -> Interval:
    """Return the share of correct answers [n] with Wilson's interval.

    Where examples share groups [n], they count as so many fewer as they tell less, and Student's t stands for the
    normal (Korn and Graubard 1998, "Confidence intervals for proportions with small expected number of positive
    counts"). Answers of one group alone say nothing of others: their interval is 0 to 1.

    Raises:
        EvaluationError: no answers.
    """
    answers = np.asarray(correct, dtype=bool)
    if len(answers) == 0:
        raise EvaluationError("accuracy needs at least 1 example, got 0")
    count, n = int(answers.sum()), len(answers)
    effect, n_groups = (1.0, n) if groups is None else design_effect(answers, groups)
    if n_groups == n:
        return wilson(count, n, level)
    if n_groups == 1:
        return Interval(count / n, 0.0, 1.0, level)
    return wilson(count / effect, n / effect, level, quantile=student_quantile(n_groups, level))


def wilson(count: float, n: float, level: float = 0.95, quantile: float | None = None) -> Interval:
    """Return a share of n independent examples with Wilson's score interval.

    `quantile` is how many standard errors it reaches; by default those of the normal for `level`.

    It keeps its level near 0 and 1 and at small n, where the textbook interval fails (Brown, Cai, DasGupta 2001).
    """
    from scipy.special import ndtr
    from statsmodels.stats.proportion import proportion_confint

    # A tail and not a level: at two groups Student's t is 12.7, and a level of 1 - 6e-37 would be 1.
    alpha = 1 - level if quantile is None else 2 * float(ndtr(-quantile))
    low, high = np.asarray(proportion_confint(count, n, alpha=alpha, method="wilson"), dtype=float).tolist()
    share = count / n
    # At 0 of n and n of n, rounding can leave the share a hair outside.
    return Interval(share, min(max(low, 0.0), share), max(min(high, 1.0), share), level)


def paired_share_interval(
    correct_a: ArrayLike, correct_b: ArrayLike, groups: ArrayLike, level: float = 0.95
) -> Interval:
    """Return how much more often b than a [n] is right, with Tango's interval.

    The bootstrap finds no spread where hardly any example tells the models apart, and its interval is then too short:
    where 3 answers in 1,000 differ, that of 120 examples held the truth in 47 % of benchmarks.

    Where examples share groups [n], they count as so many fewer as they tell less (Rao and Scott 1992, "A simple method
    for the analysis of clustered binary data"), and Student's t stands for the normal. One group alone says nothing of
    others: its interval is -1 to 1.

    Raises:
        EvaluationError: lengths differ, or there are no answers.
    """
    a, b = np.asarray(correct_a, dtype=float), np.asarray(correct_b, dtype=float)
    effect, n_groups = design_effect(b - a, groups)
    only_a, only_b = float(np.sum(a > b)), float(np.sum(b > a))
    if n_groups == 1:
        return Interval((only_b - only_a) / len(a), -1.0, 1.0, level)
    quantile = None if n_groups == len(a) else student_quantile(n_groups, level)
    return tango(only_a / effect, only_b / effect, len(a) / effect, level, quantile)


def tango(only_a: float, only_b: float, n: float, level: float = 0.95, quantile: float | None = None) -> Interval:
    """Return (only_b - only_a) / n with Tango's score interval, for n independent examples.

    `quantile` is how many standard errors it reaches; by default those of the normal for `level`.

    A difference is inside where the score test does not reject it; at a difference of 0 that is McNemar's test without
    continuity correction. It keeps its level where few examples tell the models apart, and none (Tango 1998,
    "Equivalence test and confidence interval for the difference in proportions for the paired-sample design").
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    estimate, reach = (only_b - only_a) / n, float(ndtri((1 + level) / 2)) if quantile is None else quantile

    def beyond(difference: float, sign: int) -> float:
        return sign * score(only_a, only_b, n, difference) - reach

    low = -1.0 if estimate <= -1 else brentq(beyond, -1, estimate, args=(1,))
    high = 1.0 if estimate >= 1 else brentq(beyond, estimate, 1, args=(-1,))
    return Interval(estimate, float(low), float(high), level)  # type: ignore[arg-type]


def score(only_a: float, only_b: float, n: float, difference: float) -> float:
    """Return the score statistic of the hypothesis that b is right more often than a by `difference`, -1 to 1.

    Its variance is at the likeliest share of examples that only a gets right, given that hypothesis: the larger root
    of a quadratic.
    """
    linear = (2 * n - only_b + only_a) * difference - only_a - only_b
    root = np.sqrt(max(0.0, linear**2 + 8 * n * only_a * difference * (1 - difference)))
    variance = 2 * n * (root - linear) / (4 * n) + n * difference * (1 - difference)
    gap = only_b - only_a - n * difference
    return 0.0 if gap == 0 else float(gap / np.sqrt(max(variance, 1e-300)))


def design_effect(scores: ArrayLike, groups: ArrayLike) -> tuple[float, int]:
    """Return how much larger the variance of the mean of scores [n] in groups [n] is than usual, and how many groups.

    The ratio of the variance by groups to that of independent scores (Kish 1965, "Survey sampling"), at least one over
    the mean size of a group; where all scores are equal, it is as if those of a group always were. Of one group nobody
    knows it: it is taken to be the number of scores.

    Raises:
        EvaluationError: lengths differ, or there are no scores.
    """
    each, members = np.asarray(scores, dtype=float), np.asarray(groups)
    if len(each) != len(members):
        raise EvaluationError(f"scores and groups must align, got {len(each)} and {len(members)}")
    names, member = np.unique(members, return_inverse=True)
    n, n_groups = len(each), len(names)
    if n == 0:
        raise EvaluationError("an interval needs at least 1 example, got 0: add test examples")
    if n_groups in (1, n):
        return n / n_groups, n_groups
    deviation = each - each.mean()
    usual = (deviation**2).sum() * n / (n - 1)
    if usual == 0:
        return float((np.bincount(member) ** 2).sum() / n), n_groups
    by_group = (np.bincount(member, weights=deviation) ** 2).sum() * n_groups / (n_groups - 1)
    return max(n_groups / n, float(by_group / usual)), n_groups


def student_quantile(n_groups: int, level: float) -> float:
    """Return Student's t of `level` for so many groups: how many standard errors an interval reaches."""
    from scipy.special import stdtrit

    return float(stdtrit(n_groups - 1, (1 + level) / 2))
