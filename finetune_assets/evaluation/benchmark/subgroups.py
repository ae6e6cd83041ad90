"""Where a gain comes from: the deciding metric apart for each value that the source tells examples apart by.

Every subgroup is one more chance to find something by chance, so their p-values are adjusted for how many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finetune_assets.evaluation.prediction import Prediction
from finetune_assets.evaluation.shares import accuracy_interval, paired_share_interval
from finetune_assets.evaluation.statistics import (
    FloatArray,
    Interval,
    Outcome,
    holm,
    outcome,
    paired_p_value,
)


@dataclass(frozen=True, slots=True)
class Subgroup:
    """The test examples of one value of the source's subgroup column; shares of right answers with their intervals."""

    name: str
    n: int
    base: Interval
    fine_tuned: Interval
    difference: Interval
    p_value: float
    """Of the paired test, adjusted for the number of subgroups (Holm)."""
    outcome: Outcome


def by_subgroup(rows: Sequence[Prediction], base_right: FloatArray, tuned_right: FloatArray) -> tuple[Subgroup, ...]:
    """Judge each subgroup of the examples by itself, the largest first.

    `base_right`, `tuned_right` [n] are whether the models' answers to `rows` are right. Subgroups of one group of
    examples say nothing of others and are left out; so is a subgroup that all examples share.
    """
    return _apart([row.subgroup or "" for row in rows], rows, base_right, tuned_right)


def by_doubt(rows: Sequence[Prediction], base_right: FloatArray, tuned_right: FloatArray) -> tuple[Subgroup, ...]:
    """Judge the examples with a clear label apart from those whose label the experts doubted."""
    return _apart(["doubtful" if row.doubtful else "clear" for row in rows], rows, base_right, tuned_right)


def _apart(
    named: Sequence[str], rows: Sequence[Prediction], base_right: FloatArray, tuned_right: FloatArray
) -> tuple[Subgroup, ...]:
    names = np.array(named, dtype=object)
    groups = np.array([row.group for row in rows], dtype=object)
    found = {str(name): np.flatnonzero(names == name) for name in np.unique(names) if name}
    judged = {name: at for name, at in found.items() if len(at) < len(rows) and len(np.unique(groups[at])) > 1}
    p_values = [paired_p_value(base_right[at], tuned_right[at], groups[at]) for at in judged.values()]
    made = []
    for (name, at), p_value in zip(judged.items(), holm(p_values).tolist(), strict=True):
        before, after, members = base_right[at], tuned_right[at], groups[at]
        difference = paired_share_interval(before, after, members)
        made.append(
            Subgroup(
                name=name,
                n=len(at),
                base=accuracy_interval(before, members),
                fine_tuned=accuracy_interval(after, members),
                difference=difference,
                p_value=p_value,
                outcome=outcome(difference, p_value),
            )
        )
    return tuple(sorted(made, key=lambda subgroup: (-subgroup.n, subgroup.name)))
