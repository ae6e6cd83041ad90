"""The interval of a difference of two shares that come from the same examples."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from finetune_assets.evaluation.statistics import Interval, paired_bootstrap


def paired_share_interval(correct_a: ArrayLike, correct_b: ArrayLike, groups: ArrayLike) -> Interval:
    """Return how much more often b than a [n] is right, with Tango's interval, or the bootstrap's by group [n].

    The bootstrap finds no spread where hardly any example tells the models apart, and its interval is then too short:
    of two models that differ in 5 % of cases, 100 examples had it miss the truth in 9 % of benchmarks and not in 5.

    Raises:
        EvaluationError: lengths differ, or there are fewer than two groups.
    """
    members = np.asarray(groups)
    if len(np.unique(members)) < len(members):
        return paired_bootstrap(correct_a, correct_b, members)
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    return tango(int(np.sum(a & ~b)), int(np.sum(~a & b)), len(a))


def tango(only_a: int, only_b: int, n: int, level: float = 0.95) -> Interval:
    """Return (only_b - only_a) / n with Tango's score interval, for n independent examples.

    A difference is inside where the score test does not reject it; at a difference of 0 that is McNemar's test without
    continuity correction. It keeps its level where few examples tell the models apart, and none (Tango 1998,
    "Equivalence test and confidence interval for the difference in proportions for the paired-sample design").
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    estimate, quantile = (only_b - only_a) / n, float(ndtri((1 + level) / 2))

    def beyond(difference: float, sign: int) -> float:
        return sign * score(only_a, only_b, n, difference) - quantile

    low = -1.0 if estimate == -1 else brentq(beyond, -1, estimate, args=(1,))
    high = 1.0 if estimate == 1 else brentq(beyond, estimate, 1, args=(-1,))
    return Interval(estimate, float(low), float(high), level)  # type: ignore[arg-type]


def score(only_a: int, only_b: int, n: int, difference: float) -> float:
    """Return the score statistic of the hypothesis that b is right more often than a by `difference`, -1 to 1.

    Its variance is at the likeliest share of examples that only a gets right, given that hypothesis: the larger root
    of a quadratic.
    """
    linear = (2 * n - only_b + only_a) * difference - only_a - only_b
    root = np.sqrt(max(0.0, linear**2 + 8 * n * only_a * difference * (1 - difference)))
    variance = 2 * n * (root - linear) / (4 * n) + n * difference * (1 - difference)
    gap = only_b - only_a - n * difference
    return 0.0 if gap == 0 else float(gap / np.sqrt(max(variance, 1e-300)))
