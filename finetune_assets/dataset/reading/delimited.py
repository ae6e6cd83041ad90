"""CSV tables of any dialect: what divides the cells and where the header is are found in the first lines.

A title, comments or a spreadsheet's `sep=;` may stand above the header; each record may end with one delimiter more.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import IO

from upath import UPath

from finetune_assets.dataset.reading.cells import Cells
from finetune_assets.dataset.reading.encoding import BROKEN, NOT_DECODED, encoding_of
from finetune_assets.dataset.reading.header import as_asked, first_full, holds_all, require, root
from finetune_assets.task.dialect import Dialect

_DELIMITERS = (",", "\t", ";", "|")
_SEP_LINE = re.compile(r"\ufeff?\"?sep=(.)\"?\n?", re.IGNORECASE)
"""What spreadsheets write above the header, and take as said."""
_FIRST_LINES = 200
"""Lines in which the header is looked for, and what ends a record is seen."""
_MAX_LINES_OF_A_RECORD = 1000
"""A quoted CSV cell may hold line breaks; one that is still open after so many lines was never closed."""
_MAX_LINES_OF_A_HEADER = 20


@dataclass(frozen=True, slots=True)
class Layout:
    """How one file is written."""

    encoding: str
    delimiter: str
    header: list[str]
    """The columns, as the task spells them; one that ends every line without a name or a cell is ""."""
    n_above: int
    """Lines before the first record."""
    one_more: bool
    """Whether each record ends with a delimiter that the header does not have."""


def csv_rows(
    path: UPath, needed: Collection[str], optional: Collection[str], dialect: Dialect
) -> Iterator[tuple[int, Cells | str]]:
    """Stream each record's first line, from 1, with its cells or what is wrong with it.

    Raises:
        SourceError: the table lacks a column, or has one twice.
    """
    layout = layout_of(path, (*needed, *optional), needed, dialect)
    header = layout.header
    with _opened(path, layout.encoding) as file:
        lines = _Lines(enumerate(islice(file, layout.n_above, None), layout.n_above + 1))
        for number, cells in _records(lines, layout):
            if isinstance(cells, str):
                yield number, cells
            elif cells == header:
                yield number, "the line repeats the header; remove it"
            else:
                yield number, dict(zip(header, cells, strict=True))


def layout_of(path: UPath, asked: Collection[str], needed: Collection[str], dialect: Dialect) -> Layout:
    """Find out how a file is written.

    Raises:
        SourceError: the table lacks one of the needed columns, or has one of those asked for twice.
    """
    encoding = encoding_of(path, dialect.encoding)
    with _opened(path, encoding) as file:
        first_lines = list(islice(file, _FIRST_LINES + (dialect.skip_lines or 0)))
    header = _header(first_lines, asked, needed, dialect)
    unread = any(BROKEN.search(name) for name in header.names)
    said = f"The header is not certain to be {encoding}. {NOT_DECODED}" if unread else ""
    require(path, needed, header.names, said or _advice(first_lines, header, (asked, needed), dialect))
    require(path, [column for column in asked if root(column, header.names) in header.names], header.names)
    width = _width(first_lines[header.end :], header)
    names = [*header.names, ""][:width]
    return Layout(encoding, header.delimiter, names, header.end, width > len(header.names))


def _advice(
    lines: Sequence[str], header: _Header, columns: tuple[Collection[str], Collection[str]], dialect: Dialect
) -> str:
    """Say what may be the reason that columns (asked, needed) are not there; "" where nothing shows one."""
    asked, needed = columns
    unstated = dialect.model_copy(update={"delimiter": None, "skip_lines": None})
    other = _header(lines, asked, needed, unstated)
    if unstated != dialect and holds_all(other.names, needed):
        return f"Line {other.end} has them, its cells divided by {other.delimiter!r}: mend `source.dialect`"
    if any(re.fullmatch(r"[-+\d.,]+", name) for name in header.names):
        return "The first line must name the columns; name those that are meant under `source` in the task's YAML file"
    return ""


def _opened(path: UPath, encoding: str) -> IO[str]:
    # Bytes that are not of the encoding stay there to be seen; those of UTF-16 cannot be kept.
    errors = "replace" if encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32")) else "surrogateescape"
    return path.open("r", encoding=encoding, errors=errors, newline=None)


@dataclass(frozen=True, slots=True)
class _Header:
    names: list[str]
    delimiter: str
    end: int
    """Lines up to and with the header."""


def _header(lines: Sequence[str], asked: Collection[str], needed: Collection[str], dialect: Dialect) -> _Header:
    """Find the first line that has all the needed columns, by whatever divides them; else the one that has the most.

    Spreadsheets write semicolons where the comma is the decimal one, and call the file CSV all the same.
    """
    start, delimiters = dialect.skip_lines or 0, _DELIMITERS
    if dialect.skip_lines is None and lines and (said := _SEP_LINE.fullmatch(lines[0])):
        start, delimiters = 1, (said[1], *_DELIMITERS)
    if not needed and dialect.skip_lines is None and (full := _full(lines, start, dialect, delimiters)) is not None:
        return full
    found: list[_Header] = []
    for at in range(start, len(lines)):
        if lines[at].strip():
            found.append(max(_readings(lines, at, asked, dialect, delimiters), key=lambda it: _likeness(it, needed)))
            if holds_all(found[-1].names, needed) and not (not needed and lines[at].startswith("#")):
                return found[-1]
            if dialect.skip_lines is not None:
                break
    return _chosen(found, needed)


def _full(lines: Sequence[str], start: int, dialect: Dialect, delimiters: Iterable[str]) -> _Header | None:
    """Find the header of a table of which nothing is known, by the delimiter that gives most lines as many cells.

    None where nothing divides them: the table has one column.
    """
    best, found = (0.0, 1), None
    for delimiter in dict.fromkeys((dialect.delimiter,) if dialect.delimiter else delimiters):
        reader = csv.reader(lines[start:], delimiter=delimiter, skipinitialspace=True)
        try:
            lined = [(cells, reader.line_num) for cells in reader if cells]
        except csv.Error:  # a cell is too long to be one
            continue
        [(usual, n)] = Counter(len(cells) for cells, _ in lined).most_common(1) or [(0, 0)]
        score = (n / max(1, len(lined)), usual)
        if usual > 1 and (found is None or score > best):
            # A remark begins with #, and so does a header that is as wide as its table.
            rows = [(cells, end) for cells, end in lined if len(cells) == usual or not cells[0].startswith("#")]
            cells, end = rows[first_full([sum(map(bool, map(str.strip, cells))) for cells, _ in rows])]
            best, found = score, _Header(as_asked(cells, ()), delimiter, start + end)
    return found


def _likeness(header: _Header, needed: Collection[str]) -> tuple[int, int]:
    return len(set(needed) & set(header.names)), len(header.names)


def _chosen(found: Sequence[_Header], needed: Collection[str]) -> _Header:
    """What is most likely the header where no line has all that is needed: the first of several cells."""
    return max(found, key=lambda it: (_likeness(it, needed)[0], len(it.names) > 1), default=_Header([], ",", 0))


def _readings(
    lines: Sequence[str], at: int, asked: Collection[str], dialect: Dialect, delimiters: Iterable[str]
) -> Iterator[_Header]:
    for delimiter in dict.fromkeys((dialect.delimiter,) if dialect.delimiter else delimiters):
        names, n_lines = _first_record(lines[at : at + _MAX_LINES_OF_A_HEADER], delimiter)
        yield _Header(as_asked(names, asked), delimiter, at + n_lines)


def _first_record(lines: Sequence[str], delimiter: str) -> tuple[list[str], int]:
    """Return the first record's cells and how many lines it takes: a header may hold line breaks."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        return next(reader, []), reader.line_num
    except csv.Error:
        return next(csv.reader(lines[:1], delimiter=delimiter), []), 1


