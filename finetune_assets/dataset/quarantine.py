"""What is set aside instead of being trained on, and why. Nothing is dropped silently."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import pandas as pd


class Reason(StrEnum):
    """Why an example is in quarantine."""

    DOUBTFUL_LABEL = "doubtful_label"
    """The experts themselves were unsure; a reviewer decides."""
    IMAGE_MISSING = "image_missing"
    IMAGE_UNREADABLE = "image_unreadable"
    IMAGE_TOO_LARGE = "image_too_large"
    MALFORMED_LINE = "malformed_line"
    """The source's line is no record at all, so it is reported in every region."""
    MISSING_FIELD = "missing_field"
    UNPARSEABLE_ANSWER = "unparseable_answer"
    SCORE_OUT_OF_RANGE = "score_out_of_range"
    DUPLICATE = "duplicate"
    """Same image, question and answer as an earlier example, which stays."""
    CONTRADICTORY_ANSWERS = "contradictory_answers"
    """Same image and question with different answers; none of them stays."""


Verdict = tuple[Reason, str]
"""Why an example is set aside, and the detail that shows it."""

DTYPES = {
    "example_id": "str",
    "region": "str",
    "split": "str",
    "reason": "str",
    "detail": "str",
    "question": "str",
    "answer": "str",
    "score": "float64",
    "image": "str",
    "source": "str",
    "line": "Int64",
}
"""Columns of a quarantine table and their pandas types."""


def quarantined(rows: pd.DataFrame, verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Turn sampled rows into quarantine rows, given the verdict on each."""
    table = rows.assign(reason=[str(reason) for reason, _ in verdicts], detail=[detail for _, detail in verdicts])
    return table.reindex(columns=list(DTYPES)).astype(DTYPES).reset_index(drop=True)
