"""Questions that hold their own answer are noticed, and those that name what may be answered are not."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.given_away import GivenAway
from finetune_assets.task.answers import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer, TextAnswer

PETS = ("cat", "dog", "bird")
CHOICE = ChoiceAnswer(kind="choice", options=list(PETS))
CRACK = BinaryAnswer(kind="binary", positive="crack", negative="fine")


def told(answer: Answer, answers: list[str], asks: Callable[[str], str], *, system: str | None = None) -> str:
    seen = GivenAway(answer)
    for number, said in enumerate(answers):
        score = float(said) if isinstance(answer, NumberAnswer) else None
        asked: dict[str, Any] = {"question": asks(said), "system": system, "answer": said, "score": score}
        seen.add(Example(id=str(number), region="all", source="x", line=number, **asked))
    return seen.told


def some(words: tuple[str, ...], n: int = 60) -> list[str]:
    return random.Random(1).choices(words, k=n)


@pytest.mark.parametrize(
    ("answer", "answers", "asks"),
    [
        (CHOICE, some(PETS), lambda said: f"The label is {said.upper()}. What is it?"),
        (CRACK, some(("crack", "fine")), lambda said: f"File {said}/7.png: is it cracked?"),
        (
            NumberAnswer(kind="number"),
            [str(n) for n in range(30)],
            lambda said: f"It has {said} kg. How heavy is it?",
        ),
    ],
)
def test_a_question_with_its_own_answer_is_told_with_the_first(
    answer: Answer, answers: list[str], asks: Callable[[str], str]
) -> None:
    found = told(answer, answers, asks)
    assert f"{len(answers)} of {len(answers)} questions hold their own right answer" in found
    assert repr(asks(answers[0])) in found


@pytest.mark.parametrize(
    ("answer", "answers", "asks"),
    [
        (CHOICE, some(PETS), lambda _: "Is it a cat, a dog or a bird?"),
        (CHOICE, some(PETS), lambda _: "Which animal is it?"),
        (CHOICE, some(PETS), lambda said: f"Which animal is in {said}land?"),
        (CHOICE, ["cat"] * 60, lambda _: "Is it a cat?"),
        (CRACK, some(("crack", "fine")), lambda _: "Is there a crack?"),
        (CHOICE, some(PETS, 12), lambda said: f"The label is {said}."),
        (NumberAnswer(kind="number"), [str(n) for n in range(30)], lambda said: f"What is {said} plus 0?"),
        (TextAnswer(kind="text"), some(PETS), lambda said: f"A {said} sat there. Who sat there?"),
    ],
)
def test_a_question_may_name_what_is_asked_about_or_may_be_answered(
    answer: Answer, answers: list[str], asks: Callable[[str], str]
) -> None:
    assert told(answer, answers, asks) == ""


def test_the_system_message_may_name_the_answers() -> None:
    assert told(CHOICE, some(PETS), lambda said: f"It is a {said}.", system="Answer cat, dog or bird.") == ""
