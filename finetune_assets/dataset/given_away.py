"""Questions that hold their own right answer: who learns from them learns to read it there, and the test says it does.

A question may name the answers there are (`Is it red or blue?`), or the one that it asks about (`Is there a crack?`):
what gives the answer away is a question that names the right one alone, another one in another row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from finetune_assets.dataset.answer_reading import options_of, read_number
from finetune_assets.dataset.example import Example
from finetune_assets.task.answers import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer, ScoreAnswer

_FEWEST = 20
_NEARLY_ALL = 0.95
_SHOWN = 80


class GivenAway:
    """Counts the examples whose question, or system message, names the right answer and no other."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._n = self._given = 0
        self._answers: set[str] = set()
        self._first = ""

    def add(self, example: Example) -> None:
        """Take in an example without a problem."""
        self._n += 1
        asked = f"{example.system or ''}\n{example.question or ''}"
        if example.answer and self._is_given(asked, example):
            self._given += 1
            self._first = self._first or example.question or ""
            self._answers.add(example.answer)

    @property
    def told(self) -> str:
        """What was found, in words; "" where that is nothing."""
        if self._n < _FEWEST or self._given < _NEARLY_ALL * self._n or len(self._answers) < 2:
            return ""
        shown = self._first[:_SHOWN] + ("..." if len(self._first) > _SHOWN else "")
        return (
            f"{self._given:,} of {self._n:,} questions hold their own right answer, such as {shown!r}: a model learns "
            "to read it there, and its benchmark says nothing; leave it out of `question`"
        )

    def _is_given(self, asked: str, example: Example) -> bool:
        match self._answer:
            case BinaryAnswer() | ChoiceAnswer() | ScoreAnswer() as answer:
                return _named(asked, options_of(answer)) == [example.answer]
            case NumberAnswer():
                return example.score is not None and read_number(asked) == example.score
        return False  # a text may well be taken from a passage that is shown


def _named(asked: str, options: Sequence[str]) -> list[str]:
    return [option for option in options if _word(option).search(asked)]


@lru_cache(maxsize=1024)
def _word(option: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![^\W_]){re.escape(option)}(?![^\W_])", re.IGNORECASE)
