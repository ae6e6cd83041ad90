"""A record's cells: found by the name of their column, and as text."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from typing import Any

import orjson

from finetune_assets.task.dialect import EMPTY

Cells = dict[str, Any]
"""A record: its cells by column."""


class LabelName(str):
    """The name that a table's own list of labels gives a number; `number` is what stands in the cell."""

    __slots__ = ("number",)
    number: int

    def __new__(cls, name: str, number: int) -> LabelName:
        """Build the name of a number."""
        made = super().__new__(cls, name)
        made.number = number
        return made


def label_name(names: Sequence[object], found: object) -> object:
    """Return the name that a list of labels gives a number; None for -1, which data sets write for no label."""
    if not isinstance(found, int) or isinstance(found, bool) or found >= len(names):
        return found
    return LabelName(str(names[found]), found) if found >= 0 else None


def cell(row: Cells, column: str) -> object:
    """Return a cell of a record, None where it has none.

    `a.b` is the key `b` of the object in column `a`, and `a.0` the first entry of the list there.
    """
    if column in row or "." not in column:
        return row.get(column)
    first, rest = column.split(".", 1)
    inner = row.get(first)
    if isinstance(inner, list):
        inner = {str(place): entry for place, entry in enumerate(inner)}
    return cell(inner, rest) if isinstance(inner, dict) else None


def text(value: object, empty: Container[str] = frozenset(EMPTY)) -> str:
    """Return a cell as text without white space around it; "" where it is empty, null, not a number or a marker."""
    if isinstance(value, str):
        plain = value.strip()
        return "" if plain in empty else plain
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        return _decoded(value).strip()
    written = orjson.dumps(value, default=str).decode() if isinstance(value, (dict, list)) else str(value).strip()
    return "" if written == "NaT" else written


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return ""
