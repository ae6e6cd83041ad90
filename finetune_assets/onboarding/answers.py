"""Which kind of answer a set of labels is: one of two words, one of several, a number or a text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from finetune_assets.dataset.answer_reading import WAYS_OF_WRITING, NumberFormat, parse_number
from finetune_assets.dataset.answer_reading.sentences import says_not
from finetune_assets.dataset.column_looks import Column
from finetune_assets.dataset.reading.numbers import are_of_one_unit
from finetune_assets.errors import TaskError

MAX_OPTIONS = 30
"""More different words than these are texts: a model would have to be told all of them in every prompt."""
_MAX_OPTION_LENGTH = 60
_POSITIVE = (
    *("yes", "true", "1", "positive", "present", "abnormal", "defective", "defect", "bad", "faulty", "nok", "fail"),
    *("failed", "malignant", "sick", "disease", "crack", "ja", "wahr", "defekt", "krank", "oui", "vrai", "si", "sí"),
    *("sim", "evet", "tak", "ano", "kyllä", "igen", "да", "так", "हाँ", "हां", "כן", "نعم", "ใช่", "예", "네"),
    *("異常", "陽性", "不良", "はい", "异常", "阳性", "是"),
)
"""Words that a finding has; the other of two words is its absence."""
_NEGATIVE = (
    *("normal", "negative", "healthy", "benign", "good", "ok", "okay", "intact", "clean", "pass", "passed", "absent"),
    *("uninfected", "unaffected", "undamaged", "unremarkable", "stable"),
    *("gesund", "unauffällig", "negativ", "gut", "intakt", "gutartig", "sain", "bénin", "négatif", "bon", "sano"),
    *("negativo", "benigno", "bueno", "sana", "норма", "здоров"),
    *("正常", "陰性", "阴性", "良性", "良", "合格", "ปกติ", "정상", "음성"),
    *("سلبي", "سليم", "طبيعي", "नकारात्मक", "सामान्य", "תקין", "שלילי"),
)
"""Words for that nothing is the matter."""
_YES_OR_NO = ({"0", "1"}, {"0.0", "1.0"}, {"true", "false"}, {"t", "f"}, {"y", "n"}, {"yes", "no"})


def answer_of(values: Mapping[str, int], has_more: bool = False, *, kind: str | None = None) -> dict[str, Any]:
    """Propose the `answer` of a task by its labels and how often each occurs.

    Args:
        values: Number of rows by label.
        has_more: Whether there are more different labels than these.
        kind: What a person has said it is.

    Raises:
        TaskError: there is no such kind, or the labels cannot be of it.
    """
    words = {value.strip() for value in values if value.strip()}
    numbers = plain_numbers(words)
    around = _around_numbers(words)
    match kind or _kind(values, words, numbers, has_more=has_more, has_template=around is not None):
        case "binary":
            return _of_two(words, values)
        case "choice":
            _refuse_orders(words)
            return {"kind": "choice", "options": _options(words, values)}
        case "number":
            template = {} if around is None else {"template": f"{around[0]}{{}}{around[1]}"}
            return {"kind": "number", **template, **_of_numbers(numbers if around is None else _inside(words, around))}
        case "text":
            return {"kind": "text"}
        case other:
            raise TaskError(f"kind must be binary, choice, number or text, got {other!r}")


def _kind(values: Mapping[str, int], words: set[str], numbers: list[str], *, has_more: bool, has_template: bool) -> str:
    if not has_more and len(words) == 2:
        return "binary"
    if has_template:
        return "number"
    few = not has_more and len(words) <= MAX_OPTIONS and max(map(len, words), default=0) <= _MAX_OPTION_LENGTH
    if (
        few
        and len(words) > 1
        and sum(values.values()) >= 2 * len(words)
        and (len(numbers) < len(words) or len(words) < 7)
    ):
        return "choice"
    return "number" if numbers and len(numbers) >= 0.9 * len(words) else "text"


def _options(words: set[str], values: Mapping[str, int]) -> list[str]:
    """The words as the most rows spell them; signs without a letter or digit, such as `-`, stand for no answer."""
    said = (word for word in words if any(map(str.isalnum, word)))
    spelled: dict[str, str] = {}
    for word in sorted(said, key=lambda word: (-values.get(word, 0), word)):
        spelled.setdefault(word.casefold(), word)
    return sorted(spelled.values())


def _refuse_orders(words: set[str]) -> None:
    """Refuse several labels in one cell whose order differs: as options they would be two where they are one."""
    seen: dict[tuple[str, ...], str] = {}
    for word in sorted(words):
        parts = tuple(sorted(part.strip() for part in re.split(r"[|;,/+&]", word)))
        if len(parts) > 1 and (other := seen.setdefault(parts, word)) != word:
            told = f"{other!r} and {word!r} are the same labels in another order, and a choice has one of them"
            raise TaskError(f"{told}; write them in one order, or say --set kind=text")


def _of_two(words: set[str], values: Mapping[str, int]) -> dict[str, Any]:
    if _say_yes_or_no(words):
        return {"kind": "binary", "positive": "Yes", "negative": "No"}
    if len(words) != 2:
        raise TaskError(f"a binary answer is one of two words; the labels are {', '.join(sorted(words)[:5]) or 'none'}")
    # The word for a finding, else the rarer of the two.
    first, second = sorted(words, key=lambda word: (_rank(word), values[word], word))
    return {"kind": "binary", "positive": first, "negative": second}


def _rank(word: str) -> int:
    plain = word.casefold()
    if plain in _POSITIVE:
        return _POSITIVE.index(plain)
    # Of `no tumor` and `tumor`, and of NORMAL and PNEUMONIA, the second is the finding, however often it occurs.
    return len(_POSITIVE) + (plain in _NEGATIVE or says_not(plain) or plain.startswith("non-"))


def are_yes_or_no(column: Column) -> bool:
    """Return whether a column says yes or no, in words or as 1 and 0."""
    return not column.has_more and _say_yes_or_no(column.values)


def _say_yes_or_no(words: Iterable[str]) -> bool:
    return {word.strip().casefold() for word in words} - {""} in _YES_OR_NO


def plain_numbers(words: Collection[str]) -> list[str]:
    """Those that are numbers, with a decimal point and nothing else; all read in the way that most of them fit.

    Words that differ in their unit (`2 years`, `3 weeks`) or in a letter behind (`4a`, `4b`) are no numbers.
    """
    best: list[str] = []
    if not are_of_one_unit(words):
        return best
    for written in WAYS_OF_WRITING:
        fitting = [word for word in words if parse_number(word, written) is not None]
        if len(fitting) > len(best):
            best = [_plainly(word, written) for word in fitting]
    return best


def _plainly(word: str, written: NumberFormat) -> str:
    plain = word.replace(written.thousands, "").replace(written.decimal, ".")
    # What stands with its unit, as `62 %` and `3 kg`, has no digits to be counted.
    return plain if re.fullmatch(r"[-+]?\d*\.?\d+", plain) else f"{parse_number(word, written):.15g}"


def _around_numbers(words: set[str]) -> tuple[str, str] | None:
    """What stands before and after the number of every label, as in `Price is $12.50`; None where that differs."""
    parts = [re.fullmatch(r"(\D*?)([-+]?\d[\d.,]*)(\D*)", word) for word in words]
    around = {(part[1], part[3]) for part in parts if part}
    [only] = around if len(around) == 1 and all(parts) and len(words) > 2 else [("", "")]
    return only if any(text.strip() for text in only) else None


def _inside(words: set[str], around: tuple[str, str]) -> list[str]:
    return plain_numbers([word[len(around[0]) : len(word) - len(around[1])] for word in words])


def _of_numbers(numbers: list[str]) -> dict[str, Any]:
    return {"decimals": _decimals(numbers), **_bounds(numbers)}


def _decimals(numbers: list[str]) -> int:
    """Digits after the point that nine of ten labels need."""
    lengths = Counter(len(number.rpartition(".")[2].rstrip("0")) if "." in number else 0 for number in numbers)
    seen = 0
    for length in sorted(lengths):
        seen += lengths[length]
        if seen >= 0.9 * len(numbers):
            return min(length, 4)
    return 2


def _bounds(numbers: list[str]) -> dict[str, float]:
    """What no label is below, where that is likely no accident."""
    return {} if any(number.strip().startswith("-") for number in numbers) else {"minimum": 0}
