"""What counts as an answer, and what probability stands behind it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.evaluation.answers import parse, positive_probability
from finetune_assets.task import BinaryAnswer

YES_NO = BinaryAnswer(kind="binary", positive="Yes", negative="No")


def logs(**probabilities: float) -> dict[str, float]:
    return {token: math.log(p) for token, p in probabilities.items()}


@pytest.mark.parametrize(
    "text",
    [
        "Yes",
        "yes",
        " YES.",
        "Yes, it is defective",
        "**Yes**",
        '"Yes"',
        "yes\nbecause of a crack",
        "__yes__",
        "\N{FULLWIDTH LATIN CAPITAL LETTER Y}es",
    ],
)
def test_case_space_and_punctuation_do_not_matter(text: str) -> None:
    assert parse(text, YES_NO) == "Yes"


@pytest.mark.parametrize(
    "text", [None, "", "  ", "...", "Nothing to see", "Yesterday", "The cell is fine", "I say yes"]
)
def test_text_that_does_not_begin_with_an_answer_is_unparseable(text: str | None) -> None:
    assert parse(text, YES_NO) is None


def test_the_first_answer_counts() -> None:
    assert parse("No. Yes would be wrong.", YES_NO) == "No"


def test_the_longer_of_two_answers_is_preferred() -> None:
    answer = BinaryAnswer(kind="binary", positive="No defect", negative="No")
    assert parse("no  defect seen", answer) == "No defect"
    assert parse("No.", answer) == "No"


def test_answers_may_be_signs() -> None:
    answer = BinaryAnswer(kind="binary", positive="+", negative="-")
    assert [parse("+", answer), parse(" -", answer)] == ["+", "-"]


words = st.text(st.characters(categories=["Ll", "Lu"], max_codepoint=0x24F), min_size=1, max_size=8)


@given(words, words, st.sampled_from(["", " ", "\n", "“"]), st.sampled_from(["", ".", ", I think", "\n"]))
def test_an_answer_is_read_back_in_any_dressing(positive: str, negative: str, before: str, after: str) -> None:
    if positive.casefold() == negative.casefold():
        return
    answer = BinaryAnswer(kind="binary", positive=positive, negative=negative)
    assert parse(f"{before}{positive.upper().lower()}{after}", answer) in (positive, None)
    assert parse(f"{before}{positive}{after}", answer) == positive


def test_probability_is_the_positive_share_of_both_answers() -> None:
    assert positive_probability(logs(Yes=0.6, No=0.2, The=0.2), YES_NO) == pytest.approx(0.75)


def test_spellings_of_an_answer_add_up() -> None:
    top = logs(Yes=0.3, yes=0.1, YES=0.05, No=0.1) | {" Yes": math.log(0.1), "Y": math.log(0.05), "no,": math.log(0.1)}
    assert positive_probability(top, YES_NO) == pytest.approx(0.6 / 0.8)


def test_tokens_of_both_or_neither_answer_are_left_out() -> None:
    answer = BinaryAnswer(kind="binary", positive="Defective", negative="Deficient")
    top = logs(De=0.4, Defect=0.3, Defic=0.1, Not=0.1) | {" ": math.log(0.05)}
    assert positive_probability(top, answer) == pytest.approx(0.75)


def test_an_answer_outside_the_returned_tokens_gets_what_is_left_of_one() -> None:
    assert positive_probability(logs(Yes=0.9, Maybe=0.06), YES_NO) == pytest.approx(0.9 / 0.94)


def test_an_answer_outside_the_returned_tokens_is_no_likelier_than_the_least_likely_of_them() -> None:
    assert positive_probability(logs(No=0.5, Maybe=0.02), YES_NO) == pytest.approx(0.02 / 0.52)


@pytest.mark.parametrize("top", [None, {}, {"The": -0.1}, {"Yes": -9999.0, "No": -9999.0}])
def test_without_a_token_of_either_answer_there_is_no_probability(top: dict[str, float] | None) -> None:
    assert positive_probability(top, YES_NO) is None


tokens = st.sampled_from(["Yes", " yes", "Y", "No", "no.", " N", "The", "", "Nothing"])


@given(st.dictionaries(tokens, st.floats(-50, 0), max_size=6))
def test_a_probability_is_between_zero_and_one_and_mirrors_the_other_answer(top: dict[str, float]) -> None:
    mirrored = BinaryAnswer(kind="binary", positive="No", negative="Yes")
    p, q = positive_probability(top, YES_NO), positive_probability(top, mirrored)
    if p is None or q is None:
        assert p is q
    else:
        assert 0 <= p <= 1
        assert p + q == pytest.approx(1)
