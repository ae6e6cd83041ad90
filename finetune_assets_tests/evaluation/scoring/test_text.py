"""Metrics of texts: what counts as containing, overlapping and keeping the format."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.evaluation.scoring.text import METRICS, TextScoring, token_f1
from finetune_assets.evaluation.scoring.text_words import holds, words
from finetune_assets.task.answers import TextAnswer
from finetune_assets_tests.evaluation.predictions import prediction

SCORING = TextScoring(TextAnswer(kind="text"))
TRUTH = "Coriolis effect Explanation: The Coriolis effect turns winds."


def scores(text: str | None, truth: str = TRUTH, truncated: bool = False) -> dict[str, float]:
    scored = SCORING.score([prediction(truth, text, truncated=truncated)])
    return {name: metric.resampled(scored, np.ones((1, 1)))[0] for name, metric in METRICS.items()}


@pytest.mark.parametrize(
    ("text", "contains"),
    [
        ("the coriolis  EFFECT!", 1),
        ("I think it is the Coriolis-effect of course", 1),
        ("The effect of Coriolis", 0),
        ("Coriolis effects", 0),
        ("No idea. Explanation: the Coriolis effect", 1),
        (None, 0),
    ],
)
def test_an_answer_is_contained_word_for_word(text: str | None, contains: int) -> None:
    assert scores(text)["contains_answer"] == contains


def test_only_the_answer_before_its_explanation_is_compared() -> None:
    found = scores("Coriolis effect Explanation: something else entirely")
    assert (found["exact_match"], found["token_f1"], found["format_adherence"]) == (1, 1, 1)


def test_token_f1_by_hand() -> None:
    # "effect" and "coriolis" are shared, of 2 and of 4 words: 2 * 2 / (2 + 4)
    assert scores("effect named after Coriolis")["token_f1"] == pytest.approx(4 / 6)
    assert scores("wind")["token_f1"] == 0


@pytest.mark.parametrize(
    ("text", "truth", "truncated", "kept"),
    [
        ("x Explanation: y", TRUTH, False, 1),
        ("x Explanation: y", TRUTH, True, 0),
        ("x because of y", TRUTH, False, 0),
        ("x Explanation: y Explanation: z", TRUTH, False, 0),
        ("osmosis", "diffusion", False, 1),
        ("osmosis Explanation: y", "diffusion", False, 0),
    ],
)
def test_the_format_is_kept_by_ending_and_explaining_as_the_true_answers_do(
    text: str, truth: str, truncated: bool, kept: int
) -> None:
    assert scores(text, truth, truncated)["format_adherence"] == kept


def test_case_punctuation_and_articles_are_no_words() -> None:
    assert words("The  U.S. army, a “big” One") == ["u", "s", "army", "big", "one"]


sentence = st.lists(st.sampled_from(["cell", "atom", "heat", "light"]), max_size=6)


@given(sentence, sentence)
def test_token_f1_is_symmetric_and_one_only_for_the_same_words(one: list[str], other: list[str]) -> None:
    assert token_f1(one, other) == token_f1(other, one)
    assert (token_f1(one, other) == 1) == (sorted(one) == sorted(other))
    assert 0 <= token_f1(one, other) <= 1


@given(sentence.filter(bool), sentence)
def test_a_text_that_begins_with_the_answer_contains_it(answer: list[str], rest: list[str]) -> None:
    assert scores(" ".join(answer + rest), truth=" ".join(answer))["contains_answer"] == 1


@pytest.mark.parametrize(
    ("truth", "text", "held"),
    [
        ("A", "A", True),
        ("A", "The answer is A.", True),
        ("A", "A dog", False),
        ("The Hague", "in The Hague", True),
        ("-7", "7", False),
        ("7", "-7", False),
        ("+2", "\u22122", False),
        ("\u22122", "It is -2.", True),
        ("25%", "25", False),
        ("25%", "about 25 %", True),
        ("25", "25 %", False),
        ("> 3", "< 3", False),
        ("3", "> 3", False),
        ("F#", "F", False),
        ("F", "F#", False),
        ("C++", "written in C++.", True),
        ("Ca2+", "Ca2-", False),
        ("Cl-", "Cl- and water", True),
        ("2.5", "2, 5", False),
        ("1,000", "1000 m", True),
        ("1/2", "1 2", False),
        ("10^6", "10^-6", False),
        ("m/s", "m s", False),
        ("\u4eac\u90fd", "\u7b54\u3048\u306f\u4eac\u90fd\u3067\u3059", True),
        ("\u4e0a\u6d77", "\u4e0d\u662f\u4e0a\u6d77\u3002", False),
        ("malignant", "It is not malignant.", False),
        ("malignant", "malignant is ruled out", False),
        ("malignant", "Not benign, but malignant", True),
        ("not malignant", "It is not malignant", True),
    ],
)
def test_signs_symbols_and_denials_count(truth: str, text: str, held: bool) -> None:
    assert holds(text, truth) == held
