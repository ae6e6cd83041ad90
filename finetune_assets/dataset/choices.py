"""What a question of multiple choice may be answered with, which stands in a list or in columns of its own.

Whoever is asked for a letter has to be shown what it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from string import ascii_lowercase, ascii_uppercase

from finetune_assets.dataset.column_looks import Column
from finetune_assets.errors import TaskError

_COUNTED = (ascii_uppercase, ascii_lowercase, "0123456789", "123456789")
"""Ways of counting answers off, by single signs."""
_FEWEST = 3
"""Of two columns whose names differ in a sign, more often than not neither is an answer's, whatever they are called."""
_CALLED = re.compile(r"(?i)(.*[\W_])?(options?|choices?|answers?|endings?|alternatives?|solutions?|sol)[\W_]*")
"""What columns of answers are called before they are counted, which is enough for two of them."""


def with_choices(question: str, answers: Collection[str], columns: Sequence[Column]) -> tuple[str, list[str]]:
    """Add to a question's text what its answers stand for, where columns say it.

    Args:
        question: With its columns in braces.
        answers: The right ones that there are.
        columns: Those that are taken for nothing else.

    Returns:
        The text with a line for each answer, and the signs of all answers; the text as it was, and no signs, where the
        answers are no signs or no column says what they stand for.

    Raises:
        TaskError: whether the answers are counted from 0 or from 1 is not certain.
    """
    ways = [counted for counted in _COUNTED if answers and set(answers) <= set(counted)]
    if not ways:
        return question, []
    listed = next((column for column in columns if column.is_lists and not column.entries <= set(ways[0])), None)
    if listed is not None:
        signs = _signs(ways, answers, max(listed.sizes), listed.name)
        return _listed(question, listed, signs) if signs else (question, [])
    named = _counted_off(columns)
    if named and (signs := _signs(ways, answers, len(named), f"{named[0]} to {named[-1]}")):
        lines = "\n".join(f"{sign}: {{{name}}}" for sign, name in zip(signs, named, strict=True))
        return f"{question}\n{lines}", list(signs)
    if written := next((column for column in columns if column.is_written_lists), None):
        begin = _signs(ways, answers, max(map(ways[0].index, answers)) + 1, written.name)
        return f"{question}\nAnswers, from {begin[0]} on: {{{written.name}}}", list(begin)
    return question, []


def _signs(ways: Sequence[str], answers: Collection[str], n: int, where: str) -> str:
    """The signs of n answers in the only way of counting that has all that were seen; "" where none has."""
    fitting = [way[:n] for way in ways if n <= len(way) and set(answers) <= set(way[:n])]
    if len(fitting) > 1:
        told = f"whether the answers are counted from {fitting[0][0]} or {fitting[1][0]} in {where} is not certain"
        raise TaskError(f"{told}, as none is {fitting[0][0]} or {fitting[1][-1]}")
    return fitting[0] if fitting else ""


def _listed(question: str, column: Column, signs: str) -> tuple[str, list[str]]:
    if len(column.sizes) > 1:  # a line for an answer that is not there would set its row aside
        return f"{question}\nAnswers, from {signs[0]} on: {{{column.name}}}", list(signs)
    lines = "\n".join(f"{sign}: {{{column.name}.{place}}}" for place, sign in enumerate(signs))
    return f"{question}\n{lines}", list(signs)


def _counted_off(columns: Sequence[Column]) -> list[str]:
    """Columns whose names differ in a sign alone that counts them: `A` to `D`, `option_a` to `option_d`, `sol1` on."""
    names = {column.name.casefold(): column.name for column in columns if not column.is_images}
    for counted in (ascii_lowercase, *_COUNTED[2:]):
        for before in dict.fromkeys(name[:-1] for name in names if name.endswith(counted[0])):
            found: list[str] = []
            for sign in counted:
                if before + sign not in names:
                    break
                found.append(names[before + sign])
            if len(found) >= (2 if _CALLED.fullmatch(before) else _FEWEST):
                return found
    return []
