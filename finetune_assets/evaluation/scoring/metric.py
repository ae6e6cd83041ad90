"""What a metric is.

Each works on many resamples at once, so that its estimate and its interval come from the same few lines: weights
[b x n] say how often each example was drawn, and all ones give the estimate itself. Where a metric is not defined (no
example of one class) its value is NaN.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.prediction import Prediction
from finetune_assets.evaluation.statistics import FloatArray


class Answers(Protocol):
    """What the metrics of one kind of answer need of n examples: a few arrays [n], and which are right."""

    @property
    def right(self) -> FloatArray:
        """1 where an answer is right by the kind's measure, else 0 [n]."""
        ...


Scored = TypeVar("Scored", bound=Answers)


@dataclass(frozen=True, slots=True)
class Metric(Generic[Scored]):
    """A figure of n answers, and how it is to be read."""

    label: str
    resampled: Callable[[Scored, FloatArray], FloatArray]
    """Answers and weights [b x n] to values [b]."""
    each: Callable[[Scored], FloatArray] | None = None
    """The score of each answer [n] where the metric is their mean: only then is there a paired test."""
    right_or_wrong: bool = False
    """Whether each score is 1 or 0."""
    higher_is_better: bool = True
    is_share: bool = True
    """Whether it is shown times 100; else it is in the answer's own unit."""
    lowest: float = 0
    """No value is less; of a share or correlation none is more than 1."""
    of_readable: bool = False
    """Whether unreadable answers have no place in it: only what both models gave readably is compared."""


def mean_of(label: str, each: Callable[[Scored], FloatArray], **read: Any) -> Metric[Scored]:
    """Return the metric that is the mean of each answer's score."""
    return Metric(label, lambda answers, weights: (weights @ each(answers)) / weights.sum(axis=1), each, **read)


def share_of(label: str, each: Callable[[Scored], FloatArray], **read: Any) -> Metric[Scored]:
    """Return the metric that is the share of answers whose score is 1 and not 0."""
    return mean_of(label, each, right_or_wrong=True, **read)


def ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Divide part by whole; NaN where whole is 0."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of answers: a row for each true answer, a column for each answer given and a last one for unparseable."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


def confusion(rows: Sequence[Prediction], labels: Sequence[str]) -> Confusion:
    """Count which answers were given to which true ones."""
    columns = (*labels, None)
    counts = np.zeros((len(labels), len(columns)), dtype=int)
    for row in rows:
        counts[labels.index(row.truth), columns.index(row.predicted)] += 1
    return Confusion(tuple(labels), tuple(map(tuple, counts.tolist())))


class Known(Protocol):
    """An example whose true answer is known."""

    @property
    def truth(self) -> str:
        """The true answer."""
        ...

    @property
    def truth_value(self) -> float | None:
        """The true number (number answers)."""
        ...


@dataclass(frozen=True, slots=True)
class Truth:
    """The true answer to an example that no model was asked."""

    truth: str
    truth_value: float | None = None


@dataclass(frozen=True, slots=True)
class Constant:
    """A trivial model: one answer to every question."""

    name: str
    """What it does, such as `always “No”`."""
    answer: str
    value: float | None = None


class Scoring(ABC, Generic[Scored]):
    """How answers of one kind are judged."""

    metrics: Mapping[str, Metric[Scored]]
    """By name; the first one decides."""
    second: str | None = None
    """Name of the metric that is put beside the first one in words, where one alone would hide something."""
    labels: tuple[str, ...] = ()
    """The words of a confusion matrix; none where there are too many answers for one."""

    def decide_by(self, name: str) -> None:
        """Put the metric that decides before the others."""
        self.metrics = {name: self.metrics[name]} | dict(self.metrics)

    @property
    def deciding(self) -> Metric[Scored]:
        """The metric that decides: a mean of scores, so that there is a paired test."""
        return next(iter(self.metrics.values()))

    def decisive(self, answers: Scored) -> FloatArray:
        """Return the score of each answer [n] whose mean is the deciding metric."""
        if self.deciding.each is None:
            raise EvaluationError(f"{self.deciding.label} cannot decide: it is no mean of each answer's score")
        return self.deciding.each(answers)

    @abstractmethod
    def score(self, rows: Sequence[Prediction]) -> Scored:
        """Reduce answers to what the metrics need.

        Raises:
            EvaluationError: no rows, or answers that are not the task's.
        """

    @abstractmethod
    def badness(self, row: Prediction) -> float:
        """Return how bad a wrong answer is, to show the worst ones; higher is worse."""

    def constants(self, known: Sequence[Known]) -> list[Constant]:
        """Return the trivial models that true answers suggest, the best one first: the most frequent answer.

        Of several that are as frequent it is the first by name.
        """
        answer = min(Counter(map(self._suggested, known)).items(), key=lambda item: (-item[1], item[0]))[0]
        shown = answer if len(answer) <= 40 else f"{answer[:39]}…"
        return [Constant(f"always “{shown}”", answer)]

    def bands(self, rows: Sequence[Prediction]) -> dict[str, int] | None:  # noqa: ARG002
        """Count answers by how good they are, best first; None where there is only right and wrong."""
        return None

    def _suggested(self, known: Known) -> str:
        """Return what a trivial model could always answer."""
        return known.truth
