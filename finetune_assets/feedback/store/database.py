"""The feedback database: SQLite in WAL mode by default, PostgreSQL by URL; transactions that mean the same on both.

One transaction writes at a time. SQLite works that way; on PostgreSQL a lock that all writers take first makes it so.
Reviewers write a few rows a second, and in return the numbers of events are the order in which they were committed.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

from finetune_assets import common_database
from finetune_assets.common_database import VARIABLE, telling_of_trouble, without_secrets
from finetune_assets.errors import FeedbackDatabaseError
from finetune_assets.feedback.store.migrations import migrate

_WAIT_SECONDS = 60
"""How long a writer waits for the others."""
_ADVISORY_LOCK = 7_223_081_502_611
"""The PostgreSQL lock that makes writers wait for each other; any number that nobody else uses."""


def url() -> str:
    """Return the database's SQLAlchemy URL: from FINETUNE_ASSETS_FEEDBACK_DB, else a SQLite file below `var`."""
    return os.environ.get(VARIABLE) or f"sqlite:///{Path.cwd() / 'var' / 'feedback.sqlite'}"


class FeedbackDatabase:
    """Opens the database and brings it up to date; used by several threads and processes at once.

    Raises:
        FeedbackDatabaseError: the URL is none, or nobody answers there.
        DatabaseTooNewError: a later version of this package has written it.
    """

    def __init__(self, url: str | None = None) -> None:
        self._url = common_database.parsed(url or globals()["url"]())
        self._engine = _open(self._url)
        self._for_writing = self._engine.execution_options(writes=True)
        self._for_reading = self._engine
        # SQLite has writers look again and again whether it is their turn; threads of one process can wait for it.
        self._turn = Lock()
        if not self._sqlite:
            self._for_reading = self._engine.execution_options(isolation_level="REPEATABLE READ")
        try:
            with self.writing() as connection:
                migrate(connection)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> FeedbackDatabase:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Begin a transaction that sees one state of the database and changes nothing.

        Raises:
            FeedbackDatabaseError: the database cannot be reached.
        """
        with telling_of_trouble(self._url), self._for_reading.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Begin a transaction that is alone in writing from its start, and commits at its end.

        Raises:
            FeedbackDatabaseError: the database cannot be reached, or others wrote for too long.
        """
        with self._turn, telling_of_trouble(self._url), self._for_writing.begin() as connection:
            if not self._sqlite:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @property
    def _sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"


def _open(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return common_database.engine(url)
    _make_file(url)
    # Parameters hold what reviewers wrote, which no log is to repeat.
    engine = create_engine(url, connect_args={"timeout": _WAIT_SECONDS}, hide_parameters=True)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _make_file(url: URL) -> None:
    """Make the file for nobody else to read: what people wrote is in it, and hashes of their passwords."""
    if url.database and url.database != ":memory:":
        path = Path(url.database)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            # SQLite gives the files beside it the same mode.
            if path.stat().st_mode & 0o077 and path.stat().st_uid == os.getuid():
                path.chmod(0o600)
        except OSError as error:
            reason = f"the feedback database {without_secrets(url)} cannot be made: {error.strerror}"
            raise FeedbackDatabaseError(f"{reason}; see {VARIABLE}") from None


def _configure(connection: Any, _record: Any) -> None:
    # Python's sqlite3 would begin transactions late and on its own; SQLAlchemy's "begin" event does it instead.
    connection.isolation_level = None
    until = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # SQLite itself does not wait for whoever else switches a new file to the write-ahead log.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _begin(connection: Connection) -> None:
    # A transaction that turns to writing only later fails at once if another process wrote first, whatever the timeout.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")
