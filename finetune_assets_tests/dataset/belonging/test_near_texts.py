"""Texts that say the same, and texts that do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.dataset.belonging.groups import UNKNOWN
from finetune_assets.dataset.belonging.near_texts import text_keys


def text_key(question: str, system: str | None) -> int:
    [key] = text_keys([question], [system]).tolist()
    return key


@pytest.mark.parametrize(
    "variants",
    [
        ["What is the capital of land 0?", "What's the capital of land 0 ?", "what is the capital of land 0",
         "What\u2019s the capital of land 0", "Capital of land 0?", "Tell me the capital of land 0."],
        ["Who wrote Faust?", "who wrote  FAUST", "Who wrote \"Faust\"?"],
        ["Was ist die Hauptstadt von Peru?", "was ist die hauptstadt von peru"],
        ["Quelle est la capitale du P\u00e9rou ?", "La capitale du P\u00e9rou, quelle est-elle ?"],
        ["How many legs do spiders have?", "How many legs does a spider have"],
    ],
)  # fmt: skip
def test_variants_of_a_question_say_the_same(variants: list[str]) -> None:
    assert len({text_key(variant, None) for variant in variants}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [("Capital of land 0?", "Capital of land 1?"), ("Is it hot?", "Isn't it hot?"), ("3 + 4?", "3 - 4?"),
     ("Is 1.5 more?", "Is 15 more?"), ("C++?", "C#?"), ("\u5317\u4eac?", "\u4e0a\u6d77?")],
)  # fmt: skip
def test_other_things_say_something_else(one: str, other: str) -> None:
    assert text_key(one, None) != text_key(other, None)


def test_the_system_message_is_part_of_what_is_said() -> None:
    assert text_key("Summarise.", "The text: A") != text_key("Summarise.", "The text: B")


@given(st.text())
def test_case_and_spaces_never_count(text: str) -> None:
    assert text_key(f"  {text.lower()}  ", None) == text_key(text.lower(), None)
    assert text_key("?!", None) == UNKNOWN


@given(st.lists(st.tuples(st.text(), st.none() | st.sampled_from(["", "Be short.", "Lies genau."])), max_size=8))
def test_what_stands_beside_a_text_makes_no_difference(texts: list[tuple[str, str | None]]) -> None:
    questions, systems = [text for text, _ in texts], [system for _, system in texts]
    assert text_keys(questions, systems).tolist() == [text_key(*text) for text in texts]


def test_half_a_character_is_no_obstacle() -> None:
    assert text_key("Is \ud800 it 3?", None) == text_key("is it \ud800 3", None) != UNKNOWN
