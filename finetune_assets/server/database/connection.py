"""The server's database: one SQLite file in WAL mode by default, PostgreSQL by URL; transactions, and pages of rows.

What is looked for and then added is done by one transaction at a time, over all threads, processes and machines: SQLite
works that way, and on PostgreSQL a lock that such writers take first makes it so. Steps of jobs lock only their row.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Float, Select, bindparam, cast, extract, func, inspect, select, text
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.orm import InstrumentedAttribute, Session

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server.database import postgres, seal, sqlite_file
from finetune_assets.server.database.migrations import migrate
from finetune_assets.server.database.schema import Row
from finetune_assets.server.shortage import DATABASE, ShortageError, telling_of_shortages

AnyRow = TypeVar("AnyRow", bound=Row)

_ADVISORY_LOCK = 7_223_081_502_612
"""The PostgreSQL lock that makes such writers wait for each other; any number that nobody else uses."""
_OWN_CLOCK = bindparam("clock", callable_=time.time, type_=Float)


class UnknownCursorError(FinetuneAssetsError, LookupError):
    """A list was asked for the rows after one that it never held."""


class DatabaseUnreachableError(ShortageError, ConnectionError):
    """The database does not answer, or others wrote for too long. It may soon."""

    def __init__(self, message: str) -> None:
        super().__init__(DATABASE, message)


class UnwritableError(FinetuneAssetsError, OSError):
    """The system lets nobody write to the database's file."""


class UnstorableError(FinetuneAssetsError, ValueError):
    """The database has no place for a value."""


@dataclass(frozen=True, slots=True)
class Rows(Generic[AnyRow]):
    """One page of a list."""

    items: list[AnyRow]
    has_more: bool


