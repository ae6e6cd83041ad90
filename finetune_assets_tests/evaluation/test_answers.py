"""What counts as an answer, and what probability stands behind it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.evaluation.answers import Reading, option_probabilities, read
from finetune_assets.provider.completions import Token
from finetune_assets.task.answers import BinaryAnswer, NumberAnswer, TextAnswer

YES_NO = BinaryAnswer(kind="binary", positive="Yes", negative="No")


def first(**probabilities: float) -> list[Token]:
    """The first token of an answer, with the probabilities of the candidates for it; the likeliest was taken."""
    return [token(probabilities)]


def token(probabilities: dict[str, float]) -> Token:
    taken = max(probabilities, key=lambda text: probabilities[text])
    return Token(taken, math.log(probabilities[taken]), {text: math.log(p) for text, p in probabilities.items()})


def p_yes(tokens: list[Token], options: tuple[str, ...] = ("Yes", "No")) -> float:
    found = option_probabilities(tokens, options)
    assert found is not None
    return found["Yes"]


def test_probability_is_the_share_of_an_option_among_all() -> None:
    assert p_yes(first(Yes=0.6, No=0.2, The=0.2)) == pytest.approx(0.75)
    assert p_yes(first(Yes=0.5, No=0.2, Maybe=0.1, The=0.2), ("Yes", "No", "Maybe")) == pytest.approx(0.5 / 0.8)


def test_spellings_of_an_answer_add_up() -> None:
    assert p_yes(
        [token({"Yes": 0.3, "yes": 0.1, "YES": 0.05, "No": 0.1, " Yes": 0.1, "Y": 0.05, "no,": 0.1})]
    ) == pytest.approx(0.6 / 0.8)


def test_options_that_share_a_token_are_told_apart_by_the_next_one_where_the_answer_took_it() -> None:
    tokens = [token({"De": 0.8, "Yes": 0.2}), token({"fective": 0.75, "ficient": 0.25})]
    assert option_probabilities(tokens, ["Defective", "Deficient", "Yes"]) == pytest.approx(
        {"Defective": 0.6, "Deficient": 0.2, "Yes": 0.2}
    )


def test_options_share_equally_what_the_answer_did_not_take() -> None:
    tokens = [token({"Yes": 0.6, "De": 0.4})]
    assert option_probabilities(tokens, ["Defective", "Deficient", "Yes"]) == pytest.approx(
        {"Defective": 0.2, "Deficient": 0.2, "Yes": 0.6}
    )


def test_an_option_that_begins_with_another_is_told_from_it_by_what_follows() -> None:
    options = ["No", "No defect", "Yes"]
    goes_on = [token({"No": 0.9, "Yes": 0.1}), token({" defect": 0.8, ".": 0.2})]
    assert option_probabilities(goes_on, options) == pytest.approx({"No": 0.18, "No defect": 0.72, "Yes": 0.1})
    ends = [token({"No": 0.9, "Yes": 0.05})]
    found = option_probabilities(ends, options) or {}
    # The longer option was not seen: it is no likelier than what is left of 1.
    assert found == pytest.approx({"No": 0.9, "No defect": 0.05, "Yes": 0.05})


def test_white_space_and_quotation_marks_before_an_answer_are_passed_over() -> None:
    tokens = [token({'"': 0.9, "Yes": 0.06, "No": 0.04}), token({"No": 0.7, "Yes": 0.3})]
    assert p_yes(tokens) == pytest.approx(0.06 + 0.9 * 0.3)


def test_an_answer_outside_the_returned_tokens_gets_what_is_left_of_one() -> None:
    assert p_yes(first(Yes=0.9, Maybe=0.06)) == pytest.approx(0.9 / 0.94)


def test_answers_outside_the_returned_tokens_share_what_is_left_of_one() -> None:
    found = option_probabilities(first(Yes=0.9, Perhaps=0.06), ["Yes", "No", "Unknown"])
    assert found == pytest.approx({"Yes": 0.9 / 0.94, "No": 0.02 / 0.94, "Unknown": 0.02 / 0.94})


def test_an_answer_outside_the_returned_tokens_is_no_likelier_than_the_least_likely_of_them() -> None:
    assert p_yes(first(No=0.5, Maybe=0.02)) == pytest.approx(0.02 / 0.52)


@pytest.mark.parametrize("candidates", [{}, {"The": -0.1}, {"Yes": -9999.0, "No": -9999.0}])
def test_without_a_token_of_any_answer_there_is_no_probability(candidates: dict[str, float]) -> None:
    assert option_probabilities([Token("The", -0.1, candidates)], ("Yes", "No")) is None
    assert option_probabilities([], ("Yes", "No")) is None


WORDS = st.sampled_from(["Yes", " yes", "Y", "No", "no.", " N", "The", "", "Nothing", "Not", " sure", '"'])
positions = st.lists(st.tuples(WORDS, st.dictionaries(WORDS, st.floats(-50, 0), max_size=6)), max_size=3)


@given(positions)
def test_probabilities_are_of_all_options_and_add_up_to_one_in_whatever_order_they_are_asked(
    drawn: list[tuple[str, dict[str, float]]],
) -> None:
    tokens = [Token(text, candidates.get(text, -1.0), candidates) for text, candidates in drawn]
    options = ["Yes", "No", "Not sure"]
    found, turned = option_probabilities(tokens, options), option_probabilities(tokens, options[::-1])
    if found is None or turned is None:
        assert found is turned
    else:
        assert list(found) == options
        assert sum(found.values()) == pytest.approx(1)
        assert all(0 <= p <= 1 for p in found.values())
        assert found == pytest.approx(turned)


def test_a_number_is_read_out_of_what_surrounds_it() -> None:
    answer = NumberAnswer(kind="number", template="Price is ${}")
    assert read("Price is $1,234.5", [], answer) == Reading("Price is $1234.50", 1234.5)
    assert read("no idea", [], answer) == Reading(None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("It costs $12", None),
        ("It costs $1,", None),
        ("It costs $12 each", 12),
        ("$12 or $1", None),
        ("It costs", None),
    ],
)
def test_a_number_in_which_the_model_was_cut_off_is_none(text: str, value: float | None) -> None:
    answer = NumberAnswer(kind="number", template="${}")
    assert read(text, [], answer, truncated=True).value == value


def test_a_text_has_the_geometric_mean_of_its_tokens_probabilities() -> None:
    tokens = [Token("a", math.log(0.5), {}), Token("b", math.log(0.125), {})]
    assert read(" a b ", tokens, TextAnswer(kind="text")).p_predicted == pytest.approx(0.25)
    assert read("a b", [], TextAnswer(kind="text")) == Reading("a b")
    assert read("  ", tokens, TextAnswer(kind="text")) == Reading(None)


def test_a_word_has_its_own_probability_and_those_of_all_words() -> None:
    found = read("No.", first(Yes=0.25, No=0.75), YES_NO)
    assert (found.predicted, found.p_predicted) == ("No", pytest.approx(0.75))
    assert found.probabilities == pytest.approx({"Yes": 0.25, "No": 0.75})
    assert read("Perhaps", first(Yes=0.25, No=0.75), YES_NO).p_predicted is None


def test_the_probability_is_read_where_the_answer_stands() -> None:
    said = [Token(text, -0.1, {text: -0.1, "Yes": -5.0}) for text in ("The", " answer", " is")]
    found = read("The answer is No.", [*said, token({" No": 0.75, " Yes": 0.25}), token({".": 1.0})], YES_NO)
    assert (found.predicted, found.p_predicted) == ("No", pytest.approx(0.75))


def test_what_stands_before_the_answer_in_its_token_is_cut_off() -> None:
    said = [Token("Answer", -0.1, {"Answer": -0.1}), token({":No": 0.75, ":Yes": 0.25})]
    assert read("Answer:No", said, YES_NO).p_predicted == pytest.approx(0.75)


def test_tokens_of_another_text_give_no_probability_within_it() -> None:
    assert read("The answer is No", first(Yes=0.9, No=0.1), YES_NO).probabilities is None
