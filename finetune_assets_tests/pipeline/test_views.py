"""Tables and pictures as a person sees them."""

from __future__ import annotations

import pandas as pd

from finetune_assets.pipeline import views
from finetune_assets.provider.fine_tuning import LOSS_COLUMNS
from finetune_assets.task import BinaryAnswer

ANSWER = BinaryAnswer(kind="binary", positive="Yes", negative="No")


def test_a_table_is_markdown_with_empty_cells_for_what_is_missing() -> None:
    shown = views.table(pd.DataFrame({"name": ["a|b", None], "p": [0.123456, float("nan")]}))
    assert shown.value == "| name | p |\n| --- | --- |\n| a\\|b | 0.1235 |\n|  |  |"


def test_a_long_table_says_how_long_it_is() -> None:
    shown = views.table(pd.DataFrame({"n": range(2000)}), rows=2)
    assert shown.value is not None and shown.value.endswith("| 1 |\n\nThe first 2 of 2,000 rows.")


def test_counts_have_every_split_and_answer_even_of_nothing() -> None:
    examples = pd.DataFrame({"split": ["train", "train", None], "answer": ["Yes", "Yes", "No"]})
    counted = views.counts(examples, ANSWER)
    assert counted.index.tolist() == ["train", "validation", "calibration", "test"]
    assert counted.to_dict("list") == {"Yes": [2, 0, 0, 0], "No": [0, 0, 0, 0]}


def test_without_losses_there_is_a_sentence_and_no_picture() -> None:
    shown = views.losses(pd.DataFrame(columns=list(LOSS_COLUMNS), dtype=float))
    assert shown.value == "The provider reported no losses."
