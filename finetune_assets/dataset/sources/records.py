"""Tables of every format, a record at a time: CSV, TSV, JSON, JSONL and Parquet.

Each record is its cells by column, or what is wrong with it; one bad record never hides the others.
"""

from __future__ import annotations

import csv
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import orjson
from upath import UPath

from finetune_assets.dataset.json_lines import BYTE_ORDER_MARK, JsonProblem, kind, lines
from finetune_assets.errors import SourceError

Cells = dict[str, Any]
ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
_DELIMITERS = (",", "\t", ";", "|")
_MAX_LINES_OF_A_RECORD = 1000
"""A quoted CSV cell may hold line breaks; one that is still open after so many lines was never closed."""


def table_files(path: UPath, endings: Collection[str] = ENDINGS) -> list[UPath]:
    """List the tables that a path means: the file itself, or all that lie anywhere in the folder, by name.

    Raises:
        SourceError: the file ends otherwise, or the folder holds none.
    """
    if not path.is_dir():
        if path.suffix.lower() not in endings:
            found = path.suffix or "no suffix"
            raise SourceError(f"{path}: the file must end in {', '.join(endings)}, got {found!r}")
        return [path]
    files = (file for file in path.rglob("*") if file.suffix.lower() in endings and file.is_file())
    found = sorted((file for file in files if not file.name.startswith((".", "_"))), key=str)
    if not found:
        raise SourceError(f"{path}: the folder holds no file that ends in {', '.join(endings)}")
    return found


@contextmanager
def opening(path: UPath) -> Iterator[None]:
    """Turn what the file system objects to into a `SourceError` that names the file."""
    try:
        yield
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error


def rows(path: UPath, needed: Collection[str], optional: Collection[str] = ()) -> Iterator[tuple[int, Cells | str]]:
    """Stream each record's line (JSON: entry, Parquet: row) from 1, with its cells or what is wrong with it.

    Args:
        path: The table; its ending says its format.
        needed: Columns that must be there. JSON and JSONL have no header, so there each record is judged by itself.
        optional: Columns that are read where they are there; a Parquet table's other columns are not read.

    Raises:
        SourceError: the table cannot be opened, is of another format, or lacks a column.
    """
    [table] = table_files(path)
    with opening(table):
        yield from _READERS[table.suffix.lower()](table, needed, optional)


def record_name(path: UPath) -> str:
    """Return what the records of a table are called: line, entry or row."""
    return {".json": "entry", ".parquet": "row"}.get(path.suffix.lower(), "line")


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


def text(value: object) -> str:
    """Return a cell as text without white space around it; "" where it is empty, null or not a number."""
    if isinstance(value, str):
        return value.strip()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return orjson.dumps(value, default=str).decode() if isinstance(value, (dict, list)) else str(value).strip()


def _jsonl_rows(path: UPath, *_: object) -> Iterator[tuple[int, Cells | str]]:
    for number, row in lines(path):
        if not isinstance(row, JsonProblem):
            yield number, row
        elif row.code != "blank_line":
            yield number, row.message


def _json_rows(path: UPath, *_: object) -> Iterator[tuple[int, Cells | str]]:
    for number, entry in enumerate(entries_of(path, json_value(path)), 1):
        yield number, entry if type(entry) is dict else f"entry {number} must be an object, found {kind(entry)}"


def json_value(path: UPath) -> Any:
    """Read a JSON file.

    Raises:
        SourceError: it cannot be opened, or is no JSON (the message names line and column).
    """
    try:
        with opening(path):
            return orjson.loads(path.read_bytes().removeprefix(BYTE_ORDER_MARK))
    except orjson.JSONDecodeError as error:
        raise SourceError(f"{path}: line {error.lineno}, column {error.colno}: {error.msg}; mend the JSON") from error


def entries_of(path: UPath, found: object) -> list[Any]:
    """Return what was `found` in a JSON file where it is a list.

    Raises:
        SourceError: it is something else.
    """
    if type(found) is not list:
        keys = f" with the keys {', '.join(list(found)[:5])}" if type(found) is dict else ""
        raise SourceError(f"{path}: must be a list of entries, found {kind(found)}{keys}")
    return found


def _csv_rows(path: UPath, needed: Collection[str], *_: object) -> Iterator[tuple[int, Cells | str]]:
    with path.open("r", encoding="utf-8-sig", errors="replace", newline=None) as file:
        header, delimiter = _header(file.readline(), needed)
        _require(path, needed, header)
        for number, cells in _csv_records(_Lines(file, 2), delimiter, len(header)):
            yield number, cells if isinstance(cells, str) else dict(zip(header, cells, strict=True))


