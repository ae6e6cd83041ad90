"""What an arm answered, as it is put into a contest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from finetune_assets.evaluation import calibration
from finetune_assets.evaluation.calibration import Calibrator
from finetune_assets.evaluation.calibration.conformal import ConformalCalibrator
from finetune_assets.evaluation.prediction import Prediction
from finetune_assets.evaluation.statistics import FloatArray
from finetune_assets.task.answers import Answer, BinaryAnswer, NumberAnswer
from finetune_assets.task.costs import TokenPrices


@dataclass(frozen=True, slots=True)
class Entry:
    """One arm's answers."""

    name: str
    kind: str
    how: str
    """How it was asked, in words."""
    test: Sequence[Prediction]
    """In the order of the examples' ids."""
    calibration: Sequence[Prediction] = ()
    """Of the fine-tuned model, and of what a cascade hands over to; else none."""
    price: TokenPrices | None = None
    """Of its tokens; None where it is not known."""
    batch_share: float = 1
    """Share of it that answers from batches cost."""
    calibrator: Calibrator | None = None
    """Applied to its probabilities; None where they are the model's own."""
    prompt: str | None = None
    """The system prompt that was searched for; None where it is the task's."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An arm that was not asked, or did not answer."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Entrants:
    """Everyone in a contest."""

    entries: tuple[Entry, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def ordered(rows: Iterable[Prediction]) -> list[Prediction]:
    """Put answers into the order of their examples' ids."""
    return sorted(rows, key=lambda row: row.example_id)


def claimed(rows: Sequence[Prediction], answer: Answer, calibrator: Calibrator | None) -> FloatArray:
    """Return the probability that each answer claims for its event [n], NaN where it claims none.

    The event is the positive answer (binary answers), or that the answer is right; numbers claim nothing.
    """
    if isinstance(answer, NumberAnswer):
        return np.full(len(rows), np.nan)
    binary = isinstance(answer, BinaryAnswer)
    own = [row.p_positive if binary else row.p_predicted for row in rows]
    if calibrator is None or isinstance(calibrator, ConformalCalibrator):
        return np.array(own, dtype=float)
    found = [calibration.of_answer(calibrator, p, row.predicted, row.weighed) for p, row in zip(own, rows, strict=True)]
    return np.array(found, dtype=float)


def sure_of(rows: Sequence[Prediction], answer: Answer, calibrator: Calibrator | None) -> FloatArray:
    """Return how sure each answer is of its own word [n]; -1 where it cannot be read or claims nothing."""
    p = claimed(rows, answer, calibrator)
    if isinstance(answer, BinaryAnswer):
        says_no = np.array([row.predicted == answer.negative for row in rows], dtype=bool)
        p = np.where(says_no, 1 - p, p)
    unread = np.array([row.predicted is None for row in rows], dtype=bool)
    return np.where(np.isnan(p) | unread, -1.0, p)
