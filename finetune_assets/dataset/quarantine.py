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
    """No image, or damaged."""
    IMAGE_TRUNCATED = "image_truncated"
    """Its end is missing, as after a copy that broke off."""
    IMAGE_TOO_LARGE = "image_too_large"
    """More bytes or pixels than anyone needs for a question."""
    IMAGE_ANIMATED = "image_animated"
    IMAGE_TOO_SMALL = "image_too_small"
    """One pixel wide or high."""
    IMAGE_WRONG_MODE = "image_wrong_mode"
    """Nobody knows its colours in RGB, as those of CMYK without a profile."""
    IMAGE_BLANK = "image_blank"
    """All its pixels are of one grey, as those of an empty page."""
    IMAGE_FEW_GREYS = "image_few_greys"
    """It has more than 8 bits, and no range shows it with the greys it has: the task has to name one."""
    IMAGE_NOT_FINITE = "image_not_finite"
    """Its pixels are numbers such as NaN."""
    IMAGE_UNREACHABLE = "image_unreachable"
    """Where it is said to be, nothing could be fetched."""
    IMAGE_OUTSIDE = "image_outside"
    """Its path leads out of the table's folder and of those that the task names."""
    MALFORMED_LINE = "malformed_line"
    """The source's line is no record at all, so it is reported in every region."""
    MISSING_FIELD = "missing_field"
    EMPTY_ANSWER = "empty_answer"
    UNPARSEABLE_ANSWER = "unparseable_answer"
    """Not one of the task's words, or no number."""
    SCORE_OUT_OF_RANGE = "score_out_of_range"
    """A score outside 0 to 1, or a number outside the task's minimum and maximum."""
    OUTLIER = "outlier"
    """A number far outside the region's own."""
    OTHER_LANGUAGE = "other_language"
    PERSONAL_DATA = "personal_data"
    """An e-mail address, or a telephone, card or account number."""
    LABEL_ERROR = "label_error"
    """Examples like it have another answer; only training examples are set aside for it."""
    DUPLICATE = "duplicate"
    """Same image, question and answer as an earlier example, which stays."""
    CONTRADICTORY_ANSWERS = "contradictory_answers"
    """Same image and question with different answers; none of them stays, unless a reviewer decided which is true."""
    SPLITS_MEET = "splits_meet"
    """New, and belongs to examples that are in several splits already: in any of them it would leak."""
    REJECTED_BY_REVIEWER = "rejected_by_reviewer"
    """A reviewer finds that nobody should learn from it, or be judged by it."""


Verdict = tuple[Reason, str]
"""Why an example is set aside, and the detail that shows it."""

DTYPES = {
    "example_id": "str",
    "region": "str",
    "split": "str",
    "reason": "str",
    "detail": "str",
    "system": "str",
    "question": "str",
    "answer": "str",
    "score": "float64",
    "image": "str",
    "image_original": "str",
    "image_sha256": "str",
    "pictures": "str",
    "source": "str",
    "line": "Int64",
}
"""Columns of a quarantine table and their pandas types."""


def quarantined(rows: pd.DataFrame, verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Turn sampled rows into quarantine rows, given the verdict on each."""
    table = rows.assign(reason=[str(reason) for reason, _ in verdicts], detail=[detail for _, detail in verdicts])
    return table.reindex(columns=list(DTYPES)).astype(DTYPES).reset_index(drop=True)
