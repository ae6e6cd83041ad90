"""One answer read from a free text: its value, and the place where that stands."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_assets.dataset.answer_reading.answer_text import Folded, Span, after_reasoning, json_value
from finetune_assets.dataset.answer_reading.numbers import read_in_text, unit_scale
from finetune_assets.dataset.answer_reading.words import read_word
from finetune_assets.task import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer, TextAnswer


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
    part = after_reasoning(text)
    if part is None:
        return None
    if isinstance(answer, TextAnswer):
        return _read_text(text, part, answer)
    found = json_value(part.within(text))
    if found is None:
        return None
    if isinstance(found, Span):
        part = Span(part.start + found.start, part.start + found.end)
    if isinstance(answer, NumberAnswer):
        return _read_number(part.within(text), part.start, answer)
    return _read_word(part.within(text), part.start, options_of(answer))


def without_reasoning(text: str) -> str | None:
    """Return what a model wrote after its reasoning, without white space around it; None where that is nothing."""
    part = after_reasoning(text)
    return None if part is None else part.within(text).strip() or None


def options_of(answer: BinaryAnswer | ChoiceAnswer) -> tuple[str, ...]:
    """Return the words that may be answered."""
    return (answer.positive, answer.negative) if isinstance(answer, BinaryAnswer) else tuple(answer.options)


def _read_word(text: str, offset: int, options: tuple[str, ...]) -> ReadAnswer | None:
    folded = Folded.of(text)
    found = read_word(folded.text, options)
    if found is None:
        return None
    start, end = folded.span(found.start, found.end)
    return ReadAnswer(found.option, offset + start, offset + end)


def _read_number(text: str, offset: int, answer: NumberAnswer) -> ReadAnswer | None:
    found = read_in_text(text, answer.template)
    if found is None:
        return None
    value = found.number.in_unit(unit_scale(answer.template))
    return ReadAnswer(value, offset + found.place.start, offset + found.place.end)


def _read_text(text: str, part: Span, answer: TextAnswer) -> ReadAnswer | None:
    written = part.within(text).partition(answer.separator)[0]
    start = part.start + len(written) - len(written.lstrip())
    proper = written.strip()
    return ReadAnswer(proper, start, start + len(proper)) if proper else None
