"""The rows that a query gives, from any database that SQLAlchemy speaks to.

The address is in an environment variable, because it usually holds a password; a file of SQLite may be named directly.
Rows are streamed, and the connection changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

from upath import UPath

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.reading.cells import Cells
from finetune_assets.dataset.reading.header import require
from finetune_assets.dataset.sources import columns
from finetune_assets.dataset.sources.places import locate
from finetune_assets.dataset.sources.tables import Table
from finetune_assets.errors import SourceError
from finetune_assets.task.annotations import SqlSource
from finetune_assets.task.answers import Answer

_ROWS_AT_ONCE = 1_000


def read(source: SqlSource, region: str, answer: Answer) -> Iterator[Example]:
    """Stream the rows of one region.

    Raises:
        SourceError: the database cannot be reached, refuses the query, or gives no such column.
    """
    return columns.read_tables(source, _tables(source), region, answer)


def regions(source: SqlSource) -> Iterator[str]:
    """Stream the region of each row that has one."""
    return columns.row_regions(source, _tables(source))


def _tables(source: SqlSource) -> Iterator[Table]:
    folder = UPath(source.folder or ".")
    yield Table(folder / (source.url_from or source.path or ""), "row", partial(_rows, source))


def _rows(source: SqlSource) -> Iterator[tuple[int, Cells | str]]:
    try:
        from sqlalchemy import create_engine, text
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise SourceError("SQLAlchemy is not installed; run: pip install 'finetune_assets[sql]'") from error
    where = source.url_from or source.path or ""
    try:
        engine = create_engine(_url(source))
        with engine.connect().execution_options(stream_results=True, yield_per=_ROWS_AT_ONCE) as connection:
            found = connection.execute(text(source.query))
            require(UPath(where), columns.needed(source), list(found.keys()), "the query gives the columns")
            for number, row in enumerate(found.mappings(), 1):
                yield number, dict(row)
    except (SQLAlchemyError, ImportError) as error:
        # SQLAlchemy's own words hold the query, but never the address with its password.
        raise SourceError(f"{where}: {_first_line(error)}") from error


def _url(source: SqlSource) -> Any:
    from sqlalchemy.engine import URL, make_url
    from sqlalchemy.exc import ArgumentError

    if source.path is not None:
        file = locate(source.path, source.folder)
        return URL.create("sqlite", database=f"file:{file}", query={"mode": "ro", "uri": "true"})
    variable = source.url_from or ""
    if not (written := os.environ.get(variable)):
        raise SourceError(f"{variable}: the environment variable that `url_from` names is not set")
    try:
        return make_url(written)
    except (ArgumentError, ValueError) as error:
        # The address itself is not shown: it holds a password.
        example = "postgresql+psycopg://user:password@host/database"
        raise SourceError(f"{variable}: holds no address such as {example}") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
