"""When a task looks at its regions again without being asked."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from finetune_assets.task.strict import Strict, Text

_SHORT = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)
"""Name, least and greatest value of each field of a cron expression, and words for its values, from the least on."""
_ENTRY = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/[1-9]\d*)?", re.ASCII)


def _a_schedule(found: str) -> str:
    fields = found.lower().split()
    if found.lower() in _SHORT:
        return found
    if len(fields) != len(_FIELDS):
        known = ", ".join(name for name, *_ in _FIELDS)
        raise ValueError(f'must be a cron expression of five fields ({known}), such as "0 2 * * *"; in UTC')
    for written, (name, least, most, words) in zip(fields, _FIELDS, strict=True):
        if not all(_is_entry(entry, least, most, words) for entry in written.split(",")):
            raise ValueError(f"the {name} must be *, or numbers from {least} to {most}, such as 1,3 or 1-5 or */2")
    return found


def _is_entry(entry: str, least: int, most: int, words: tuple[str, ...]) -> bool:
    if (match := _ENTRY.fullmatch(entry)) is None:
        return False
    values = [least + words.index(part) if part in words else part for part in match.groups() if part is not None]
    return all(isinstance(value, int) or (value.isdigit() and least <= int(value) <= most) for value in values)


class Rerun(Strict):
    """When a region is looked at again without being asked."""

    schedule: Annotated[Text, AfterValidator(_a_schedule)] = Field(
        default="0 2 * * *", description="Cron expression, UTC."
    )
    min_corrections: int = Field(
        default=20, ge=1, description="New corrections by reviewers that start a re-run at once."
    )
