"""Labels of experts and reviewers, and answers as the task writes them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.dataset.answer_reading import (
    Label,
    NumberFormat,
    label,
    read_answer,
    read_number,
    render,
    wanted,
    why_no_label,
)
from finetune_assets.task.answers import BinaryAnswer, ChoiceAnswer, NumberAnswer, TextAnswer

BINARY = BinaryAnswer(kind="binary", positive="Yes", negative="No")
CHOICE = ChoiceAnswer(kind="choice", options=["No defect", "Crack", "Hot spot"])
PRICE = NumberAnswer(kind="number", template="Price is ${}")
TEXT = TextAnswer(kind="text")


def answer_of(found: object, answer: BinaryAnswer | ChoiceAnswer | TextAnswer) -> str | None:
    read = label(found, answer)
    return None if read is None else read.answer


@pytest.mark.parametrize("found", [1, 1.0, True, "1", "1.0", "yes", " YES ", "true", "TRUE", "Yes.", "y"])
def test_a_positive_answer_may_be_spelt_in_many_ways(found: object) -> None:
    assert answer_of(found, BINARY) == "Yes"


@pytest.mark.parametrize("found", ["perhaps", 2, "", None, "yes and no", [1]])
def test_what_is_neither_answer_is_none(found: object) -> None:
    assert answer_of(found, BINARY) is None


@pytest.mark.parametrize(
    ("found", "read"),
    [
        ("The cell is defective.", "defective"),
        ("The cell is not defective.", None),
        ("No sign that it is defective", None),
        ("intact or defective", None),
        ("no", "intact"),
    ],
)
def test_a_sentence_is_a_label_where_it_plainly_says_one_word(found: str, read: str | None) -> None:
    assert answer_of(found, BinaryAnswer(kind="binary", positive="defective", negative="intact")) == read


@pytest.mark.parametrize("found", ["3 for $10", "10-20", "free", None, "not $5", "over 5", True])
def test_a_label_that_is_not_one_number_for_certain_is_none(found: object) -> None:
    assert label(found, PRICE) is None


def test_a_number_may_stand_for_thousands() -> None:
    in_thousands = NumberAnswer(kind="number", template="Price is ${} thousand", decimals=1)
    assert label("$5.1 Thousand", in_thousands) == label("$5.1k", in_thousands) == label(5.1, in_thousands)
    assert label("$1.2 million", in_thousands) == Label("Price is $1200.0 thousand", 1200)
    assert label("$1.8k", PRICE) == Label("Price is $1800.00", 1800)
    assert label("12 usd", PRICE) == label("12 pieces", PRICE) == Label("Price is $12.00", 12)


AGE = NumberAnswer(kind="number", template="{} years", decimals=0)


@pytest.mark.parametrize(
    ("found", "answer"),
    [
        ("3 weeks", AGE),
        ("about 3 months old", AGE),
        ("3 Wochen", AGE),
        ("3 mo.", AGE),
        ("12 kg", PRICE),
        ("12 €", PRICE),
        ("EUR 12", PRICE),
        ("500 g", NumberAnswer(kind="number", template="It weighs {} kg")),
        ("5 km", NumberAnswer(kind="number", template="{} mi")),
    ],
)
@pytest.mark.parametrize("numbers", [None, NumberFormat(".")])
def test_a_number_of_another_unit_than_the_templates_is_no_answer(
    found: str, answer: NumberAnswer, numbers: NumberFormat | None
) -> None:
    assert label(found, answer, numbers) is None
    assert read_answer(found, answer) is None
    assert "another unit than the template" in (why_no_label(found, answer) or "")


@pytest.mark.parametrize(
    ("found", "answer", "value"),
    [
        ("3 years", AGE, 3),
        ("3 Jahre", AGE, 3),
        ("3 y.", AGE, 3),
        ("3", AGE, 3),
        ("The patient is 3 a moment ago", AGE, 3),
        ("5 km", NumberAnswer(kind="number", template="{} km/h"), 5),
        ("5 in the left lung", NumberAnswer(kind="number", template="{} mm"), 5),
        ("12 kg", NumberAnswer(kind="number"), 12),
    ],
)
def test_a_unit_of_the_templates_or_none_for_certain_changes_nothing(
    found: str, answer: NumberAnswer, value: float
) -> None:
    read = label(found, answer)
    assert read is not None
    assert read.score == value


@pytest.mark.parametrize("found", [["a", "b"], {"text": "a"}, " "])
def test_a_label_that_is_no_text_is_none(found: object) -> None:
    assert label(found, TEXT) is None


def test_the_words_of_the_task_come_before_other_spellings() -> None:
    turned = BinaryAnswer(kind="binary", positive="No", negative="Yes")
    assert [answer_of(found, turned) for found in ("no", "yes", 1, 0)] == ["No", "Yes", "No", "Yes"]


def test_a_choice_is_read_whatever_its_case_and_white_space() -> None:
    found = [answer_of(written, CHOICE) for written in ("crack", " HOT\n spot. ", "a crack", "no crack", None)]
    assert found == ["Crack", "Hot spot", "Crack", None, None]


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("5.1", 5.1),
        ("Price is $5.1 thousand", 5.1),
        ("12,5", 12.5),
        (7, 7),
        ("3 or 4", None),
        ("", None),
        (True, None),
        (math.inf, None),
        (math.nan, None),
        ("1e999", None),
    ],
)
def test_a_reviewer_s_number_is_the_only_one_he_typed(typed: object, number: float | None) -> None:
    assert read_number(typed) == number


@given(st.text())
def test_reading_a_number_from_any_text_is_a_finite_number_or_none(text: str) -> None:
    number, read = read_number(text), read_answer(text, PRICE)
    assert number is None or math.isfinite(number)
    assert read is None or math.isfinite(float(read.value))


def test_a_number_is_written_as_the_template_says() -> None:
    assert render(1234.5, PRICE) == "Price is $1234.50"
    assert render(-0.001, PRICE) == "Price is $0.00"


def test_a_text_loses_the_white_space_around_it_only() -> None:
    assert [answer_of(found, TEXT) for found in ("  two  words \n", 5)] == ["two  words", "5"]


def test_a_label_has_the_task_s_words_and_its_number() -> None:
    assert label("0", BINARY) == Label("No", 0.0)
    assert label("crack", CHOICE) == Label("Crack", None)
    assert label("$1,234.5", PRICE) == Label("Price is $1234.50", 1234.5)
    assert label(" water ", TEXT) == Label("water", None)
    assert [label(None, answer) for answer in (BINARY, CHOICE, PRICE, TEXT)] == [None] * 4


def test_what_is_wanted_is_said_in_words() -> None:
    assert [wanted(answer) for answer in (BINARY, CHOICE, PRICE, TEXT)] == [
        "Yes or No, yes or no, 1 or 0",
        "one of No defect, Crack, Hot spot",
        "one number",
        "text",
    ]


@pytest.mark.parametrize("found", [2, 2.0, "2", "2.0"])
def test_a_whole_number_is_the_option_of_its_name_however_a_column_writes_it(found: object) -> None:
    assert answer_of(found, ChoiceAnswer(kind="choice", options=["1", "2", "3"])) == "2"
    assert answer_of(found, BinaryAnswer(kind="binary", positive="2", negative="1")) == "2"


@pytest.mark.parametrize(("found", "read"), [("2.0", "2.0"), ("2", "2"), (2.5, None), ("2.00.0", None)])
def test_an_option_with_a_decimal_is_its_own(found: object, read: str | None) -> None:
    assert answer_of(found, ChoiceAnswer(kind="choice", options=["1", "2", "2.0"])) == read


FINDING = BinaryAnswer(kind="binary", positive="pneumothorax", negative="normal")


@pytest.mark.parametrize(
    "found",
    [
        "Mother: pneumothorax",
        "FH: pneumothorax",
        "Past medical history: pneumothorax",
        "PMH: pneumothorax",
        "Vater: pneumothorax",
        "Indication: pneumothorax",
        "Clinical question: pneumothorax",
        "Reason for exam: pneumothorax",
        "DD: pneumothorax",
        "Sister has pneumothorax",
        "pneumothorax in his brother",
        "pneumothorax in 2019",
        "Pneumothorax (2019)",
        "pneumothorax on the left in March 2019",
        "pneumothorax 3 years ago",
    ],
)
def test_what_somebody_else_or_another_time_had_is_no_label(found: str) -> None:
    assert label(found, FINDING) is None


@pytest.mark.parametrize(
    "found",
    ["Findings: pneumothorax", "Impression: pneumothorax", "Diagnosis: pneumothorax", "pneumothorax on the left."],
)
def test_what_is_found_under_a_head_is_a_label(found: str) -> None:
    assert label(found, FINDING) == Label("pneumothorax", 1.0)
