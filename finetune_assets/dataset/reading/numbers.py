"""How a column writes its numbers, decided from all of its cells: what is not proved or stated is refused.

`1.234,50` proves a decimal comma, and so do `12,5` and `0,125`; `1.000.000` proves that points group. `1.234` alone
proves nothing: it may be a thousand or one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import cached_property
from typing import Literal, NamedTuple

from upath import UPath

from finetune_assets.dataset.answer_reading import units
from finetune_assets.dataset.answer_reading.number_format import (
    EXPONENT,
    PLAIN_SIGNS,
    NumberFormat,
    grouped_digits,
    parse_number,
)
from finetune_assets.errors import SourceError
from finetune_assets.task.dialect import Dialect

_SPACES = " \u00a0\u2009\u202f"
_TOKEN = re.compile(rf"(?<![\w.,])[.,]\d+|\d+(?:[.,'\u2019{_SPACES}]\d+)*")
_EXPONENT = re.compile(rf"(?<=\d){EXPONENT}")
_GROUPED = re.compile(rf"[1-9]\d{{0,2}}(?:(['\u2019{_SPACES}])\d{{3}})(?:\1\d{{3}})*(?=[.,]|$)")
_PLAIN = re.compile(r"-?\d+(?:([.,])\d{1,2})?", re.ASCII)
"""A cell that shows at most which sign is the decimal one."""
_UNIT = re.compile(
    rf"(?<=\d)\s?(?:{units.SPELLINGS})\.?$|[$€£¥₹]|(?:usd|eur|chf|gbp|jpy|inr|cny)\b",
    re.IGNORECASE,
)
_LETTER = re.compile(r"\d([^\W\d_²³¹])?$")
"""The letter that ends a cell, right after a digit, or none: `4a` is not 4 where others are `4b`."""
_Sign = Literal[".", ","]
_OTHER: dict[str, _Sign] = {",": ".", ".": ","}


class Where(NamedTuple):
    """A cell that shows something."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.text[:40]!r} ({self.place})"


class _Evidence:
    """What the cells of one column prove; of each proof the first cell."""

    def __init__(self) -> None:
        self.decimal: dict[str, Where] = {}
        self.thousands: dict[str, Where] = {}
        self.either: dict[str, Where] = {}
        """Cells of one sign before three digits, by the sign."""
        self.percent: dict[bool, Where] = {}
        self.units: dict[str, Where] = {}
        """Units that measure what others of them do."""
        self.letters: dict[str, Where] = {}
        """Letters that end cells as `_LETTER` finds them, "" for none; 0 is 0 whatever would follow it."""

    def add(self, place: str, text: str) -> None:
        """Take in a cell."""
        plain = _PLAIN.fullmatch(text)
        if plain and "" in self.letters and False in self.percent and (plain[1] is None or plain[1] in self.decimal):
            return  # one like it was there before
        tokens = _TOKEN.findall(_EXPONENT.sub("", text.translate(PLAIN_SIGNS)))
        if tokens:
            self.percent.setdefault("%" in text, Where(place, text))
        if unit := _UNIT.search(text.strip()):
            self.units.setdefault(units.name_of(unit[0]), Where(place, text))
        if (last := _LETTER.search(text.strip())) and re.search("[1-9]", text.translate(PLAIN_SIGNS)):
            self.letters.setdefault(last[1] or "", Where(place, text))
        if len(tokens) == 1 and not tokens[0].isdigit():
            self._weigh(tokens[0], Where(place, text))

    def _weigh(self, token: str, where: Where) -> None:
        if grouped := _GROUPED.match(token):
            self.thousands.setdefault("'" if grouped[1] in "'\u2019" else " ", where)
            rest = token[grouped.end() :]
            if rest[1:].isdigit():
                self.decimal.setdefault(rest[0], where)
            return
        last = token.replace(",", ".").rfind(".")
        sign, head, tail = token[last], token[:last], token[last + 1 :]
        if last < 0 or not tail.isdigit():
            return
        if head.isdigit() or not head:
            if len(tail) == 3 and 1 <= len(head) <= 3 and head[0] != "0":
                self.either.setdefault(sign, where)
            else:
                self.decimal.setdefault(sign, where)
        elif _is_grouped(head, _OTHER[sign]):
            self.decimal.setdefault(sign, where)
            self.thousands.setdefault(_OTHER[sign], where)
        elif _is_grouped(token, sign):
            self.thousands.setdefault(sign, where)


