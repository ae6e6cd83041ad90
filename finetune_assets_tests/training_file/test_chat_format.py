from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.task import Prompt, Shot
from finetune_assets.training_file.chat_format import to_messages

PROMPT = Prompt(system="You inspect cells.", user="{question} Answer Yes or No.")


def test_a_text_question_is_a_plain_string() -> None:
    assert to_messages(PROMPT, "Is it broken?") == [
        {"role": "system", "content": "You inspect cells."},
        {"role": "user", "content": "Is it broken? Answer Yes or No."},
    ]


def test_an_image_comes_after_the_text_at_low_detail() -> None:
    [_, asked] = to_messages(PROMPT, "Is it broken?", "https://example.com/a.png")
    assert asked["content"] == [
        {"type": "text", "text": "Is it broken? Answer Yes or No."},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
    ]


@pytest.mark.parametrize("detail", ["low", "high", "auto"])
def test_the_prompt_says_how_closely_images_are_looked_at(detail: Literal["low", "high", "auto"]) -> None:
    [asked] = to_messages(Prompt(detail=detail), "Is it broken?", "https://example.com/a.png")
    assert asked["content"][1]["image_url"]["detail"] == detail


def test_the_answer_is_the_last_message() -> None:
    assert to_messages(PROMPT, "Is it broken?", answer="No")[-1] == {"role": "assistant", "content": "No"}


def test_without_a_system_text_there_is_no_system_message() -> None:
    assert [message["role"] for message in to_messages(Prompt(), "Why?", answer="No")] == ["user", "assistant"]


def test_shots_are_asked_as_the_question_is_and_answered_before_it() -> None:
    shots = [Shot(question="Is A broken?", answer="No"), Shot(question="Is B broken?", answer="Yes")]
    prompt = PROMPT.model_copy(update={"shots": shots})
    assert [(message["role"], message["content"]) for message in to_messages(prompt, "Is C broken?", answer="No")] == [
        ("system", "You inspect cells."),
        ("user", "Is A broken? Answer Yes or No."),
        ("assistant", "No"),
        ("user", "Is B broken? Answer Yes or No."),
        ("assistant", "Yes"),
        ("user", "Is C broken? Answer Yes or No."),
        ("assistant", "No"),
    ]


def test_an_example_s_own_system_message_takes_the_place_of_the_prompt_s() -> None:
    assert to_messages(PROMPT, "Why?", system="You are brief.")[0] == {"role": "system", "content": "You are brief."}
    assert [message["role"] for message in to_messages(PROMPT, "Why?", system="")] == ["user"]


@given(st.text())
def test_any_question_is_inserted_literally(question: str) -> None:
    prompt = Prompt(user='Given {json: "{x}"}: {question}')
    assert to_messages(prompt, question)[0]["content"] == 'Given {json: "{x}"}: ' + question


@given(st.text(), st.text(), st.none() | st.just("https://example.com/a.png"))
def test_training_and_asking_differ_in_the_answer_only(question: str, answer: str, image_url: str | None) -> None:
    assert to_messages(PROMPT, question, image_url, answer)[:-1] == to_messages(PROMPT, question, image_url)
