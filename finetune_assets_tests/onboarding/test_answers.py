from collections import Counter

import pytest

from finetune_assets.errors import TaskError
from finetune_assets.onboarding.answers import answer_of, plain_numbers


def test_yes_and_no_in_any_spelling_are_a_binary_answer() -> None:
    for labels in (["1", "0"], ["true", "false"], ["yes", "no"], ["Y", "N"]):
        assert answer_of(Counter(labels * 9)) == {"kind": "binary", "positive": "Yes", "negative": "No"}


def test_of_two_words_the_one_for_a_finding_is_the_positive_one() -> None:
    assert answer_of(Counter({"intact": 2, "defective": 90})) == {
        "kind": "binary",
        "positive": "defective",
        "negative": "intact",
    }


def test_of_two_other_words_the_rarer_is_the_positive_one() -> None:
    assert answer_of(Counter({"night": 3, "day": 90}))["positive"] == "night"


def test_a_few_words_that_occur_again_are_a_choice() -> None:
    assert answer_of(Counter({"mild": 9, "severe": 4, "moderate": 5})) == {
        "kind": "choice",
        "options": ["mild", "moderate", "severe"],
    }


def test_grades_are_a_choice_and_many_numbers_a_number() -> None:
    assert answer_of(Counter({str(grade): 9 for grade in range(5)}))["kind"] == "choice"
    numbers = answer_of(Counter({f"{price / 4:.2f}": 1 for price in range(1, 90)}))
    assert numbers == {"kind": "number", "decimals": 2, "minimum": 0}


def test_numbers_in_the_same_words_are_read_by_a_template() -> None:
    labels = Counter({f"Price is ${price}.50": 1 for price in range(40)})
    assert answer_of(labels) == {"kind": "number", "template": "Price is ${}", "decimals": 1, "minimum": 0}


def test_whatever_is_written_each_time_anew_is_a_text() -> None:
    assert answer_of(Counter({f"because of reason {'x' * n}": 1 for n in range(50)})) == {"kind": "text"}
    assert answer_of(Counter({"a": 1, "b": 1}), has_more=True) == {"kind": "text"}


def test_a_person_may_say_otherwise() -> None:
    assert answer_of(Counter({"1": 5, "2": 5, "3": 5}), kind="number")["kind"] == "number"
    with pytest.raises(TaskError, match="one of two words; the labels are a, b, c"):
        answer_of(Counter("aabbcc"), kind="binary")
    with pytest.raises(TaskError, match="must be binary, choice, number or text, got 'image'"):
        answer_of(Counter("ab"), kind="image")


def test_words_that_differ_in_their_unit_or_a_letter_behind_are_no_numbers() -> None:
    grades = ["0", "1", "2", "3", "4a", "4b", "4c", "5"]
    assert answer_of(Counter(grades * 3)) == {"kind": "choice", "options": grades}
    assert plain_numbers(["19M", "8.7M", "201k"]) == []
    ages = Counter(f"{n} {unit}" for n in range(2, 12) for unit in ("years", "weeks", "months", "days"))
    assert answer_of(ages) == {"kind": "text"}


def test_numbers_with_their_units_are_numbers() -> None:
    assert plain_numbers(["62 %", "7 %"]) == ["62", "7"]
    assert answer_of({"12,50 \u20ac": 1, "7,25 \u20ac": 1, "3,00 \u20ac": 2})["kind"] == "number"


@pytest.mark.parametrize(
    ("finding", "absence"),
    [
        ("PNEUMONIA", "NORMAL"), ("tumor", "no tumor"), ("infected", "uninfected"), ("unstable", "stable"),
        ("demented", "non-demented"), ("krank", "gesund"), ("異常", "正常"), ("crack", "intact"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("often", [1, 9])
def test_the_word_for_a_finding_is_the_positive_one_however_often_it_occurs(
    finding: str, absence: str, often: int
) -> None:
    found = answer_of({finding: often, absence: 5})
    assert (found["positive"], found["negative"]) == (finding, absence)


def test_one_word_in_several_cases_of_letters_is_one_option_and_a_dash_is_none() -> None:
    found = answer_of({"Crack": 9, "crack": 2, "dirt": 8, "none": 7, "-": 3})
    assert found == {"kind": "choice", "options": ["Crack", "dirt", "none"]}


def test_labels_in_several_orders_are_no_options() -> None:
    with pytest.raises(TaskError, match=r"'crack\|dirt' and 'dirt\|crack' are the same labels in another order"):
        answer_of({"crack": 9, "dirt": 9, "crack|dirt": 5, "dirt|crack": 4})
    assert answer_of({"crack": 9, "dirt": 9, "crack|dirt": 5})["kind"] == "choice"
