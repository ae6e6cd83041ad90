"""How the server's SQLite file is opened and copied."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

from finetune_assets.server.shortage import telling_of_shortages

BUSY_SECONDS = 30.0
"""How long a transaction waits for those of other processes."""
_POLLING_BUSY_SECONDS = 2.0
"""Single queries, which wait for nobody but at a database's recovery, may be on the event loop."""


def engines(path: Path) -> tuple[Engine, Engine]:
    """Open an existing file: for transactions, and for single queries outside of them."""
    for_transactions = _engine(path, BUSY_SECONDS)
    event.listen(for_transactions, "begin", _begin)
    return for_transactions, _engine(path, _POLLING_BUSY_SECONDS, poolclass=NullPool, isolation_level="AUTOCOMMIT")


def is_unwritable(error: BaseException | None) -> bool:
    """Whether SQLite says that the system does not let it write to a file or beside it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, sqlite3.Error) and code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)


def copy(database: Path, target: Path) -> None:
    """Write all that is committed by now to a new database file, while others go on reading and writing."""
    connected = closing(_connect(database, BUSY_SECONDS))
    with telling_of_shortages(), connected as source, closing(sqlite3.connect(target)) as made:
        source.backup(made)


def _engine(path: Path, patience: float, **options: Any) -> Engine:
    # Parameters hold what clients wrote, which no log is to repeat.
    options |= {"hide_parameters": True, "json_deserializer": orjson.loads}
    engine = create_engine(f"sqlite:///{path}", creator=lambda: _connect(path, patience), **options)
    event.listen(engine, "connect", _configure)
    return engine


def _connect(path: Path, patience: float) -> sqlite3.Connection:
    # Not "rwc": a database that has vanished must not be replaced by an empty one.
    address = path.resolve().as_uri() + "?mode=rw"
    return sqlite3.connect(address, uri=True, timeout=patience, check_same_thread=False)


def _configure(connection: Any, _record: Any) -> None:
    # Python's sqlite3 would begin transactions late and on its own; SQLAlchemy's "begin" event does it instead.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")


def _begin(connection: Connection) -> None:
    # A transaction that turns to writing only later fails at once if another process wrote first, whatever the timeout.
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))
