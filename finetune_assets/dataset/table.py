"""Tables between stages: Parquet files that are written and read in chunks, so that memory stays flat.

A file appears under its name only when it is complete. A process that is killed leaves the old file or the new one,
never half of one; what it had begun is a hidden file beside it, which the next writer removes.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.util import hash_pandas_object
from upath import UPath

CHUNK_ROWS = 4_000
"""Rows of a chunk: some 5 MB of text examples, and several times that while they are looked at one by one."""
_FIRST_ROWS = 1_000
_ABANDONED_AFTER_S = 3600


@dataclass(frozen=True)
class Table:
    """A finished Parquet file with one row per example."""

    path: UPath

    def __len__(self) -> int:
        with self.path.open("rb") as file:
            return _opened(file).metadata.num_rows

    def chunks(self, columns: Sequence[str] | None = None, rows: int = CHUNK_ROWS) -> Iterator[pd.DataFrame]:
        """Stream the rows in their order, at most so many at a time; the index goes on from chunk to chunk."""
        with self.path.open("rb") as file:
            yield from read_chunks(file, columns, rows)

    def batches(self, columns: Sequence[str], split: str, rows: int) -> Iterator[pa.RecordBatch]:
        """Stream the rows of a split in their order as Arrow has them, at most so many at a time."""
        with self.path.open("rb") as file:
            for batch in _opened(file).iter_batches(rows, columns=[*columns, "split"]):
                wanted = batch["split"].to_numpy(zero_copy_only=False) == split
                yield _with_all(batch.filter(pa.array(wanted)), columns)

    def frame(self, columns: Sequence[str] | None = None, split: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Read the rows into memory: all, or those of a split or of several, under a new index."""
        read = None if columns is None or split is None else list(dict.fromkeys([*columns, "split"]))
        wanted = [split] if isinstance(split, str) else split
        parts = [
            chunk if wanted is None else chunk.loc[chunk["split"].isin(wanted)]
            for chunk in self.chunks(read or columns)
        ]
        frame = pd.concat(parts, ignore_index=True)
        return frame if columns is None else frame.filter(list(columns))

    def first(self, n: int, *, split: str | None = None, having: str | None = None) -> pd.DataFrame:
        """Read the first rows, of a split and with a value in a column where these are given."""
        found: list[pd.DataFrame] = []
        for chunk in self.chunks(rows=_FIRST_ROWS):
            wanted = pd.Series(True, chunk.index)
            if split is not None:
                wanted &= chunk["split"] == split
            if having is not None:
                wanted &= chunk[having].notna()
            found.append(chunk.loc[wanted].head(n - sum(map(len, found))))
            if sum(map(len, found)) == n:
                break
        return pd.concat(found, ignore_index=True)


class TableWriter:
    """Writes a table chunk by chunk into an open binary file; columns and their types are fixed from the start."""

    def __init__(self, file: Any, dtypes: Mapping[str, str]) -> None:
        self._dtypes = dict(dtypes)
        empty = pd.DataFrame(columns=list(dtypes)).astype(self._dtypes)
        self._schema = pa.Schema.from_pandas(empty, preserve_index=False)
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")
        self.n_rows = 0

    def write(self, chunk: pd.DataFrame) -> None:
        """Add rows; columns that are lacking are missing values, others that are unknown are left out."""
        if chunk.empty:
            return
        typed = chunk.reindex(columns=list(self._dtypes)).astype(self._dtypes)
        self._writer.write_table(pa.Table.from_pandas(typed, self._schema, preserve_index=False))
        self.n_rows += len(chunk)

    def write_columns(self, columns: Mapping[str, Sequence[object]]) -> None:
        """Add rows from lists of plain values, of one length; None and columns that are lacking are missing values."""
        n_rows = len(next(iter(columns.values())))
        arrays = [
            pa.array(columns[field.name], field.type, from_pandas=True)
            if field.name in columns
            else pa.nulls(n_rows, field.type)
            for field in self._schema
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self.n_rows += n_rows

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, *_: object) -> None:
        # Finishes the file also where the block failed: left open, the writer would do so after the file is closed.
        self._writer.close()


def records(chunk: pd.DataFrame) -> list[dict[str, Any]]:
    """Turn a chunk into dictionaries, None where a value is missing."""
    names = list(chunk)
    columns = [pa.array(chunk[name], from_pandas=True).to_pylist() for name in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def hashes(chunk: pd.DataFrame) -> np.ndarray:
    """Hash each row, all columns together, to 64 bits: the same in every process; missing values are equal."""
    return hash_pandas_object(chunk, index=False).to_numpy()  # pyright: ignore[reportCallIssue]


@contextmanager
def writing(path: UPath, dtypes: Mapping[str, str]) -> Iterator[TableWriter]:
    """Write the table at `path`; it takes its place there when the block ends well."""
    with replacing(path) as file, TableWriter(file, dtypes) as writer:
        yield writer


def write_table(path: UPath, frame: pd.DataFrame) -> Table:
    """Write a frame that is in memory, without its index."""
    with replacing(path) as file:
        frame.to_parquet(file, index=False)
    return Table(path)


def read_chunks(file: Any, columns: Sequence[str] | None = None, rows: int = CHUNK_ROWS) -> Iterator[pd.DataFrame]:
    """Stream the rows of an open Parquet file, as `Table.chunks`; an empty file gives one empty chunk."""
    parquet = _opened(file)
    names = list(columns) if columns is not None else None
    first = 0
    for batch in parquet.iter_batches(rows, columns=names):
        chunk = pa.Table.from_batches([batch]).to_pandas()
        chunk.index = pd.RangeIndex(first, first + len(chunk))
        first += len(chunk)
        yield chunk if names is None else chunk.reindex(columns=names)
    if first == 0:
        empty = parquet.read(names).to_pandas()
        yield empty if names is None else empty.reindex(columns=names)


def _with_all(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """Choose columns; those that files of earlier versions lack hold nothing."""
    there = batch.schema.names
    arrays = [batch[name] if name in there else pa.nulls(len(batch), pa.large_string()) for name in columns]
    return pa.RecordBatch.from_arrays(arrays, list(columns))


def _opened(file: Any) -> pq.ParquetFile:
    # Buffering ahead would keep all row groups in memory at once: the whole file.
    return pq.ParquetFile(file, pre_buffer=False)


@contextmanager
def replacing(path: UPath) -> Iterator[Any]:
    """Open a binary file that takes its place under `path` when the block ends well, and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}-{time.monotonic_ns()}.tmp")
    if isinstance(path, Path):
        _remove_abandoned(path)
    try:
        with temporary.open("wb") as file:
            yield file
        if isinstance(path, Path):
            Path(str(temporary)).replace(path)
        else:
            path.fs.mv(temporary.path, path.path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _remove_abandoned(path: Path) -> None:
    """Remove what killed writers of this file left: at once those of this machine, others' when they are old."""
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        try:
            if _has_died(left) or time.time() - left.stat().st_mtime > _ABANDONED_AFTER_S:
                left.unlink()
        except FileNotFoundError:
            # Another writer removed or finished it meanwhile.
            continue


def _has_died(left: Path) -> bool:
    """Whether the writer of an unfinished file was a process of this machine that is no more."""
    writer = re.fullmatch(rf".*\.{re.escape(platform.node())}-(\d+)-\d+\.tmp", left.name)
    if writer is None:
        return False
    try:
        os.kill(int(writer[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it lives, under another user
    return False
