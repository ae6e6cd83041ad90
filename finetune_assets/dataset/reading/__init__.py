"""The records of tables: CSV, TSV, JSON, JSON Lines, Parquet, Excel and OpenDocument, as a task's `dialect` says.

How a table is written is decided once for a file, and how its numbers are written once for a column: what the YAML
states, else what the file proves. Each record is its cells by column, or what is wrong with it; one bad record never
hides the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from upath import UPath

from finetune_assets.dataset.impostors import require_data
from finetune_assets.dataset.reading.cells import Cells
from finetune_assets.dataset.reading.delimited import csv_rows
from finetune_assets.dataset.reading.json_records import json_rows, jsonl_rows
from finetune_assets.dataset.reading.parquet import parquet_rows
from finetune_assets.dataset.reading.spreadsheet import sheet_rows
from finetune_assets.errors import SourceError
from finetune_assets.task.dialect import Dialect

_Reader = Callable[[UPath, Collection[str], Collection[str], Dialect], Iterator[tuple[int, Cells | str]]]
_READERS: dict[str, _Reader] = {
    ".csv": csv_rows,
    ".tsv": csv_rows,
    ".json": json_rows,
    ".jsonl": jsonl_rows,
    ".ndjson": jsonl_rows,
    ".parquet": parquet_rows,
    ".xlsx": sheet_rows,
    ".xlsm": sheet_rows,
    ".xls": sheet_rows,
    ".ods": sheet_rows,
}
ENDINGS = tuple(_READERS)
_OTHER_ENDINGS = {
    (".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".tar", ".tgz"): "; unpack it",
    (".pkl", ".pickle", ".joblib", ".pt", ".npy", ".npz", ".rdata", ".rds"): "; such a file could run code: save its "
    "table as Parquet",
    (".feather", ".arrow", ".orc", ".dta", ".sav", ".mat", ".h5"): "; save its table as Parquet",
    (".db", ".sqlite", ".sqlite3"): "; read a database by `kind: sql`",
    (".txt", ".dat", ".tab", ".psv"): "; call a table of texts .csv",
}
"""What to do about files that are not read."""


def table_files(path: UPath, endings: Collection[str] = ENDINGS) -> list[UPath]:
    """List the tables that a path means: the file itself, or all that lie anywhere in the folder, by name.

    Raises:
        SourceError: the file ends otherwise, or the folder holds none.
    """
    if not path.is_dir():
        if path.suffix.lower() not in endings:
            found = path.suffix or "no suffix"
            advice = next((words for ends, words in _OTHER_ENDINGS.items() if path.suffix.lower() in ends), "")
            raise SourceError(f"{path}: the file must end in {', '.join(endings)}, got {found!r}{advice}")
        return [path]
    files = (file for file in path.rglob("*") if file.suffix.lower() in endings and file.is_file())
    # A workbook that is open lies beside itself as `~$labels.xlsx`.
    found = sorted((file for file in files if not file.name.startswith((".", "_", "~$"))), key=str)
    if not found:
        told = f"{path}: the folder holds no file that ends in {', '.join(endings)}"
        raise SourceError(f"{told}; images in folders of classes are read by `kind: image_folder`")
    return found


@contextmanager
def opening(path: UPath) -> Iterator[None]:
    """Turn what the file system objects to into a `SourceError` that names the file."""
    try:
        yield
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error


def rows(
    path: UPath, needed: Collection[str], optional: Collection[str] = (), dialect: Dialect | None = None
) -> Iterator[tuple[int, Cells | str]]:
    """Stream each record's line (JSON: entry, Parquet and sheets: row) from 1, with its cells or what is wrong with it.

    Args:
        path: The table; its ending says its format.
        needed: Columns that must be there. JSON and JSONL have no header, so there one of the first records must
            have each.
        optional: Columns that are read where they are there; a Parquet table's other columns are not read.
        dialect: How the table is written, where the task states it.

    Raises:
        SourceError: the table cannot be opened, is of another format, or lacks a column.
    """
    [table] = table_files(path)
    with opening(table):
        require_data(table)
        yield from _READERS[table.suffix.lower()](table, needed, optional, dialect or Dialect())


def record_name(path: UPath) -> str:
    """Return what the records of a table are called: line, entry or row."""
    ending = path.suffix.lower()
    return {".json": "entry", ".parquet": "row"}.get(ending, "row" if _READERS.get(ending) is sheet_rows else "line")
