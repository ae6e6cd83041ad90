"""Sheets of Excel and OpenDocument workbooks: values as they were last calculated, dates and whole numbers as such."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Collection, Iterator
from datetime import datetime, time
from itertools import islice
from typing import Any

from upath import UPath

from finetune_assets.dataset.reading.cells import Cells
from finetune_assets.dataset.reading.header import as_asked, first_full, holds_all, require, root
from finetune_assets.errors import SourceError
from finetune_assets.task.dialect import Dialect

_FIRST_ROWS = 200
"""Rows in which the header is looked for."""
_MAX_BYTES = 1 << 30
"""Of a workbook unpacked; a small file may hold terabytes of zeros."""


def sheet_rows(
    path: UPath, needed: Collection[str], optional: Collection[str], dialect: Dialect
) -> Iterator[tuple[int, Cells | str]]:
    """Stream each row's number in its sheet, from 1, with its cells; blank rows are no records.

    Raises:
        SourceError: it is no workbook, has no such sheet or several with the columns, or lacks a column.
    """
    book = _opened(path)
    sheets = {name: book.get_sheet_by_name(name) for name in _names(path, book, dialect.sheet)}
    at, sheet = _with_header(path, sheets, (*needed, *optional), needed, dialect.skip_lines)
    header = as_asked(next(islice(sheet.iter_rows(), at, None)), (*needed, *optional))
    require(path, [column for column in (*needed, *optional) if root(column, header) in header], header)
    for number, row in enumerate(sheet.iter_rows(), 1):
        if number > at + 1 and any(part != "" for part in row):
            cells = {name: _plain(part) for name, part in zip(header, row, strict=True) if name}
            yield number, cells


def _opened(path: UPath) -> Any:
    from python_calamine import CalamineError, CalamineWorkbook

    data = io.BytesIO(path.read_bytes())
    if zipfile.is_zipfile(data):
        with zipfile.ZipFile(data) as parts:
            n_bytes = sum(part.file_size for part in parts.infolist())
        if n_bytes > _MAX_BYTES:
            raise SourceError(f"{path}: holds {n_bytes // 2**20} MiB unpacked; save the sheet as CSV or Parquet")
    data.seek(0)
    try:
        return CalamineWorkbook.from_filelike(data)
    except (CalamineError, OSError) as error:
        raise SourceError(f"{path}: is not a readable workbook: {error}; save the sheet as CSV") from error


def _names(path: UPath, book: Any, stated: str | None) -> list[str]:
    if stated is None:
        return book.sheet_names
    if stated not in book.sheet_names:
        raise SourceError(f"{path}: there is no sheet {stated!r}; there are {', '.join(book.sheet_names)}")
    return [stated]


def _with_header(
    path: UPath, sheets: dict[str, Any], asked: Collection[str], needed: Collection[str], skipped: int | None
) -> tuple[int, Any]:
    """Return the place of the header in the only sheet that has the needed columns, and the sheet."""
    filled = {name: sheet for name, sheet in sheets.items() if sheet.total_height and sheet.start is not None}
    found = {name: at for name, sheet in filled.items() if (at := _header(sheet, asked, needed, skipped)) is not None}
    if len(found) > 1:
        names = " and ".join(map(repr, found))
        raise SourceError(f"{path}: the sheets {names} have these columns; write `source.dialect: {{sheet: NAME}}`")
    if not found:
        for name, sheet in filled.items():
            rows = [row for row in islice(sheet.iter_rows(), _FIRST_ROWS) if any(part != "" for part in row)]
            widest = max(rows, key=lambda row: sum(part != "" for part in row))
            require(UPath(f"{path} [{name}]"), needed, as_asked(widest, asked))
        raise SourceError(f"{path}: no sheet has a header; it must stand in one of the first {_FIRST_ROWS} rows")
    [(name, at)] = found.items()
    return at, filled[name]


def _header(sheet: Any, asked: Collection[str], needed: Collection[str], skipped: int | None) -> int | None:
    if not needed and skipped is None:
        return first_full([sum(part != "" for part in row) for row in islice(sheet.iter_rows(), _FIRST_ROWS)])
    start = skipped or 0
    for at, row in enumerate(islice(sheet.iter_rows(), start, start + _FIRST_ROWS), start):
        if any(part != "" for part in row):
            if holds_all(as_asked(row, asked), needed):
                return at
            if skipped is not None:
                return None
    return None


def _plain(value: Any) -> Any:
    """Return a cell's value; a workbook keeps whole numbers as 3.0, and days as midnights."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    return value.date() if isinstance(value, datetime) and value.time() == time() else value
