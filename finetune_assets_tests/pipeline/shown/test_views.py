"""Tables and pictures as a person sees them."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.evaluation.calibration import choice
from finetune_assets.pipeline.shown import views
from finetune_assets.task.answers import Answer, BinaryAnswer, NumberAnswer, TextAnswer
from finetune_assets_tests.evaluation import predictions as built
from finetune_assets_tests.evaluation.calibration.test_platt import oversure

ANSWER = BinaryAnswer(kind="binary", positive="Yes", negative="No")


def test_a_table_is_markdown_with_empty_cells_for_what_is_missing() -> None:
    shown = views.table(pd.DataFrame({"name": ["a|b", None], "p": [0.123456, float("nan")]}))
    assert shown.value == "| name | p |\n| --- | --- |\n| a\\|b | 0.1235 |\n|  |  |"


@pytest.mark.parametrize(
    "text", ["![x](http://evil/x.png)", "<img src='http://evil/x.png'>", "![x][y]", "a](http://e) b"]
)
def test_what_a_text_from_outside_names_is_loaded_by_nobody(text: str) -> None:
    shown = views.table(pd.DataFrame({"text": [text]})).value or ""
    assert not re.search(r"!\[|(?<!\\)\]\(|<", shown)


_PIECES = (
    "![", "](", "http://evil/x.png", ")", "[a]", "]:", "[", "]", "!", "(", " ", "\\", "\r", "\n", "<", "`",
    "<img src=x>", "|", "&#91;", "&lt;", "\n\n", "[a]: http://evil",
)  # fmt: skip


@settings(max_examples=300)
@given(text=st.lists(st.sampled_from(_PIECES), max_size=12).map("".join))
def test_no_text_from_outside_becomes_an_image_a_link_or_html(text: str) -> None:
    reader = MarkdownIt("commonmark").enable("table")
    for shown in (f"**user**: {views.harmless(text)}\n\n[a]", views.table(pd.DataFrame({"a": [text]})).value or ""):
        inline = [inner for token in reader.parse(shown) for inner in (token, *(token.children or ()))]
        assert {"image", "link_open", "html_inline", "html_block"}.isdisjoint(token.type for token in inline), shown


def test_a_long_table_says_how_long_it_is() -> None:
    shown = views.table(pd.DataFrame({"n": range(2000)}), rows=2)
    assert shown.value is not None and shown.value.endswith("| 1 |\n\nThe first 2 of 2,000 rows.")


def test_a_word_too_long_for_its_column_keeps_its_ends() -> None:
    shown = views.table(pd.DataFrame({"sha256": ["a" * 32 + "b" * 32], "path": ["/data/cells/one.png"]}))
    assert shown.value is not None and shown.value.endswith(f"| {'a' * 16}…{'b' * 16} | /data/cells/one.png |")


def test_how_the_provider_trained_is_said_in_words() -> None:
    assert views.settings({"n_epochs": 2, "batch_size": 8, "beta": None}) == "n_epochs 2, batch_size 8"


@pytest.mark.parametrize(
    ("answer", "table", "name"),
    [
        (ANSWER, built.predictions(), "confusion_matrix"),
        (NumberAnswer(kind="number", template="${}"), built.numbers(), "truth_against_guess"),
        (TextAnswer(kind="text"), built.texts(), "metric_intervals"),
    ],
)
def test_a_benchmark_is_shown_as_suits_the_kind_of_answer(answer: Answer, table: pd.DataFrame, name: str) -> None:
    report = compare(table, answer)
    chart, png = views.answers_chart(report, table, answer)
    assert (chart, png[:4]) == (name, b"\x89PNG")
    shown = views.metrics(report).value or ""
    assert all(row.label in shown for row in report.comparisons.values())
    decisive = report.decisive
    assert f"| {100 * decisive.base.estimate:.1f} | {100 * decisive.fine_tuned.estimate:.1f} | +" in shown
    assert views.benchmark_numbers(report)[f"fine_tuned_{report.primary}"] == report.decisive.fine_tuned.estimate


def test_worst_texts_are_shown_from_their_beginning() -> None:
    table = built.texts().assign(image=None, question="long " * 100)
    shown = views.worst_examples(compare(table, TextAnswer(kind="text"))).value or ""
    assert "long long …" in shown and "p_truth" not in shown and "I do not know" in shown


def test_subgroups_are_a_table_where_there_are_any() -> None:
    frame = built.predictions()
    assert views.subgroups(compare(frame)) == {}
    camera = np.where(frame["example_id"] < "cell0040", "old", "new")
    shown = views.subgroups(compare(frame.assign(subgroup=camera)))["subgroups"].value or ""
    assert "| subgroup | examples | base | fine-tuned | difference | p (Holm) |" in shown
    assert "| new | 80 |" in shown and "| old | 40 |" in shown


def test_a_calibrator_says_what_it_was_chosen_by() -> None:
    p, y = oversure(1, 400)
    few, many = (choice.choose(p[:n], y[:n], model="ft:a") for n in (40, 400))
    assert views.calibration_method(few) == "platt"
    assert re.fullmatch(
        r"\w+; log loss on held-out folds of the calibration split: platt 0\.\d{4}, temperature 0\.\d{4}, "
        r"beta 0\.\d{4}, isotonic 0\.\d{4}",
        views.calibration_method(many),
    )
