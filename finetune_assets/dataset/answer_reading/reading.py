"""One answer read from a free text: its value, and the place where that stands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from finetune_assets.dataset.answer_reading.answer_text import Folded, Span, after_reasoning, json_value
from finetune_assets.dataset.answer_reading.calls import read_call
from finetune_assets.dataset.answer_reading.numbers import read_in_text, unit_beside, unit_of, unit_scale
from finetune_assets.dataset.answer_reading.units import are_different
from finetune_assets.dataset.answer_reading.words import read_word
from finetune_assets.task.answers import (
    Answer,
    BinaryAnswer,
    CallAnswer,
    ChoiceAnswer,
    NumberAnswer,
    ScoreAnswer,
    TextAnswer,
)

_RECURRING = 64
"""Answers of at most so many characters are mostly the same few again: what they say is kept."""
_PLAIN_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?", re.ASCII)
"""A number that is the whole text and can be read in one way only."""


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """What a text answers, and where."""

    value: str | float
    """The task's own word (binary, choice), the number, or the text proper."""
    start: int
    end: int
    """The value's place in the text as it was given, `end` not included."""


def read_answer(text: str, answer: Answer) -> ReadAnswer | None:
    """Read the answer of a text, or return None where it is not certain.

    A model's reasoning before its answer is passed over; a JSON object is read for its `answer`. A text in which two of
    the task's words compete, or that negates, doubts or takes back the one it names, has no certain answer.
    """
    match answer:
        case BinaryAnswer() | ChoiceAnswer() | ScoreAnswer():
            return read_option(text, options_of(answer))
        case NumberAnswer():
            return _read_number(text, answer)
        case TextAnswer():
            return _read_text(text, answer)
        case CallAnswer():
            call = read_call(text, answer)
            return None if call is None else ReadAnswer(call, 0, len(text))


def read_option(text: str, options: tuple[str, ...]) -> ReadAnswer | None:
    """Read which of the options a text answers with, as `read_answer` does."""
    return (_read_short_option if len(text) <= _RECURRING else _read_option)(text, options)


def without_reasoning(text: str) -> str | None:
    """Return what a model wrote after its reasoning, without white space around it; None where that is nothing."""
    part = after_reasoning(text)
    return None if part is None else part.within(text).strip() or None


def options_of(answer: BinaryAnswer | ChoiceAnswer | ScoreAnswer) -> tuple[str, ...]:
    """Return the words that may be answered."""
    return (answer.positive, answer.negative) if isinstance(answer, BinaryAnswer) else tuple(answer.options)


def _answer_part(text: str) -> Span | None:
    """Find the part of a text that answers: what follows the reasoning, and in a JSON object its answer."""
    part = after_reasoning(text)
    found = None if part is None else json_value(part.within(text))
    if part is None or found is None:
        return None
    return Span(part.start + found.start, part.start + found.end) if isinstance(found, Span) else part


def _read_option(text: str, options: tuple[str, ...]) -> ReadAnswer | None:
    part = _answer_part(text)
    if part is None:
        return None
    folded = Folded.of(part.within(text))
    found = read_word(folded.text, options)
    if found is None:
        return None
    start, end = folded.span(found.start, found.end)
    return ReadAnswer(found.option, part.start + start, part.start + end)


_read_short_option = lru_cache(maxsize=4096)(_read_option)


def _read_number(text: str, answer: NumberAnswer) -> ReadAnswer | None:
    if _PLAIN_NUMBER.fullmatch(text):
        return ReadAnswer(float(text), 0, len(text))
    part = _answer_part(text)
    found = None if part is None else read_in_text(part.within(text), answer.template)
    if part is None or found is None:
        return None
    if are_different(unit_beside(part.within(text), found.place), unit_of(answer.template)):
        return None
    value = found.number.in_unit(unit_scale(answer.template))
    return ReadAnswer(value, part.start + found.place.start, part.start + found.place.end)


def _read_text(text: str, answer: TextAnswer) -> ReadAnswer | None:
    part = after_reasoning(text)
    if part is None:
        return None
    written = part.within(text).partition(answer.separator)[0]
    start = part.start + len(written) - len(written.lstrip())
    proper = written.strip()
    return ReadAnswer(proper, start, start + len(proper)) if proper else None
