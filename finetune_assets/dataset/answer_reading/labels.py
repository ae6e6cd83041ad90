"""Answers in words, in one place: how an expert's label is read, how it is written, and how an answer is read back.

Sources read labels with `label`; the benchmark reads a model's free text with `mentioned` and `read_number`.
What cannot be read for certain is None, never a guess.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from finetune_assets.dataset.answer_reading.number_format import NumberFormat, parse_number
from finetune_assets.task import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer, TextAnswer

_ALIASES = dict.fromkeys(("1", "1.0", "true", "t", "yes", "y"), True) | dict.fromkeys(
    ("0", "0.0", "false", "f", "no", "n"), False
)
_SPACES = "['\u2019\u00a0\u2009\u202f]"
_COMMA_GROUPS = r"[1-9]\d{0,2}(?:,\d{3})+(?!\d)(?:\.\d+)?"
_DIGITS = re.compile(
    # 1,234,567.89 and 1'234'567.89 and 1.234.567,89, then anything else; 0,125 has a decimal comma, not a thousand.
    rf"{_COMMA_GROUPS}"
    rf"|[1-9]\d{{0,2}}(?:{_SPACES}\d{{3}})+(?!\d)(?:[.,]\d+)?"
    r"|[1-9]\d{0,2}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,})(?!\d)"
    r"|\d+(?:[.,]\d+)?|\.\d+"
)
_SCALE = re.compile(r"k\b|\s?(?:thousand|million|mn|billion|bn)\b", re.IGNORECASE)
_EXPONENT = re.compile(r"[eE][-+]?\d{1,4}(?!\d)")
# A minus that follows a letter, a digit or a bracket is a hyphen.
_NEGATIVE = re.compile(r"(?:(?:^|[^\w)\]])-\s?[$€£¥]?|[$€£¥]\s?-)\s?$")
_MINUS_SIGNS = str.maketrans(dict.fromkeys("\u2212\u2013\ufe63\uff0d", "-"))


class Label(NamedTuple):
    """An expert's answer: in the task's own words, and as a number where it is one."""

    answer: str
    score: float | None
    """The number itself; 1 and 0 for the positive and the negative word; None for a choice or a text."""


def label(found: object, answer: Answer, numbers: NumberFormat | None = None) -> Label | None:
    """Read what a source gives as the answer (text, number, true or false), or None where it is none of the task's.

    A number beyond the task's `minimum` and `maximum` is still read; whoever takes it decides. Texts of a column whose
    number format is known are read by it, as whole cells.
    """
    match answer:
        case BinaryAnswer():
            word = read_binary(found, answer)
            return None if word is None else Label(word, float(word == answer.positive))
        case ChoiceAnswer():
            option = read_choice(found, answer)
            return None if option is None else Label(option, None)
        case NumberAnswer():
            by_format = numbers is not None and isinstance(found, str)
            value = parse_number(found, numbers) if by_format else _only_number(found, answer)
            return None if value is None else Label(render(value, answer), value)
        case TextAnswer():
            text = read_text(found)
            return None if text is None else Label(text, None)


def wanted(answer: Answer) -> str:
    """Say in a few words what an answer of this kind must be."""
    match answer:
        case BinaryAnswer():
            return f"{answer.positive} or {answer.negative}, yes or no, 1 or 0"
        case ChoiceAnswer():
            return f"one of {', '.join(answer.options)}"
        case NumberAnswer():
            return "one number"
        case TextAnswer():
            return "text"


def read_binary(found: object, answer: BinaryAnswer) -> str | None:
    """Return the task's word for a whole answer: one of its words, yes or no, true or false, 1 or 0."""
    text = _plain(found)
    own = {_plain(word): word for word in (answer.positive, answer.negative)}
    # The task's own words come first: its positive word may well be "No".
    if text in own or text not in _ALIASES:
        return own.get(text)
    return answer.positive if _ALIASES[text] else answer.negative


def read_choice(found: object, answer: ChoiceAnswer) -> str | None:
    """Return the option that the whole answer is; case, white space and a full stop make no difference."""
    return {_plain(option): option for option in answer.options}.get(_plain(found))