def _width(lines: Sequence[str], header: _Header) -> int:
    """Return how many cells the records have, where that differs from the header's by empty ones at the end."""
    n_names = len(header.names)
    records = list(_parsed(lines, header.delimiter))
    widths = Counter(map(len, records))
    if not widths or widths[n_names]:
        return n_names
    [(width, _)] = widths.most_common(1)
    if width == n_names + 1 and not any(cells[-1].strip() for cells in records if len(cells) == width):
        return width
    return width if width < n_names and not any(header.names[width:]) else n_names


def _parsed(lines: Sequence[str], delimiter: str) -> Iterator[list[str]]:
    """Stream the cells of the first records, as far as they can be parsed."""
    records = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    with suppress(csv.Error):
        yield from (cells for cells in records if any(cells))


class _Lines(Iterator[tuple[int, str]]):
    """The lines of a file with their numbers, which may be put back to be read again."""

    def __init__(self, unread: Iterator[tuple[int, str]]) -> None:
        self._unread = unread
        self._put_back: deque[tuple[int, str]] = deque()

    def __next__(self) -> tuple[int, str]:
        return self._put_back.popleft() if self._put_back else next(self._unread)

    def put_back(self, taken: list[tuple[int, str]]) -> None:
        self._put_back.extendleft(reversed(taken))


def _records(lines: _Lines, layout: Layout) -> Iterator[tuple[int, list[str] | str]]:
    """Stream each record's first line with its cells or what is wrong with it; a line without a cell is no record."""
    for number, record in lines:
        if record.replace(layout.delimiter, " ").strip():
            cells = _cells(record, layout)
            yield number, _continued(record, lines, layout) if cells is None else cells


def _continued(record: str, lines: _Lines, layout: Layout) -> list[str] | str:
    """Read on where a quote is open at the end of a line.

    A quote left open by mistake would swallow all that follows. So the next lines are taken only if the quote closes
    soon and the record then has its cells; else its first line alone is bad, and the others are read by themselves.
    """
    taken: list[tuple[int, str]] = []
    for line in islice(lines, _MAX_LINES_OF_A_RECORD):
        taken.append(line)
        if '"' in line[1]:  # no other line can close it
            cells = _cells(record + "".join(text for _, text in taken), layout)
            if isinstance(cells, list):
                return cells
            if cells is not None:
                break
    lines.put_back(taken)
    return f"the line opens a quote that is not closed where its last cell ends: {record.strip()[:60]!r}"


def _cells(record: str, layout: Layout) -> list[str] | str | None:
    """Return a record's cells, what is wrong with it, or None where a quote is still open at its end."""
    if not record.isascii() and (broken := BROKEN.search(record)):
        if broken[0] == "\ufffd" and "utf-8" in layout.encoding:
            return "the line holds the sign \ufffd for a letter that was lost; export the table anew"
        return NOT_DECODED if "utf-8" in layout.encoding else f"the line is not {layout.encoding}"
    if '"' not in record:
        cells = record.rstrip("\n").split(layout.delimiter)
    else:
        try:
            cells = next(csv.reader([record], delimiter=layout.delimiter, strict=True, skipinitialspace=True))
        except csv.Error as error:
            return None if "unexpected end" in str(error) else f"the line cannot be parsed ({error}): {record[:60]!r}"
    if len(cells) != len(layout.header):
        return f"the line has {len(cells)} cells, the header {len(layout.header)}: {record.strip()[:60]!r}"
    if layout.one_more and cells[-1].strip():
        return f"the line has a cell more than the header: {cells[-1][:60]!r}"
    return cells
