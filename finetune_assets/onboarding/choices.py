"""What a question of multiple choice may be answered with, which stands in a list or in columns of its own.

Whoever is asked for a letter has to be shown what it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_lowercase, ascii_uppercase

from finetune_assets.onboarding.columns import Column

_COUNTED = (ascii_uppercase, ascii_lowercase, "0123456789", "123456789")
"""Ways of counting answers off, by single signs."""
_FEWEST = 3
"""Of two columns whose names differ in a sign, more often than not neither is an answer's."""


def with_choices(question: str, answer: Column, columns: Sequence[Column]) -> tuple[str, list[str]]:
    """Add to a question's text what its answers stand for, where columns say it.

    Args:
        question: With its columns in braces.
        answer: The column of the right answers.
        columns: Those that are taken for nothing else.

    Returns:
        The text with a line for each answer, and the signs of all answers; the text as it was, and no signs, where the
        answers are no signs or no column says what they stand for.
    """
    for counted in _COUNTED:
        if not answer.values or not set(answer.values) <= set(counted):
            continue
        listed = next((column for column in columns if column.is_lists and not _only_signs(column, counted)), None)
        if (
            listed is not None
            and (most := max(listed.sizes)) <= len(counted)
            and set(answer.values) <= {*counted[:most]}
        ):
            return _listed(question, listed, counted[:most])
        if told := _in_columns(columns, counted, answer.values):
            lines = "\n".join(f"{sign}: {{{name}}}" for sign, name in told.items())
            return f"{question}\n{lines}", list(told)
    return question, []


def _listed(question: str, column: Column, signs: str) -> tuple[str, list[str]]:
    if len(column.sizes) > 1:  # a line for an answer that is not there would set its row aside
        return f"{question}\nAnswers, from {signs[0]} on: {{{column.name}}}", list(signs)
    lines = "\n".join(f"{sign}: {{{column.name}.{place}}}" for place, sign in enumerate(signs))
    return f"{question}\n{lines}", list(signs)


def _only_signs(column: Column, counted: str) -> bool:
    """Whether a column lists the signs themselves, as some data sets do beside the texts."""
    return column.entries <= set(counted)


def _in_columns(columns: Sequence[Column], counted: str, answers: Mapping[str, int]) -> dict[str, str]:
    """The column of each sign, where their names differ in it alone: `A` to `D`, `option_a` to `option_d`."""
    names = {column.name.casefold(): column.name for column in columns if not column.is_images}
    for before in dict.fromkeys(name[:-1] for name in names if name.endswith(counted[0].casefold())):
        found: dict[str, str] = {}
        for sign in counted:
            if (name := names.get(before + sign.casefold())) is None:
                break
            found[sign] = name
        if len(found) >= _FEWEST and set(answers) <= found.keys():
            return found
    return {}
