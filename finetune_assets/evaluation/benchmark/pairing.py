"""Two models' answers to the same test examples, side by side, and how much better one of them is.

A request that failed is an answer, and a wrong one: whoever uses a model that refuses gets nothing. Left out, a model
that refuses exactly what it would get wrong would look perfect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.prediction import Prediction, Role
from finetune_assets.evaluation.scoring import Scoring
from finetune_assets.evaluation.shares import paired_share_interval
from finetune_assets.evaluation.statistics import (
    Interval,
    Outcome,
    outcome,
    paired_bootstrap,
    paired_p_value,
    paired_permutation,
)


@dataclass(frozen=True, slots=True)
class Pairs:
    """The answers of two models, `before` and `after`, in the order of the examples' ids."""

    before: list[Prediction]
    after: list[Prediction]

    @classmethod
    def of(cls, rows: Sequence[Prediction], before: Role, after: Role) -> Self:
        """Put the answers of two roles side by side.

        Raises:
            EvaluationError: examples asked of one of them only or twice, truths that differ, or no examples.
        """
        asked = [row for row in rows if row.role in (before, after)]
        one, other = ({row.example_id: row for row in asked if row.role == role} for role in (before, after))
        if len(one) + len(other) < len(asked):
            raise EvaluationError(f"each test example must be asked once of each role, {before} and {after}")
        if alone := sorted(one.keys() ^ other.keys()):
            raise EvaluationError(f"{len(alone)} test examples were asked of one model only, such as {alone[0]!r}")
        if differ := [name for name in one if one[name].truth != other[name].truth]:
            raise EvaluationError(f"the true answer of {differ[0]!r} differs between the two models' rows")
        if not one:
            raise EvaluationError("a benchmark needs at least 1 test example, got 0: enlarge the test split")
        pairs = [_ranked_alike(one[name], other[name]) for name in sorted(one)]
        return cls([first for first, _ in pairs], [second for _, second in pairs])

    def __len__(self) -> int:
        return len(self.before)

    @property
    def groups(self) -> list[str]:
        """The group of each example."""
        return [row.group for row in self.before]

    @property
    def readable(self) -> Self:
        """Those that both models answered in words that can be read."""
        return self._where(lambda row: row.predicted is not None)

    @property
    def answered(self) -> Self:
        """Those for which neither model's request failed."""
        return self._where(lambda row: row.error is None)

    def _where(self, holds: Callable[[Prediction], bool]) -> Self:
        kept = [k for k in range(len(self)) if holds(self.before[k]) and holds(self.after[k])]
        return type(self)([self.before[k] for k in kept], [self.after[k] for k in kept])


def _ranked_alike(before: Prediction, after: Prediction) -> tuple[Prediction, Prediction]:
    """Models are ranked on the same examples: where one gave no probability, the other's does not count."""
    if None in (before.p_positive, after.p_positive):
        return replace(before, p_positive=None), replace(after, p_positive=None)
    return before, after


@dataclass(frozen=True, slots=True)
class Gain:
    """How much better one model is by the deciding metric."""

    n: int
    difference: Interval
    p_value: float
    outcome: Outcome


def gain(scoring: Scoring[Any], before: ArrayLike, after: ArrayLike, groups: ArrayLike) -> Gain:
    """Compare the scores `before` and `after` [n], whose means are the deciding metric, of examples in groups [n]."""
    one, other = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    n_groups = len(np.unique(np.asarray(groups)))
    if scoring.deciding.right_or_wrong:
        difference, p_value = paired_share_interval(one, other, groups), paired_p_value(one, other, groups)
    elif n_groups == 1:
        difference, p_value = Interval(float(np.mean(other - one)), -1.0, 1.0), 1.0
    else:
        difference, p_value = paired_bootstrap(one, other, groups), paired_permutation(one, other, groups)
    return Gain(len(one), difference, p_value, outcome(difference, p_value))
