"""Numbered steps from an empty database to the tables of `schema`; a released step is never edited.

SQLite's `user_version` holds the number of steps done.
"""

from __future__ import annotations

from sqlalchemy import Connection

from finetune_assets.errors import FinetuneAssetsError

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
)


class DatabaseTooNewError(FinetuneAssetsError, RuntimeError):
    """The database was written by a later version of this package."""


def migrate(connection: Connection) -> None:
    """Bring the database up to date inside the connection's transaction.

    Raises:
        DatabaseTooNewError: the database has seen more steps than this version knows.
    """
    done = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if done > len(MIGRATIONS):
        raise DatabaseTooNewError(
            f"the database is of version {done}, this package knows {len(MIGRATIONS)}: "
            "upgrade finetune_assets or choose another --home"
        )
    for statements in MIGRATIONS[done:]:
        for statement in statements:
            connection.exec_driver_sql(statement)
    connection.exec_driver_sql(f"PRAGMA user_version = {len(MIGRATIONS)}")
