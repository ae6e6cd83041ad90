"""What a task's YAML may say about how its tables are written. What it leaves out is found in the table, or refused."""

from __future__ import annotations

import codecs
from collections import Counter
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from finetune_assets.task.strict import Strict, Word

EMPTY = ("NULL", "null", "NaN", "nan", "N/A", "n/a", "#N/A", "None", "<NA>")
"""What programs write where there is nothing. A bare NA is no such marker: it is Namibia, and sodium."""


def _an_encoding(name: str) -> str:
    try:
        codecs.lookup(name)
        "".encode(name)
    except (LookupError, UnicodeError) as error:
        raise ValueError(f"{name!r} is no encoding of texts; write utf-8, cp1252, iso-8859-2 or the like") from error
    return name


def _of_texts(found: object) -> object:
    """Take `{0: intact}` as `{"0": intact}`: a cell's digits are compared as they are written."""
    if not isinstance(found, dict):
        return found
    if any(isinstance(part, bool) for pair in found.items() for part in pair):
        raise ValueError("YAML reads Yes, No, on and off as true and false; put the word in quotes")
    if twice := [key for key, count in Counter(map(str, found)).items() if count > 1]:
        raise ValueError(f"the cell {twice[0]!r} is named twice")
    return {str(key): value for key, value in found.items()}


def _one_character(found: str) -> str:
    if len(found) != 1:
        raise ValueError('must be one character, such as ";", or "\\t" for a tab')
    return found


Values = Annotated[dict[str, Word | int | float], BeforeValidator(_of_texts), Field(min_length=1)]
"""What the cells of the answer's column mean: `{0: intact, 1: crack}`."""


class Dialect(Strict):
    """How a table is written, where that cannot be told from the table, or is told wrongly."""

    encoding: Annotated[str, AfterValidator(_an_encoding)] | None = Field(
        default=None, description="Of a text file, such as cp1252 or utf-16; by default UTF-8, or what is certain."
    )
    delimiter: Annotated[str, AfterValidator(_one_character)] | None = Field(
        default=None, description="What divides a CSV's cells."
    )
    decimal: Literal[".", ","] | None = Field(
        default=None, description="The decimal sign of numbers that are texts; by default what the column proves."
    )
    thousands: Literal[".", ",", "'", " ", ""] | None = Field(
        default=None, description="What groups three digits; by default what the column proves."
    )
    skip_lines: int | None = Field(
        default=None, ge=0, le=1000, description="Lines above the header; by default those before the columns' names."
    )
    sheet: str | None = Field(
        default=None, min_length=1, description="Of a spreadsheet; by default the only one that has the columns."
    )
    records: str | None = Field(
        default=None, min_length=1, description="Key of the list in a JSON file; `a.b` is the key b within a."
    )
    empty: list[str] = Field(
        default=list(EMPTY), description="Cells that mean nothing, beside blank ones; an answer's own words never do."
    )

    @model_validator(mode="after")
    def _signs_differ(self) -> Dialect:
        if self.decimal is not None and self.decimal == self.thousands:
            raise ValueError(f"decimal and thousands must differ, both are {self.decimal!r}")
        if self.decimal is None and self.thousands is not None:
            raise ValueError("thousands needs decimal beside it, . or ,")
        return self

    @cached_property
    def empties(self) -> frozenset[str]:
        """The cells that mean nothing."""
        return frozenset(self.empty)
