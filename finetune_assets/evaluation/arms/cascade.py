"""The fine-tuned model first, what it is unsure of to somebody else: from which probability on it answers by itself.

That is chosen on the calibration split and nowhere else, so that the test judges a cascade as it judges every arm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finetune_assets.evaluation import deferral
from finetune_assets.evaluation.arms.entry import Entry, sure_of
from finetune_assets.evaluation.prediction import Prediction
from finetune_assets.evaluation.scoring import Scoring
from finetune_assets.evaluation.statistics import FloatArray
from finetune_assets.task.answers import Answer
from finetune_assets.task.judging import Defer

ALL_OWN = -2.0
"""Everything is this sure, what claims nothing included."""


@dataclass(frozen=True, slots=True)
class Cascade:
    """A cascade's answers to the test split, and who gave them."""

    entry: Entry
    least: float
    """How sure the model must be to answer by itself."""
    handed: np.ndarray
    """Whether an example was handed over [n]."""
    other: Entry | None
    """Who answers those; None is a person."""


def to_arm(name: str, own: Entry, other: Entry, scoring: Scoring[Any], answer: Answer) -> Cascade:
    """Hand over to another arm as many of the least sure answers as make the most of the calibration split right.

    Raises:
        EvaluationError: nothing to choose the threshold on.
    """
    mine_known, theirs_known = (scoring.decisive(scoring.score(one.calibration)) for one in (own, other))
    least = split_point(mine_known, theirs_known, sure_of(own.calibration, answer, own.calibrator))
    handed = sure_of(own.test, answer, own.calibrator) < least
    rows = [_after(mine, theirs) if over else mine
            for mine, theirs, over in zip(own.test, other.test, handed.tolist(), strict=True)]  # fmt: skip
    how = f"{own.how}; {int(handed.sum())} of {len(rows)} unsure answers by {other.name}"
    return Cascade(Entry(name, "cascade", how, rows), least, handed, other)


def to_person(name: str, own: Entry, asked: Defer, scoring: Scoring[Any], answer: Answer) -> Cascade:
    """Leave to a person what the calibration split does not show to be right often enough.

    Raises:
        EvaluationError: nothing to choose the threshold on.
    """
    right = scoring.score(own.calibration).right
    groups = np.array([row.group for row in own.calibration], dtype=object)
    least = deferral.choose(asked, sure_of(own.calibration, answer, own.calibrator), right, groups)
    handed = sure_of(own.test, answer, own.calibrator) < least
    rows = [row for row, over in zip(own.test, handed.tolist(), strict=True) if not over]
    how = f"{own.how}; a person answers {int(handed.sum())} of {len(handed)}"
    return Cascade(Entry(name, "cascade", how, rows, calibrator=own.calibrator), least, handed, None)


def split_point(own: FloatArray, other: FloatArray, sure: FloatArray) -> float:
    """Return how sure an answer must be to be kept, so that the mean score is highest when the others are handed over.

    `own`, `other` [n] are the scores of both, `sure` [n] how sure the first is. Of several as good the one that hands
    over the fewest.
    """
    order = np.argsort(sure, kind="stable")
    ranked = sure[order]
    gained = np.concatenate([[0.0], np.cumsum((other - own)[order])])
    # Answers that are equally sure go the same way.
    ends = np.flatnonzero(np.diff(ranked, append=np.inf) > 0) + 1
    places = np.concatenate([[0], ends])
    best = int(places[np.argmax(gained[places])])
    if best == 0:
        return ALL_OWN
    return float(ranked[best]) if best < len(ranked) else deferral.NEVER


def _after(first: Prediction, then: Prediction) -> Prediction:
    """An answer that was asked for after another: whoever waits has waited for both."""
    both = None if first.latency_s is None or then.latency_s is None else first.latency_s + then.latency_s
    return replace(then, latency_s=both)


def rows_of(entries: Sequence[Entry], name: str) -> Entry | None:
    """Find an arm by its name."""
    return next((entry for entry in entries if entry.name == name), None)
