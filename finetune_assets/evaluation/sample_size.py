"""How many test examples it takes to show a difference: what is asked next where a benchmark is inconclusive."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from finetune_assets.evaluation.statistics import FEW_GROUPS, SIGNIFICANCE

POWER = 0.8
"""Share of benchmarks of that many examples which would show the difference."""


def needed_examples(scores_a: ArrayLike, scores_b: ArrayLike, groups: ArrayLike) -> int | None:
    """Return how many examples like these show a difference as large as theirs, in `POWER` of all cases, if it is real.

    `scores_a`, `scores_b` [n] are the scores of the two models on the same examples, in groups [n]. With d the mean of
    the paired differences and v their mean square,

        n = ((z_0.975 * sqrt(v) + z_0.8 * sqrt(v - d^2)) / d)^2.

    Where answers are right or wrong, v is the share of examples that only one model gets right, and this is Connor's
    size for McNemar's test (1987, "Sample size for testing differences in proportions for the paired-sample design").
    Where examples share groups, squares of groups' sums stand for v, and more examples are taken to come in more such
    groups. Rounded up to two digits; None where the means are equal.
    """
    from scipy.special import ndtri

    differences = np.asarray(scores_b, dtype=float) - np.asarray(scores_a, dtype=float)
    mean, n = differences.mean(), len(differences)
    if mean == 0:
        return None
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    square = (np.bincount(member, weights=differences) ** 2).sum() / n
    explained = mean**2 * (np.bincount(member) ** 2).sum() / n
    spread = math.sqrt(max(0.0, square - explained))
    effort = -ndtri(SIGNIFICANCE / 2) * math.sqrt(square) + ndtri(POWER) * spread
    return _rounded_up(max((effort / mean) ** 2, FEW_GROUPS * n / len(names)))


def examples_to_show(gain: float) -> tuple[int, int]:
    """Return how few and how many independent examples may be needed to show a gain in `POWER` of all cases.

    Few where the better model makes no new mistakes; many where, beside the gain, the models differ in another 20 of
    100 answers. Which of both it is shows only when they have answered.
    """
    return _connor(gain, gain), _connor(gain, gain + 0.2)


def _connor(gain: float, discordant: float) -> int:
    from scipy.special import ndtri

    effort = -ndtri(SIGNIFICANCE / 2) * math.sqrt(discordant)
    effort += ndtri(POWER) * math.sqrt(max(0.0, discordant - gain**2))
    return _rounded_up(max((effort / gain) ** 2, FEW_GROUPS))


def _rounded_up(n: float) -> int:
    step = 10 ** max(0, math.floor(math.log10(n)) - 1)
    return math.ceil(n / step) * step