class Database:
    """Opens (and, where needed, migrates) a database; rows it hands out stay readable after their transaction.

    Raises:
        DatabaseTooNewError: a later version of this package has written it.
        UnwritableError: it cannot be written.
        DatabaseAddressError: the address is no URL of a PostgreSQL database.
        DatabaseUnreachableError: nobody answers there.
    """

    def __init__(self, address: Path | str) -> None:
        self.shared = isinstance(address, str)
        """Whether it is one that several servers and workers use at once: PostgreSQL."""
        if isinstance(address, Path):
            if not address.exists():
                if seal.read(address.parent) is not None:
                    raise seal.SealBrokenError(address.parent, "missing", seal.held(address.parent))
                address.touch(0o600)
            self._engine, self._for_polling = sqlite_file.engines(address)
            self._for_reading = self._engine
        else:
            self._engine = postgres.engine(address)
            self._for_polling = self._engine.execution_options(isolation_level="AUTOCOMMIT")
            self._for_reading = self._engine.execution_options(isolation_level="REPEATABLE READ")
        self._for_writing = self._engine.execution_options(begin="BEGIN IMMEDIATE")
        self._kept = threading.local()
        try:
            with self.writing() as session:
                migrate(session.connection())
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Begin a transaction that sees one state of the database and changes nothing.

        Raises:
            ShortageError: the machine lacks something for it.
        """
        with _telling_of_trouble(), Session(self._for_reading, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Begin a transaction that is alone in this from its start, over all processes, and commits at its end.

        Raises:
            ShortageError: there is no room, or another process holds the lock; nothing of it is written.
        """
        with self.changing() as session:
            if self.shared:
                session.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
            yield session

    @contextmanager
    def changing(self) -> Iterator[Session]:
        """Begin a transaction for which it is enough to lock the rows that it selects `with_for_update`.

        On SQLite, which has one lock for everything, it is the same as `writing`.

        Raises:
            ShortageError: there is no room, or another process holds the lock; nothing of it is written.
        """
        with (
            _telling_of_trouble(),
            Session(self._for_writing, expire_on_commit=False) as session,
            session.begin(),
        ):
            # SQLAlchemy begins with the first statement; what is done before that one, on the disk, is to be alone too.
            session.connection()
            yield session

    @property
    def clock(self) -> ColumnElement[Any]:
        """The time in Unix seconds, by the one clock that all who use the database go by; for use in queries."""
        return cast(extract("epoch", func.clock_timestamp()), Float) if self.shared else _OWN_CLOCK

    def read(self, query: Select[tuple[AnyRow]], **values: Any) -> list[AnyRow]:
        """Read rows that cannot be changed; `query` is from `records`, with bind parameters for the `values`.

        For what clients poll: on a connection that each thread keeps open, without the bookkeeping of a session, it
        takes a tenth of the time. Connections to PostgreSQL are lent by a pool, which replaces those that were closed.
        """
        found: Any
        if self.shared:
            with _telling_of_trouble(), self._for_polling.connect() as connection:
                found = connection.execute(query, values).all()
            return found
        with telling_of_shortages():
            if not hasattr(self._kept, "connection"):
                self._kept.connection = self._for_polling.connect()
            found = self._kept.connection.execute(query, values).all()
        return found

    def page(
        self,
        query: Select[tuple[AnyRow]],
        key: InstrumentedAttribute[Any],
        *,
        after: str | None,
        limit: int,
        ascending: bool = False,
        **values: Any,
    ) -> Rows[AnyRow]:
        """Read at most `limit` rows of `query` in the order of their numbers, after the one whose `key` is `after`.

        Raises:
            UnknownCursorError: no row has this key.
        """
        # Both databases count rows from 1.
        cursor = 2**62 if not ascending else 0
        if after is not None:
            table: Any = key.class_
            found = self.read(records(table).where(key == after))
            if not found:
                raise UnknownCursorError(f"no item with the id {after!r} to list from")
            cursor = found[0].number
        items = self.read(_page_of(query, key, ascending), **values, cursor=cursor, at_most=limit + 1)
        return Rows(items[:limit], len(items) > limit)

    @property
    def home(self) -> str:
        """The database's id."""
        with self.reading() as session:
            return session.execute(text("SELECT id FROM home")).scalar_one()

    def reached(self) -> dict[str, int]:
        """Return the last number given out in each table of a SQLite file."""
        with self.reading() as session:
            return {row.name: row.seq for row in session.execute(text("SELECT name, seq FROM sqlite_sequence"))}

    def checkpoint(self) -> None:
        """Bring what stands in the write-ahead log into SQLite's file, so that a copy of that alone is complete."""
        with telling_of_shortages(), self._for_polling.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close all connections; those that other threads read by close when these end."""
        self._engine.dispose()
        if hasattr(self._kept, "connection"):
            self._kept.connection.close()


@contextmanager
def _telling_of_trouble() -> Iterator[None]:
    with telling_of_shortages():
        try:
            yield
        except DataError as error:
            raise UnstorableError("a character that cannot be stored, such as NUL, or a number too large") from error
        except DBAPIError as error:
            if sqlite_file.is_unwritable(error.orig):
                raise UnwritableError(
                    f"the database cannot be written ({error.orig}): look who may write to the folder that it is in, "
                    "to server.db, and to server.db-wal and server.db-shm beside it, which are files"
                ) from error
            if not postgres.is_unreachable(error):
                raise
            raise DatabaseUnreachableError(f"the database does not answer: {error.orig}") from error


def records(table: type[AnyRow]) -> Select[tuple[AnyRow]]:
    """Select all of a table's columns, under the names that its class gives them, for `Database.read`."""
    selected: Any = select(*[column.label(name) for name, column in inspect(table).c.items()])
    return selected


def having(
    database: Database, query: Select[Any], column: InstrumentedAttribute[Any], pairs: Mapping[str, str]
) -> Select[Any]:
    """Narrow a query to the rows whose metadata, in this column, has all these pairs."""
    for key, value in pairs.items():
        each = func.json_each_text if database.shared else func.json_each
        pair = each(column).table_valued("key", "value")
        query = query.where(select(pair.c.key).where(pair.c.key == key, pair.c.value == value).exists())
    return query


@lru_cache(maxsize=64)
def _page_of(query: Select[tuple[AnyRow]], key: InstrumentedAttribute[Any], ascending: bool) -> Select[tuple[AnyRow]]:
    # Kept, because putting a query together takes longer than SQLite takes to answer it.
    number, cursor = key.class_.number, bindparam("cursor")
    further, order = (number > cursor, number) if ascending else (number < cursor, number.desc())
    return query.where(further).order_by(order).limit(bindparam("at_most"))
