"""Numbered steps from an empty database to the tables of `schema`; a released step is never edited.

SQLite's `user_version` holds the number of steps done. PostgreSQL, which came later, begins with the tables of `schema`
as they are; its table `home` holds the number, and from there on the same steps follow.
"""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing

from sqlalchemy import Connection, inspect, text

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server.database.schema import Row

_OWNED = ("files", "uploads", "jobs", "batches")
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE files (
            number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, id VARCHAR NOT NULL UNIQUE,
            created_at INTEGER NOT NULL, expires_at INTEGER, filename VARCHAR NOT NULL, purpose VARCHAR NOT NULL,
            bytes INTEGER NOT NULL, deleted BOOLEAN NOT NULL)""",
        """CREATE TABLE jobs (
            number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, id VARCHAR NOT NULL UNIQUE,
            created_at INTEGER NOT NULL, status VARCHAR NOT NULL, model VARCHAR NOT NULL, base VARCHAR NOT NULL,
            training_file VARCHAR NOT NULL, validation_file VARCHAR, suffix VARCHAR, seed INTEGER NOT NULL,
            hyperparameters JSON NOT NULL, metadata JSON, tuned_model VARCHAR NOT NULL,
            estimated_finish INTEGER, finished_at INTEGER, trained_tokens INTEGER, result_file VARCHAR,
            error JSON, interruptions INTEGER NOT NULL)""",
        "CREATE INDEX jobs_by_status ON jobs (status, number)",
        """CREATE TABLE events (
            number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, id VARCHAR NOT NULL UNIQUE,
            created_at INTEGER NOT NULL, job_id VARCHAR NOT NULL, level VARCHAR NOT NULL, type VARCHAR NOT NULL,
            message VARCHAR NOT NULL, data JSON)""",
        "CREATE INDEX events_by_job ON events (job_id, number)",
        """CREATE TABLE models (
            number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, id VARCHAR NOT NULL UNIQUE,
            created_at INTEGER NOT NULL, job_id VARCHAR NOT NULL, base VARCHAR NOT NULL, path VARCHAR NOT NULL,
            step INTEGER, checkpoint_id VARCHAR UNIQUE, metrics JSON, deleted BOOLEAN NOT NULL)""",
        "CREATE INDEX models_by_job ON models (job_id, number)",
    ),
    (
        "ALTER TABLE files ADD COLUMN content VARCHAR NOT NULL DEFAULT ''",
        "UPDATE files SET content = id",
        "CREATE INDEX files_by_content ON files (content)",
        "ALTER TABLE jobs ADD COLUMN method VARCHAR NOT NULL DEFAULT 'supervised'",
        "ALTER TABLE jobs ADD COLUMN integrations JSON",
        "ALTER TABLE jobs ADD COLUMN validated BOOLEAN NOT NULL DEFAULT 1",
        "UPDATE jobs SET validated = 0 WHERE status = 'validating_files'",
        "ALTER TABLE jobs ADD COLUMN idempotency_key VARCHAR",
        "ALTER TABLE jobs ADD COLUMN request_hash VARCHAR",
        "CREATE INDEX jobs_by_idempotency_key ON jobs (idempotency_key)",
        "CREATE INDEX jobs_by_request_hash ON jobs (request_hash)",
        """CREATE TABLE uploads (
            number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, id VARCHAR NOT NULL UNIQUE,
            created_at INTEGER NOT NULL, status VARCHAR NOT NULL, filename VARCHAR NOT NULL, purpose VARCHAR NOT NULL,
            bytes INTEGER NOT NULL, mime_type VARCHAR NOT NULL, expires_at INTEGER NOT NULL, file_expires_in INTEGER,
            file_id VARCHAR)""",
        """CREATE TABLE upload_parts (
            number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, id VARCHAR NOT NULL UNIQUE,
            created_at INTEGER NOT NULL, upload_id VARCHAR NOT NULL, bytes INTEGER NOT NULL)""",
        "CREATE INDEX upload_parts_by_upload ON upload_parts (upload_id, number)",
        """CREATE TABLE batches (
            number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, id VARCHAR NOT NULL UNIQUE,
            created_at INTEGER NOT NULL, status VARCHAR NOT NULL, endpoint VARCHAR NOT NULL, model VARCHAR,
            input_file_id VARCHAR NOT NULL, completion_window VARCHAR NOT NULL, metadata JSON,
            output_expires_in INTEGER, expires_at INTEGER NOT NULL, stamps JSON NOT NULL, errors JSON,
            output_file_id VARCHAR, error_file_id VARCHAR, usage JSON,
            total INTEGER NOT NULL, completed INTEGER NOT NULL, failed INTEGER NOT NULL)""",
        "CREATE INDEX batches_by_status ON batches (status, number)",
    ),
    (
        "CREATE TABLE home (id VARCHAR NOT NULL)",
        "INSERT INTO home VALUES (lower(hex(randomblob(16))))",
    ),
    (
        *(f"ALTER TABLE {table} ADD COLUMN owner VARCHAR NOT NULL DEFAULT ''" for table in _OWNED),
        *(f"CREATE INDEX {table}_by_owner ON {table} (owner)" for table in _OWNED),
        # Without AUTOINCREMENT, so that the folder's seal does not count it.
        """CREATE TABLE tokens_of_day (
            number INTEGER NOT NULL PRIMARY KEY, id VARCHAR NOT NULL UNIQUE, created_at INTEGER NOT NULL,
            tokens INTEGER NOT NULL)""",
    ),
    (
        "ALTER TABLE jobs ADD COLUMN claim INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN worker VARCHAR",
        "ALTER TABLE jobs ADD COLUMN lease_until DOUBLE",
        "ALTER TABLE jobs ADD COLUMN state VARCHAR",
        "ALTER TABLE batches ADD COLUMN claim INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE batches ADD COLUMN lease_until DOUBLE",
        "ALTER TABLE models ADD COLUMN calibration JSON",
    ),
    (
        # Without AUTOINCREMENT, as nothing in the folder belongs to its rows.
        """CREATE TABLE completions (
            number NUMBERED NOT NULL PRIMARY KEY, id VARCHAR NOT NULL UNIQUE, created_at COUNTED NOT NULL,
            model VARCHAR NOT NULL, metadata JSON, asked JSON NOT NULL, completion JSON NOT NULL,
            bytes COUNTED NOT NULL, expires_at COUNTED NOT NULL, deleted BOOLEAN NOT NULL, owner VARCHAR NOT NULL)""",
        "CREATE INDEX completions_by_owner ON completions (owner)",
    ),
    ("ALTER TABLE jobs ADD COLUMN reinforcement JSON",),
)


class DatabaseTooNewError(FinetuneAssetsError, RuntimeError):
    """The database was written by a later version of this package."""


def migrate(connection: Connection) -> None:
    """Bring the database up to date inside the connection's transaction, which is alone in writing.

    Raises:
        DatabaseTooNewError: the database has seen more steps than this version knows.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    done = connection.exec_driver_sql("PRAGMA user_version").scalar_one() if is_sqlite else _begun(connection)
    if done > len(MIGRATIONS):
        raise DatabaseTooNewError(
            f"the database is of version {done}, this package knows {len(MIGRATIONS)}: "
            "upgrade finetune_assets or choose another --home"
        )
    for statements in MIGRATIONS[done:]:
        for statement in statements:
            connection.exec_driver_sql(_in_dialect(statement, is_sqlite=is_sqlite))
    if is_sqlite:
        connection.exec_driver_sql(f"PRAGMA user_version = {len(MIGRATIONS)}")
    elif done < len(MIGRATIONS):
        connection.execute(text("UPDATE home SET version = :done"), {"done": len(MIGRATIONS)})


