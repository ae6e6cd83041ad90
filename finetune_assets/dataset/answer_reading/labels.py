"""Labels: how an expert's or a reviewer's answer is read, and how an answer is written."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from finetune_assets.dataset.answer_reading.answer_text import normal
from finetune_assets.dataset.answer_reading.calls import read_call, why_no_call
from finetune_assets.dataset.answer_reading.number_format import NumberFormat, scaled_number
from finetune_assets.dataset.answer_reading.numbers import differing_unit, only_number, unit_scale
from finetune_assets.dataset.answer_reading.reading import options_of, read_answer, read_option
from finetune_assets.dataset.answer_reading.words import why_unread
from finetune_assets.task.answers import (
    Answer,
    BinaryAnswer,
    CallAnswer,
    ChoiceAnswer,
    NumberAnswer,
    ScoreAnswer,
    TextAnswer,
)

_ALIASES: dict[str, bool] = {
    **dict.fromkeys(("1", "1.0", "true", "t", "yes", "y"), True),
    **dict.fromkeys(("0", "0.0", "false", "f", "no", "n"), False),
}
_LONGEST_ALIAS = 64
"""Characters of a cell that may say true or false, with the white space in it."""


class Label(NamedTuple):
    """An expert's answer: in the task's own words, and as a number where it is one."""

    answer: str
    score: float | None
    """The number itself; 1 and 0 for the positive and the negative word; None for a choice or a text."""


def label(found: object, answer: Answer, numbers: NumberFormat | None = None) -> Label | None:
    """Read what a source gives as the answer (text, number, true or false), or None where it is none of the task's.

    A sentence is read as a model's answer is: one that negates or doubts the word it names is None. A number beyond the
    task's `minimum` and `maximum` is still read; whoever takes it decides. Texts of a column whose number format is
    known are read by it, as whole cells.
    """
    match answer:
        case BinaryAnswer():
            word = _binary(found, answer)
            return None if word is None else Label(word, float(word == answer.positive))
        case ChoiceAnswer() | ScoreAnswer():
            option = _read(_as_option(found, options_of(answer)), answer)
            return Label(option, None) if isinstance(option, str) else None
        case NumberAnswer():
            value = _number(found, answer, numbers)
            return None if value is None else Label(render(value, answer), value)
        case TextAnswer():
            text = "" if isinstance(found, list | dict) else _written(found).strip()
            return Label(text, None) if text else None
        case CallAnswer():
            call = read_call(found, answer)
            return None if call is None or why_no_call(found, answer) else Label(call, None)


def wanted(answer: Answer) -> str:
    """Say in a few words what an answer of this kind must be."""
    match answer:
        case BinaryAnswer():
            return f"{answer.positive} or {answer.negative}, yes or no, 1 or 0"
        case ChoiceAnswer() | ScoreAnswer():
            return f"one of {', '.join(answer.options)}"
        case NumberAnswer():
            return "one number"
        case TextAnswer():
            return "text"
        case CallAnswer():
            return f"a call of {' or '.join(tool.name for tool in answer.tools)}"


def why_no_label(found: object, answer: Answer) -> str | None:
    """Say why a sentence that names one of the task's words, or a call, is no label; None where nothing is to say."""
    if isinstance(answer, CallAnswer):
        return why_no_call(found, answer)
    if isinstance(answer, NumberAnswer) and isinstance(found, str) and differing_unit(found, answer.template):
        return f"it is of another unit than the template {answer.template!r}"
    if isinstance(answer, BinaryAnswer | ChoiceAnswer | ScoreAnswer) and isinstance(found, str):
        return why_unread(found, options_of(answer))
    return None


def read_number(found: object) -> float | None:
    """Return the one number of a reviewer's answer, typed or as the task writes it; None where it has none or several.

    What multiplies it (`thousand`) is left out: it is the task's unit.
    """
    if isinstance(found, int | float) and not isinstance(found, bool):
        return float(found) if math.isfinite(found) else None
    return None if isinstance(found, bool) else only_number(_written(found))


def render(value: float, answer: NumberAnswer) -> str:
    """Write a number as the task's template says; `read_answer` reads it back, rounded to `decimals`."""
    rounded = round(value, answer.decimals) + 0.0  # no -0.00
    return answer.template.replace("{}", f"{rounded:.{answer.decimals}f}")


def _binary(found: object, answer: BinaryAnswer) -> str | None:
    """Return the task's word for one of its words, for yes or no, true or false, 1 or 0, or for a sentence with it."""
    words = options_of(answer)
    text = _as_option(found, words).strip()
    alias = _alias(text, words) if len(text) <= _LONGEST_ALIAS else None
    if alias is not None:
        return words[0 if alias else 1]
    read = read_option(text, words)
    return None if read is None else str(read.value)


def _as_option(found: object, options: tuple[str, ...]) -> str:
    """Return a cell as text: `2.0`, as a column of numbers with gaps writes 2, is 2 where that is an option."""
    text = _written(found)
    whole = text.removesuffix(".0")
    return whole if whole in options and text not in options else text


@lru_cache(maxsize=4096)
def _alias(text: str, words: tuple[str, ...]) -> bool | None:
    plain = " ".join(normal(text).split()).rstrip(".").rstrip()
    # The task's own words come first: its positive word may well be "No".
    own = {" ".join(normal(word).split()) for word in words}
    return None if plain in own else _ALIASES.get(plain)


def _number(found: object, answer: NumberAnswer, numbers: NumberFormat | None) -> float | None:
    if not isinstance(found, str):
        return read_number(found)
    if numbers is None:
        value = _read(found, answer)
        return value if isinstance(value, float) else None
    cell = None if differing_unit(found, answer.template) else scaled_number(found, numbers)
    return None if cell is None else cell.in_unit(unit_scale(answer.template))


def _read(text: str, answer: Answer) -> str | float | None:
    read = read_answer(text, answer)
    return None if read is None else read.value


def _written(found: object) -> str:
    return "" if found is None else str(found)