def _header(line: str, needed: Collection[str]) -> tuple[list[str], str]:
    """Split a header at the delimiter that finds the most of the needed columns, else the most columns.

    Spreadsheets write semicolons where the comma is the decimal one, and call the file CSV all the same.
    """
    headers = [
        ([name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])], delimiter)
        for delimiter in _DELIMITERS
    ]
    return max(headers, key=lambda found: (len(set(needed) & set(found[0])), len(found[0])))


class _Lines(Iterator[tuple[int, str]]):
    """The lines of a file with their numbers, which may be put back to be read again."""

    def __init__(self, file: Iterable[str], first: int) -> None:
        self._unread = enumerate(file, first)
        self._put_back: deque[tuple[int, str]] = deque()

    def __next__(self) -> tuple[int, str]:
        return self._put_back.popleft() if self._put_back else next(self._unread)

    def put_back(self, taken: list[tuple[int, str]]) -> None:
        self._put_back.extendleft(reversed(taken))


def _csv_records(lines: _Lines, delimiter: str, n_cells: int) -> Iterator[tuple[int, list[str] | str]]:
    """Stream each record's first line with its cells or what is wrong with it; blank lines are no records."""
    for number, record in lines:
        if record.strip():
            cells = _cells(record, delimiter, n_cells)
            yield number, _continued(record, lines, delimiter, n_cells) if cells is None else cells


def _continued(record: str, lines: _Lines, delimiter: str, n_cells: int) -> list[str] | str:
    """Read on where a quote is open at the end of a line.

    A quote left open by mistake would swallow all that follows. So the next lines are taken only if the quote closes
    soon and the record then has its cells; else its first line alone is bad, and the others are read by themselves.
    """
    taken: list[tuple[int, str]] = []
    for line in islice(lines, _MAX_LINES_OF_A_RECORD):
        taken.append(line)
        if '"' in line[1]:  # no other line can close it
            cells = _cells(record + "".join(text for _, text in taken), delimiter, n_cells)
            if isinstance(cells, list):
                return cells
            if cells is not None:
                break
    lines.put_back(taken)
    return f"the line opens a quote that is not closed where its last cell ends: {record.strip()[:60]!r}"


def _cells(record: str, delimiter: str, n_cells: int) -> list[str] | str | None:
    """Return a record's cells, what is wrong with it, or None where a quote is still open at its end."""
    if "\ufffd" in record:
        return "the line is not UTF-8; save the file as UTF-8"
    try:
        cells = next(csv.reader([record], delimiter=delimiter, strict=True))
    except csv.Error as error:
        return None if "unexpected end" in str(error) else f"the line cannot be parsed ({error}): {record[:60]!r}"
    if len(cells) != n_cells:
        return f"the line has {len(cells)} cells, the header {n_cells}: {record.strip()[:60]!r}"
    return cells


def _parquet_rows(path: UPath, needed: Collection[str], optional: Collection[str]) -> Iterator[tuple[int, Cells]]:
    import pyarrow
    import pyarrow.parquet

    with path.open("rb") as file:
        try:
            table = pyarrow.parquet.ParquetFile(file)
            found = table.schema_arrow.names
            _require(path, needed, found)
            columns = list(dict.fromkeys(_column(name, found) for name in (*needed, *optional)))
            columns = [name for name in columns if name in found]
            batches = table.iter_batches(batch_size=1024, columns=columns)
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), 1)
        except pyarrow.ArrowException as error:
            raise SourceError(f"{path}: is not a readable Parquet file: {error}") from error


def _require(path: UPath, needed: Collection[str], found: list[str]) -> None:
    if missing := [column for column in needed if _column(column, found) not in found]:
        if any("\ufffd" in name for name in found):
            raise SourceError(f"{path}: the header is not UTF-8; save the file as UTF-8")
        lacks = f"the table lacks the columns {', '.join(missing)}; it has {', '.join(found) or 'none'}"
        raise SourceError(f"{path}: {lacks}. Name those that are meant under `source` in the task's YAML file")


def _column(name: str, found: Collection[str]) -> str:
    """Return the table's own column in which `a.b` is looked for."""
    return name if name in found else name.split(".", 1)[0]


_READERS: dict[str, Callable[[UPath, Collection[str], Collection[str]], Iterator[tuple[int, Cells | str]]]] = {
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    ".json": _json_rows,
    ".jsonl": _jsonl_rows,
    ".ndjson": _jsonl_rows,
    ".parquet": _parquet_rows,
}
