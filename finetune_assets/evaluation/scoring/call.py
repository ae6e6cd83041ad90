"""Metrics of calls: by name and arguments. A call that cannot be read is wrong in every one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune_assets.dataset.answer_reading import parts_of, read_call
from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.prediction import Prediction
from finetune_assets.evaluation.scoring.metric import Metric, Scoring, mean_of, share_of
from finetune_assets.evaluation.statistics import FloatArray
from finetune_assets.task.answers import CallAnswer


@dataclass(frozen=True, slots=True)
class CallAnswers:
    """The score of each of n calls, each array [n], 0 to 1."""

    right: FloatArray
    """1 where name and all arguments are the true ones, else 0."""
    named: FloatArray
    """1 where the name is, else 0."""
    arguments: FloatArray
    """Share of the arguments, true and given ones together, that are the same; 0 where the name is another."""


METRICS: Mapping[str, Metric[CallAnswers]] = {
    "exact_call": share_of("Exact calls", lambda answers: answers.right),
    "right_arguments": mean_of("Right arguments", lambda answers: answers.arguments),
    "right_name": share_of("Right functions", lambda answers: answers.named),
}


class CallScoring(Scoring[CallAnswers]):
    """Judges calls by whether function and arguments are the true ones; numbers are compared by value."""

    metrics = METRICS
    second = "right_arguments"

    def __init__(self, answer: CallAnswer) -> None:
        self._answer = answer

    def score(self, rows: Sequence[Prediction]) -> CallAnswers:
        """Compare names, and arguments one by one.

        Raises:
            EvaluationError: no rows, or a true answer that is no call.
        """
        if not rows:
            raise EvaluationError("there must be at least 1 answer to score, got 0")
        compared = np.array([self._compared(row) for row in rows], dtype=float)
        named, arguments = compared.T
        return CallAnswers(right=(arguments == 1).astype(float), named=named, arguments=arguments)

    def badness(self, row: Prediction) -> float:
        """Return how sure the model was of a wrong call; those without log-probabilities come last."""
        return -1 if row.p_predicted is None else row.p_predicted

    def _compared(self, row: Prediction) -> tuple[float, float]:
        """Whether the name is right, and the share of the arguments that are."""
        true, given = (None if said is None else read_call(said, self._answer) for said in (row.truth, row.predicted))
        if true is None:
            raise EvaluationError(f"true answers must be calls, found {row.truth[:80]!r}")
        if given is None:
            return 0.0, 0.0
        (name, wanted), (called, found) = parts_of(true), parts_of(given)
        return (1.0, share_of_arguments(wanted, found)) if name == called else (0.0, 0.0)


def share_of_arguments(true: Mapping[str, Any], given: Mapping[str, Any]) -> float:
    """Return the share of all arguments, true and given, that both have with one value; 1 where neither has any."""
    every = true.keys() | given.keys()
    same = sum(name in true and name in given and _same(true[name], given[name]) for name in every)
    return same / len(every) if every else 1.0


def _same(true: Any, given: Any) -> bool:
    """Whether two values of JSON are one: 1 is 1.0, and true is not 1."""
    if isinstance(true, dict) and isinstance(given, dict):
        return true.keys() == given.keys() and all(_same(true[key], given[key]) for key in true)
    if isinstance(true, list) and isinstance(given, list):
        return len(true) == len(given) and all(map(_same, true, given))
    return isinstance(true, bool) == isinstance(given, bool) and true == given