def read_number(found: object) -> float | None:
    """Return the first number of an answer, such as 1234.5 of `about $1,234.50`; None where it has none.

    Commas, apostrophes and narrow spaces that group three digits are passed over, and so are points where a decimal
    comma or a second point shows that they group; any other comma is a decimal one (`12,5`). A percent sign changes
    nothing: `12 %` is 12. Neither true and false nor what is infinite is a number.
    """
    if isinstance(found, bool):
        return None
    if isinstance(found, (int, float)):
        return float(found) if math.isfinite(found) else None
    text = ("" if found is None else str(found)).translate(_MINUS_SIGNS)
    match = _DIGITS.search(text)
    if match is None:
        return None
    exponent = _EXPONENT.match(text, match.end())
    value = float(_with_decimal_point(match[0]) + (exponent[0] if exponent else ""))
    if not math.isfinite(value):
        return None
    return -value if _NEGATIVE.search(text[max(0, match.start() - 4) : match.start()]) else value


def read_text(found: object) -> str | None:
    """Return the text without white space around it, or None where nothing is left, or where it is no text."""
    return None if isinstance(found, list | dict) else ("" if found is None else str(found)).strip() or None


def render(value: float, answer: NumberAnswer) -> str:
    """Write a number as the task's template says; `read_number` reads it back, rounded to `decimals`."""
    rounded = round(value, answer.decimals) + 0.0  # no -0.00
    return answer.template.replace("{}", f"{rounded:.{answer.decimals}f}")


def begun_with(text: str | None, words: Iterable[str]) -> str | None:
    """Return the word that a free text begins with, in its own spelling, or None.

    Case, white space and leading punctuation (`**yes**, because ...`) do not matter; a longer word (`Nothing`) is not
    `No`, and where one word begins with another (`No`, `No defect`) the longer one is preferred.
    """
    written = normal(text or "")
    for word in sorted(words, key=len, reverse=True):
        if re.match(rf"[\W_]*?{spelled(word)}", written):
            return word
    return None


def mentioned(text: str | None, words: Iterable[str]) -> str | None:
    """Return the word that a free text begins with, else the only one that it holds; None where that is unclear."""
    words = list(words)
    if begun := begun_with(text, words):
        return begun
    written, held = normal(text or ""), []
    for word in sorted(words, key=len, reverse=True):
        # What a longer word took is gone, so that `dark matter` does not hold `matter` too.
        written, n_found = re.subn(rf"(?<![^\W_]){spelled(word)}", "\0", written)
        held += [word] if n_found else []
    return held[0] if len(held) == 1 else None


def _only_number(found: object, answer: NumberAnswer) -> float | None:
    """Read a label's number; None where there are several, as in `3 for $10`: which one is meant is a guess.

    None also where it stands for a thousand times as much (`1.8k`), unless the task's template says so itself.
    """
    if isinstance(found, str):
        plain = _EXPONENT.sub("", found)
        numbers = list(_DIGITS.finditer(plain))
        if len(numbers) > 1:
            return None
        scale = _SCALE.match(plain, numbers[0].end()) if numbers else None
        unit = answer.template.partition("{}")[2]
        if scale and not normal(unit).strip().startswith(normal(scale[0]).strip()):
            return None
    return read_number(found)


def _with_decimal_point(digits: str) -> str:
    plain = re.sub(_SPACES, "", digits)
    if re.fullmatch(_COMMA_GROUPS, plain):
        return plain.replace(",", "")
    if plain.count(".") > 1 or ("." in plain and "," in plain):
        plain = plain.replace(".", "")
    return plain.replace(",", ".")


def spelled(word: str) -> str:
    """Build the pattern of a word that ends where a word ends, with any white space in it."""
    return r"\s+".join(re.escape(part) for part in normal(word).split()) + r"(?![^\W_])"


def normal(text: str) -> str:
    """Return a text whose case and compatible spellings (full-width letters and the like) no longer matter."""
    return unicodedata.normalize("NFKC", text).casefold()


def _plain(found: object) -> str:
    return " ".join(normal("" if found is None else str(found)).split()).rstrip(".").rstrip()
