"""The answers in a table's cells: what `source.values` says they mean, and numbers as their column writes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from finetune_assets.dataset.answer_reading.number_format import NumberFormat
from finetune_assets.dataset.example import Example
from finetune_assets.dataset.quarantine import Reason
from finetune_assets.dataset.reading.cells import Cells, LabelName, cell, text
from finetune_assets.dataset.reading.numbers import NumberColumn
from finetune_assets.dataset.sources.filling import filled, only_column, words_of
from finetune_assets.dataset.sources.origin import Origin
from finetune_assets.dataset.sources.tables import Table
from finetune_assets.task.answers import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer, ScoreAnswer
from finetune_assets.task.sources import Tables, columns_in


class AnswerCells:
    """The answers of one table.

    Args:
        source: What the task says of its tables.
        written: The text of columns that an answer is made of.
        table: The table; it is read once more when the first number that is a text needs to know how they are written.
        answer: What an answer must be.
    """

    def __init__(self, source: Tables, written: str, table: Table, answer: Answer) -> None:
        self._values, self._written, self._table, self.answer = source.values, written, table, answer
        self._column = only_column(written)
        self._empty = _empties(source, answer)
        self.numbers = NumberColumn(table.path, words_of(written), self._all, source.dialect)
        """How the table writes them."""

    def found(self, row: Cells) -> object:
        """Return what a row has as its answer: a cell by itself as it is, else a text; "" where a cell is empty.

        The number of a Parquet table needs no detour through text.
        """
        if self._column is None:
            return filled(self._written, row, self._empty)
        found = cell(row, self._column)
        as_text = text(found, self._empty)
        return as_text if not as_text or isinstance(found, bytes) else found

    def missing(self, row: Cells) -> str | None:
        """Return the first of the answer's columns that is empty in a row."""
        return next((column for column in columns_in(self._written) if not text(cell(row, column), self._empty)), None)

    def example(self, origin: Origin, found: object, **fields: Any) -> Example:
        """Build the example of a row whose answer was `found`, or its problem."""
        if self._values is not None:
            spellings = _as_written(found)
            if not (known := [self._values[spelling] for spelling in spellings if spelling in self._values]):
                allowed = ", ".join(self._values)
                detail = f"{origin.words}: {spellings[0][:40]!r} is none of the cells in source.values: {allowed}"
                return origin.make(problem=Reason.UNPARSEABLE_ANSWER, detail=detail, **fields)
            return origin.example(known[0], self.answer, **fields)
        return origin.example(found, self.answer, self._format(found), **fields)

    def _format(self, found: object) -> NumberFormat | None:
        is_number = isinstance(self.answer, NumberAnswer) and isinstance(found, str) and found.strip()
        return self.numbers.format if is_number else None

    def _all(self) -> Iterator[tuple[str, object]]:
        for number, row in self._table.rows():
            if not isinstance(row, str):
                yield f"{self._table.record} {number}", self.found(row)


def _empties(source: Tables, answer: Answer) -> frozenset[str]:
    """Return the cells that are no answer: a marker such as None is one where the task has an answer of that name."""
    words = list(source.values or ())
    if isinstance(answer, BinaryAnswer):
        words += [answer.positive, answer.negative]
    elif isinstance(answer, ChoiceAnswer | ScoreAnswer):
        words += answer.options
    own = {word.strip().casefold() for word in words}
    return frozenset(marker for marker in source.dialect.empties if marker.casefold() not in own)


def _as_written(found: object) -> list[str]:
    """Return a cell as `source.values` may spell it."""
    if isinstance(found, bool):
        return [str(found).lower()]
    if isinstance(found, LabelName):
        return [str(found), str(found.number)]
    if isinstance(found, float) and found.is_integer():
        return [str(int(found))]
    return [text(found, ())]
