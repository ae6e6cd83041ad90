"""One SQLite file in WAL mode, shared by the server and its worker processes; transactions, and pages of rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Select, create_engine, event, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server.database.migrations import migrate
from finetune_assets.server.database.schema import Row

AnyRow = TypeVar("AnyRow", bound=Row)


class UnknownCursorError(FinetuneAssetsError, LookupError):
    """A list was asked for the rows after one that it never held."""


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
        self._engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})
        event.listen(self._engine, "connect", _configure)
        event.listen(self._engine, "begin", _begin)
        self._for_writing = self._engine.execution_options(begin="BEGIN IMMEDIATE")
        with self._for_writing.begin() as connection:
            migrate(connection)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Begin a transaction that sees one state of the database and changes nothing."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Begin a transaction that holds the write lock of all processes from its start, and commits at its end."""
        with Session(self._for_writing, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def page(
    session: Session,
    query: Select[AnyRow],
    key: InstrumentedAttribute[Any],
    *,
    after: str | None,
    limit: int,
    ascending: bool = False,
) -> Rows[AnyRow]:
    """Take at most `limit` rows of `query` in the order of their numbers, after the one whose `key` is `after`.

    Raises:
        UnknownCursorError: no row has this key.
    """
    number = key.class_.number
    if after is not None:
        cursor = session.scalar(select(number).where(key == after))
        if cursor is None:
            raise UnknownCursorError(f"no item with the id {after!r} to list from")
        query = query.where(number > cursor if ascending else number < cursor)
    items = list(session.scalars(query.order_by(number if ascending else number.desc()).limit(limit + 1)))
    return Rows(items[:limit], len(items) > limit)


def _configure(connection: Any, _record: Any) -> None:
    # Python's sqlite3 would begin transactions late and on its own; SQLAlchemy's "begin" event does it instead.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")


def _begin(connection: Connection) -> None:
    # A transaction that turns to writing only later fails at once if another process wrote first, whatever the timeout.
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))
