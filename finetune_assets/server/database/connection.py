"""One SQLite file in WAL mode, shared by the server and its worker processes; transactions, and pages of rows."""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson
from sqlalchemy import Connection, Engine, Select, bindparam, create_engine, event, inspect, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.pool import NullPool

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server.database import seal
from finetune_assets.server.database.migrations import migrate
from finetune_assets.server.database.schema import Row

AnyRow = TypeVar("AnyRow", bound=Row)

_DISK_FULL = "the server's disk is full; delete files or models, or make room on the disk, and try again"


class UnknownCursorError(FinetuneAssetsError, LookupError):
    """A list was asked for the rows after one that it never held."""


class DiskFullError(FinetuneAssetsError, OSError):
    """There is no room left on the disk for what was to be stored."""


@dataclass(frozen=True, slots=True)
class Rows(Generic[AnyRow]):
    """One page of a list."""

    items: list[AnyRow]
    has_more: bool


class Database:
    """Opens (and, where needed, migrates) the file; rows it hands out stay readable after their transaction.

    Raises:
        DatabaseTooNewError: a later version of this package has written the file.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            if seal.read(path.parent) is not None:
                raise seal.SealBrokenError(path.parent, "missing", seal.held(path.parent))
            path.touch(0o600)
        self._engine = _open(path)
        event.listen(self._engine, "begin", _begin)
        self._for_writing = self._engine.execution_options(begin="BEGIN IMMEDIATE")
        self._for_reading = _open(path, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._kept = threading.local()
        with self._for_writing.begin() as connection:
            migrate(connection)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Begin a transaction that sees one state of the database and changes nothing."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Begin a transaction that holds the write lock of all processes from its start, and commits at its end.

        Raises:
            DiskFullError: there is no room for what it has written; nothing of it is.
        """
        with telling_of_a_full_disk(), Session(self._for_writing, expire_on_commit=False) as session, session.begin():
            yield session

    def read(self, query: Select[tuple[AnyRow]], **values: Any) -> list[AnyRow]:
        """Read rows that cannot be changed; `query` is from `records`, with bind parameters for the `values`.

        For what clients poll: on a connection that each thread keeps open, without the bookkeeping of a session, it
        takes a tenth of the time.
        """
        if not hasattr(self._kept, "connection"):
            self._kept.connection = self._for_reading.connect()
        found: Any = self._kept.connection.execute(query, values).all()
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
        # SQLite counts rows from 1.
        cursor = 2**62 if not ascending else 0
        if after is not None:
            table: Any = key.class_
            found = self.read(records(table).where(key == after))
            if not found:
                raise UnknownCursorError(f"no item with the id {after!r} to list from")
            cursor = found[0].number
        items = self.read(_page_of(query, key, ascending), **values, cursor=cursor, at_most=limit + 1)
        return Rows(items[:limit], len(items) > limit)

    def reached(self) -> tuple[str, dict[str, int]]:
        """Return the database's id, and the last number given out in each table."""
        with self.reading() as session:
            [[home]] = session.execute(text("SELECT id FROM home"))
            return home, {row.name: row.seq for row in session.execute(text("SELECT name, seq FROM sqlite_sequence"))}

    def checkpoint(self) -> None:
        """Bring what stands in the write-ahead log into the file itself, so that a copy of that alone is complete."""
        with self._for_reading.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close all connections; those that other threads read by close when these end."""
        self._engine.dispose()
        if hasattr(self._kept, "connection"):
            self._kept.connection.close()


def copy(database: Path, target: Path) -> None:
    """Write all that is committed by now to a new database file, while others go on reading and writing."""
    with closing(_connect(database)) as source, closing(sqlite3.connect(target)) as made:
        source.backup(made)


@contextmanager
def telling_of_a_full_disk() -> Iterator[None]:
    """Raise `DiskFullError` for what the system and SQLite say of a full disk, or of a quota that is used up."""
    try:
        yield
    except OperationalError as error:
        if getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
            raise
        raise DiskFullError(_DISK_FULL) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(_DISK_FULL) from error


def records(table: type[AnyRow]) -> Select[tuple[AnyRow]]:
    """Select all of a table's columns, under the names that its class gives them, for `Database.read`."""
    selected: Any = select(*[column.label(name) for name, column in inspect(table).c.items()])
    return selected


@lru_cache(maxsize=64)
def _page_of(query: Select[tuple[AnyRow]], key: InstrumentedAttribute[Any], ascending: bool) -> Select[tuple[AnyRow]]:
    # Kept, because putting a query together takes longer than SQLite takes to answer it.
    number, cursor = key.class_.number, bindparam("cursor")
    further, order = (number > cursor, number) if ascending else (number < cursor, number.desc())
    return query.where(further).order_by(order).limit(bindparam("at_most"))


def _open(path: Path, **options: Any) -> Engine:
    # Parameters hold what clients wrote, which no log is to repeat.
    options |= {"hide_parameters": True, "json_deserializer": orjson.loads}
    engine = create_engine(f"sqlite:///{path}", creator=lambda: _connect(path), **options)
    event.listen(engine, "connect", _configure)
    return engine


def _connect(path: Path) -> sqlite3.Connection:
    # Not "rwc": a database that has vanished must not be replaced by an empty one.
    address = path.resolve().as_uri() + "?mode=rw"
    return sqlite3.connect(address, uri=True, timeout=30, check_same_thread=False)


def _configure(connection: Any, _record: Any) -> None:
    # Python's sqlite3 would begin transactions late and on its own; SQLAlchemy's "begin" event does it instead.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")


def _begin(connection: Connection) -> None:
    # A transaction that turns to writing only later fails at once if another process wrote first, whatever the timeout.
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))
