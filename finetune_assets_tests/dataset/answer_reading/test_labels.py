import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.dataset.answer_reading import (
    Label,
    begun_with,
    label,
    mentioned,
    read_binary,
    read_choice,
    read_number,
    read_text,
    render,
    wanted,
)
from finetune_assets.task import BinaryAnswer, ChoiceAnswer, NumberAnswer, TextAnswer

BINARY = BinaryAnswer(kind="binary", positive="Yes", negative="No")
CHOICE = ChoiceAnswer(kind="choice", options=["No defect", "Crack", "Hot spot"])
PRICE = NumberAnswer(kind="number", template="Price is ${}")
TEXT = TextAnswer(kind="text")


@pytest.mark.parametrize("found", [1, 1.0, True, "1", "1.0", "yes", " YES ", "true", "TRUE", "Yes.", "y"])
def test_a_positive_answer_may_be_spelt_in_many_ways(found: object) -> None:
    assert read_binary(found, BINARY) == "Yes"


@pytest.mark.parametrize("found", ["perhaps", 2, "", None, "yes and no", [1]])
def test_what_is_neither_answer_is_none(found: object) -> None:
    assert read_binary(found, BINARY) is None


@pytest.mark.parametrize(
    "found", ["3 for $10", "10-20", "USD 1 299.00", "free", None, "$1.8k", "2.5K", "3 million", "$1.2bn"]
)
def test_a_label_that_is_not_one_number_for_certain_is_none(found: object) -> None:
    assert label(found, PRICE) is None


def test_a_number_may_stand_for_thousands_where_the_template_says_so() -> None:
    in_thousands = NumberAnswer(kind="number", template="Price is ${} thousand", decimals=1)
    assert label("$5.1 Thousand", in_thousands) == Label("Price is $5.1 thousand", 5.1)
    assert label("$5.1k", in_thousands) is None
    assert label("12 kg", PRICE) == Label("Price is $12.00", 12)


@pytest.mark.parametrize("found", [["a", "b"], {"text": "a"}, " "])
def test_a_label_that_is_no_text_is_none(found: object) -> None:
    assert label(found, TEXT) is None


def test_the_words_of_the_task_come_before_other_spellings() -> None:
    turned = BinaryAnswer(kind="binary", positive="No", negative="Yes")
    assert [read_binary(found, turned) for found in ("no", "yes", 1, 0)] == ["No", "Yes", "No", "Yes"]


def test_a_choice_is_read_whatever_its_case_and_white_space() -> None:
    assert [read_choice(found, CHOICE) for found in ("crack", " HOT\n spot. ", "a crack", None)] == [
        "Crack",
        "Hot spot",
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("$1,234.50", 1234.5),
        ("Price is $226.95", 226.95),
        ("1.2e3", 1200),
        ("\u22125", -5),
        ("12 %", 12),
        ("-$5", -5),
        ("$-5.10", -5.1),
        ("A-5", 5),
        ("10-20", 10),
        (".5", 0.5),
        ("12,345", 12345),
        ("12,5", 12.5),
        ("0,125", 0.125),
        ("1.234,50", 1234.5),
        ("1.234.567", 1234567),
        ("1\u2019234.5", 1234.5),
        ("1\u202f234,5 kg", 1234.5),
        ("1, 2 or 3", 1),
        (7, 7),
        (0.25, 0.25),
        ("no idea", None),
        ("", None),
        (None, None),
        (True, None),
        ("1e999", None),
        (math.inf, None),
        (math.nan, None),
    ],
)
def test_the_first_number_of_an_answer_is_read(text: object, number: float | None) -> None:
    assert read_number(text) == number


@given(st.floats(-1e12, 1e12), st.integers(0, 9))
def test_a_number_is_read_back_as_it_was_written(value: float, decimals: int) -> None:
    answer = NumberAnswer(kind="number", template="about ${} each", decimals=decimals)
    assert read_number(render(value, answer)) == pytest.approx(round(value, decimals), abs=10**-decimals / 1e3)


@given(st.integers(0, 10**12), st.integers(0, 99))
def test_thousands_may_be_set_apart_in_the_english_the_swiss_and_the_german_way(whole: int, cents: int) -> None:
    english = f"{whole:,}.{cents:02d}"
    number = float(f"{whole}.{cents:02d}")
    swiss = english.replace(",", "'")
    german = english.translate(str.maketrans(",.", ".,"))
    assert read_number(english) == read_number(swiss) == read_number(german) == number


@given(st.text())
def test_reading_a_number_from_any_text_is_a_finite_number_or_none(text: str) -> None:
    number = read_number(text)
    assert number is None or math.isfinite(number)


def test_a_number_is_written_as_the_template_says() -> None:
    assert render(1234.5, PRICE) == "Price is $1234.50"
    assert render(-0.001, PRICE) == "Price is $0.00"


def test_a_text_loses_the_white_space_around_it_only() -> None:
    assert (read_text("  two  words \n"), read_text(" "), read_text(None), read_text(5)) == (
        "two  words",
        None,
        None,
        "5",
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [("**Yes**, because", "Yes"), ("no defect", "No defect"), ("No.", "No"), ("Nothing", None), ("It is, yes", None)],
)
def test_a_text_begins_with_a_word_or_with_none(text: str, word: str | None) -> None:
    assert begun_with(text, ["No", "No defect", "Yes"]) == word


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("I see a crack.", "Crack"),
        ("a HOT   SPOT", "Hot spot"),
        ("a crack or a hot spot", None),
        ("cracked", None),
        ("Crack, not a hot spot", "Crack"),
        ("", None),
        (None, None),
    ],
)
def test_the_only_word_that_a_text_holds_is_meant(text: str | None, word: str | None) -> None:
    assert mentioned(text, CHOICE.options) == word


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