def _told_apart(letters: dict[str, Where]) -> tuple[Where, Where] | None:
    """Return two cells whose letters say that the numbers alone are not what is meant; None where there are none."""
    found = list(letters)
    # `5k` is read as what it is; `5M` or `5K` among plain numbers may be a million or metres.
    plain_beside = "" in letters and all(letter == "k" or units.is_unit(letter) for letter in found if letter)
    if len(found) < 2 or (len(found) == 2 and plain_beside):
        return None
    return letters[found[0]], letters[found[1]]


def are_of_one_unit(cells: Iterable[str]) -> bool:
    """Return whether cells may be numbers of one column: none of another unit, or with a letter that tells it apart."""
    evidence = _Evidence()
    for cell in cells:
        evidence.add("", cell)
    return len(evidence.units) < 2 and len(evidence.percent) < 2 and _told_apart(evidence.letters) is None


def _is_grouped(digits: str, sign: str) -> bool:
    return re.fullmatch(grouped_digits(re.escape(sign)), digits) is not None


class NumberColumn:
    """The numbers of one column of one table.

    Args:
        path: The table.
        column: Its name, for messages.
        cells: Streams all of the column's cells, each with its place in words; called at most once.
        dialect: What the task states.
    """

    def __init__(
        self, path: UPath, column: str, cells: Callable[[], Iterator[tuple[str, object]]], dialect: Dialect
    ) -> None:
        self._path, self._column, self._cells, self._dialect = path, column, cells, dialect

    def share(self, found: object) -> float | None:
        """Read a score, a number or a text: `85 %` is 0.85 where all cells of the column are in percent.

        Raises:
            SourceError: as `format`.
        """
        if not isinstance(found, str):
            number = float(found) if isinstance(found, int | float | Decimal) else math.nan
            return number if math.isfinite(number) else None
        value = parse_number(found, self.format)
        if value is None:
            return None
        return float(f"{value / 100:.15g}") if "%" in found else value

    @cached_property
    def format(self) -> NumberFormat:
        """The column's format, as stated or proved.

        Raises:
            SourceError: the column's cells contradict each other, are of several units, or do not tell what one means.
        """
        self._require_one_unit()
        if (decimal := self._dialect.decimal) is not None:
            thousands = self._dialect.thousands
            return NumberFormat(decimal, _OTHER[decimal] if thousands is None else thousands)
        decimal = self._decimal()
        grouping = [sign for sign in self._evidence.thousands if sign != decimal]
        return NumberFormat(decimal, grouping[0] if grouping else _OTHER[decimal])

    @cached_property
    def _evidence(self) -> _Evidence:
        evidence = _Evidence()
        for place, found in self._cells():
            if isinstance(found, str):
                evidence.add(place, found)
            elif isinstance(found, int | float):
                evidence.percent.setdefault(False, Where(place, str(found)))
        return evidence

    def _decimal(self) -> _Sign:
        """Return the decimal sign that the cells prove."""
        found = self._evidence
        proofs = {_OTHER[sign]: where for sign, where in found.thousands.items() if sign in _OTHER} | found.decimal
        grouped_otherwise = next((where for sign, where in found.thousands.items() if sign not in _OTHER), None)
        if not proofs and grouped_otherwise:  # then a point or comma groups nothing
            proofs = dict(found.either)
        if len(proofs) > 1:
            raise self._error(
                f"{proofs[',']} shows a decimal comma, {proofs['.']} a decimal point; mend the table, or write "
                '`source.dialect: {decimal: ","}` (or "."), and what is written otherwise is set aside'
            )
        if not proofs and found.either:
            sign, where = next(iter(found.either.items()))
            token = _TOKEN.findall(where.text)[0]
            raise self._error(
                f"{where} may be {token.replace(sign, '.')} or {token.replace(sign, '')}, and no cell shows which; "
                f'write `source.dialect: {{decimal: "{sign}"}}` for the first, `{{decimal: "{_OTHER[sign]}"}}` '
                "for the second"
            )
        return "," if "," in proofs else "."

    def _require_one_unit(self) -> None:
        percent, found = self._evidence.percent, self._evidence.units
        if len(percent) > 1:
            raise self._error(
                f"{percent[True]} is in percent and {percent[False]} is not; write all cells the same way"
            )
        if (two := _told_apart(self._evidence.letters)) is not None:
            raise self._error(
                f"{two[0]} and {two[1]} differ in the letter behind the number; write plain numbers of one unit, or, "
                "where the letter belongs to the answer, let `answer` be a choice or a text"
            )
        if len(found) > 1:
            one, other = list(found.values())[:2]
            raise self._error(f"{one} and {other} are of different units; write all cells in the same one")

    def _error(self, what: str) -> SourceError:
        return SourceError(f"{self._path}: column {self._column}: {what}")