def differs(connection: sqlite3.Connection) -> str | None:
    """Say in what the tables of a SQLite database are not those of the version that it says it has; None if they are.

    A later version's are not known.
    """
    [[version]] = connection.execute("PRAGMA user_version")
    if version > len(MIGRATIONS):
        return None
    if version < 0:
        return f"it says that it is of version {version}"
    for kind, name in connection.execute("SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')"):
        return f"it has a {kind} {name}, which no version makes"
    tables = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'"
    with closing(sqlite3.connect(":memory:")) as wanted, closing(sqlite3.connect(":memory:")) as trial:
        try:
            for (statement,) in connection.execute(tables).fetchall():
                trial.execute(statement)
            _take_steps(trial, version)
        except sqlite3.Error as error:
            return f"its tables are not those of version {version}: {error}"
        _take_steps(wanted, 0)
        lacking = sorted(_columns(wanted) - _columns(trial))
    return f"it has no {lacking[0]}" if lacking else None


def _take_steps(connection: sqlite3.Connection, done: int) -> None:
    for statements in MIGRATIONS[done:]:
        for statement in statements:
            connection.execute(_in_dialect(statement, is_sqlite=True))


def _columns(connection: sqlite3.Connection) -> set[str]:
    """Name all columns with their tables."""
    found = connection.execute(
        "SELECT c.name || ' in its table ' || t.name FROM sqlite_master t, pragma_table_info(t.name) c "
        "WHERE t.type = 'table'"
    )
    return {name for (name,) in found}


def _in_dialect(statement: str, *, is_sqlite: bool) -> str:
    """Put in the types of numbers, which PostgreSQL has of several sizes."""
    types = (
        {"NUMBERED": "INTEGER", "COUNTED": "INTEGER"} if is_sqlite else {"NUMBERED": "BIGSERIAL", "COUNTED": "BIGINT"}
    )
    for word, named in types.items():
        statement = statement.replace(word, named)
    return statement


def _begun(connection: Connection) -> int:
    """Return how many steps a PostgreSQL database has seen; an empty one gets all tables, and has seen all."""
    if not inspect(connection).has_table("home"):
        Row.metadata.create_all(connection)
        connection.exec_driver_sql("CREATE TABLE home (id VARCHAR NOT NULL, version INTEGER NOT NULL)")
        named = {"id": secrets.token_hex(16), "done": len(MIGRATIONS)}
        connection.execute(text("INSERT INTO home VALUES (:id, :done)"), named)
    return connection.exec_driver_sql("SELECT version FROM home").scalar_one()
