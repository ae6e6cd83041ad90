"""One model's answer to one example, as a row of the predictions table."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from finetune_assets.errors import EvaluationError

if TYPE_CHECKING:
    import pandas as pd

Role = Literal["base", "fine_tuned", "champion", "best"]
"""The champion is the model that a region uses until now; the best one so far may be an earlier champion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The fields are the columns of the predictions table, null where None."""

    example_id: str
    split: str
    role: str
    """`base`, `fine_tuned`, `champion` or `best`; in a contest the name of the arm."""
    model: str
    truth: str
    truth_value: float | None = None
    """The true number (number answers)."""
    text: str | None
    """What the model wrote."""
    predicted: str | None
    """The answer in it, in the task's words; None where it cannot be read."""
    predicted_value: float | None = None
    """The number in it (number answers)."""
    p_positive: float | None = None
    """Probability of the positive answer (binary answers); like all probabilities, None without log-probabilities."""
    p_predicted: float | None = None
    """Probability of the answer given: among the task's words, or for a text the geometric mean of its tokens'."""
    p_truth: float | None = None
    """Probability of the true answer (binary and choice answers)."""
    group: str
    subgroup: str | None = None
    """What the benchmark is also reported by."""
    image: str | None = None
    """The image in question."""
    pictures: str | None = None
    """All images, where there are several (`dataset.shown`)."""
    question: str
    latency_s: float | None = None
    """Seconds until the answer came; None of answers from a batch."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    truncated: bool = False
    """Whether the model was cut off before it had ended."""
    error: str | None = None
    """Why the request failed, None where it did not."""
    doubtful: bool = False
    """Whether the experts themselves doubted the true answer."""
    source_truth: str | None = None
    """What the source says the true answer is, whatever reviewers said since; None where nobody knows."""
    source_value: float | None = None
    """The number that the source says (number answers)."""
    reviewed_in: str | None = None
    """The queue through which reviewers decided blind; None where nobody did."""
    probabilities: str | None = None
    """The model's own probability of each option, in the task's order, as JSON (choice and score answers)."""

    @property
    def weighed(self) -> list[float] | None:
        """Probability of each of the task's words, in its order; None where they are not known."""
        return None if self.probabilities is None else list(json.loads(self.probabilities).values())


ADDED = ("pictures", "doubtful", "source_truth", "source_value", "reviewed_in", "probabilities")
"""Columns that predictions of earlier versions lack; they have what is usual."""


def read_predictions(table: pd.DataFrame, split: str, role: str | None = None) -> list[Prediction]:
    """Read the rows of one split, of one role or of all.

    Raises:
        EvaluationError: columns missing.
    """
    names = [field.name for field in fields(Prediction) if field.name in table or field.name not in ADDED]
    if missing := [name for name in names if name not in table]:
        raise EvaluationError(f"the predictions lack the columns {missing}")
    rows = table.loc[(table["split"] == split) & ((table["role"] == role) if role else True), names]
    # None instead of each of the ways in which pandas writes a missing value
    present = rows.astype(object).where(rows.notna(), None)
    return [Prediction(**dict(zip(names, row, strict=True))) for row in present.itertuples(index=False, name=None)]
