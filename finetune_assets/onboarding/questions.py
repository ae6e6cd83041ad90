"""What is asked of each row: the column of the question, the columns that make one, or a question about the image."""

from __future__ import annotations

import re

from finetune_assets.dataset.choices import with_choices
from finetune_assets.dataset.column_looks import Column
from finetune_assets.errors import TaskError
from finetune_assets.onboarding.answers import are_yes_or_no
from finetune_assets.task.sources import columns_in

NONE = "none"
"""What a person says where a part is not there."""
MAX_TOLD = 20
"""Columns that a question made of all of them names."""
_INSTRUCTED = ("instruction", "input")
"""Columns of the instruction format: what is to be done, and with what."""
_PAIRS = (("premise", "hypothesis"), ("context", "question"), ("passage", "question"), ("title", "body"))
"""Columns of which one says nothing without the other."""
_ONE_OF_TWO = re.compile(r"(.*?[^\W\d_][\W_]*)([12]|(?<=[\W_])[ab])")


def together(asked: str, columns: list[Column]) -> str | None:
    """Return the question that columns make together: an instruction with its input, two sentences; else None."""
    names = {column.name.casefold(): column.name for column in columns}
    if all(name in names for name in _INSTRUCTED):
        return f"{{{names['instruction']}}}\n{{{names['input']}}}"
    pairs = [pair for pair in _PAIRS if asked.casefold() in pair]
    if one := _ONE_OF_TWO.fullmatch(asked.casefold()):
        first, second = ("1", "2") if one[2] in "12" else ("a", "b")
        pairs.append((one[1] + first, one[1] + second))
    pair = next((pair for pair in pairs if all(name in names for name in pair)), None)
    return None if pair is None else "\n".join(f"{names[name]}: {{{names[name]}}}" for name in pair)


def made_up(left: list[Column], answer: Column | None, *, pictured: bool, region: str) -> str:
    """Return what is asked where no column holds a question: about the image, else all that is known of a row.

    Args:
        left: Columns that are nothing else.
        answer: That of the answer, None where it is no column.
        pictured: Whether there is an image.
        region: Column of the region, "" where it is none.
    """
    if pictured:
        if answer is None or answer.name.endswith("?"):
            return "What does this image show?" if answer is None else answer.name
        return f'Is "{answer.name}" true of this image?' if are_yes_or_no(answer) else "What does this image show?"
    told = [column.name for column in left if not (column.is_key or set("{}") & set(column.name))]
    if region and told:
        told.insert(0, region)
    if not told or answer is None:
        return NONE
    asks = f'Is "{answer.name}" true' if are_yes_or_no(answer) else f"What is {answer.name}"
    return f"{', '.join(f'{name}: {{{name}}}' for name in told[:MAX_TOLD])}. {asks}?"


def showing_choices(asked: str, answer: Column | None, columns: list[Column]) -> tuple[str, list[str]]:
    """Return the question with what its answers stand for, and their signs, where there are columns of that.

    Args:
        asked: A column, or a text.
        answer: That of the answer.
        columns: All others that are no part yet, and that of the question.

    Raises:
        TaskError: answers are signs, and what they stand for cannot be shown.
    """
    if answer is None or ("{" in asked and asked.endswith("?")):  # what `made_up` asks tells everything
        return asked, []
    question = f"{{{asked}}}" if any(column.name == asked for column in columns) else asked
    shown = {asked, *columns_in(asked)}
    others = [column for column in columns if column.name not in shown]
    try:
        told, signs = with_choices(question, answer.values, others)
    except TaskError as error:
        raise TaskError(f"{error}; name the question by --set question=") from None
    return (told, signs) if signs else (asked, [])
