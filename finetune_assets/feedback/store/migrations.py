"""Numbered steps from an empty database to the tables of `schema`, in SQL that both databases read.

A released step is never edited. The table `feedback_schema` holds the number of steps done.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from finetune_assets.errors import FinetuneAssetsError

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE items (
            number {counted}, task TEXT NOT NULL, region TEXT NOT NULL, example_id TEXT NOT NULL,
            content TEXT NOT NULL, split TEXT NOT NULL, question TEXT NOT NULL, image TEXT, label TEXT,
            label_value DOUBLE PRECISION, kind TEXT NOT NULL, options JSON NOT NULL, doubt TEXT,
            offer TEXT NOT NULL, offered BOOLEAN NOT NULL, shuffle TEXT NOT NULL, model TEXT, model_answer TEXT,
            probability DOUBLE PRECISION, base_answer TEXT, certainty DOUBLE PRECISION, disagreement DOUBLE PRECISION,
            n_judgements INTEGER NOT NULL, decided BOOLEAN NOT NULL, last_event BIGINT,
            UNIQUE (task, region, example_id))""",
        "CREATE INDEX items_by_doubt ON items (task, region, offered, decided, doubt, number)",
        "CREATE INDEX items_by_certainty ON items (task, region, offered, decided, certainty, number)",
        "CREATE INDEX items_by_disagreement ON items (task, region, offered, decided, disagreement, number)",
        "CREATE INDEX items_by_shuffle ON items (task, region, offered, shuffle, number)",
        "CREATE INDEX items_by_judgements ON items (task, region, offered, n_judgements, decided, shuffle, number)",
        "CREATE INDEX items_by_last_event ON items (task, region, last_event)",
        """CREATE TABLE events (
            number {counted}, key TEXT NOT NULL UNIQUE, item BIGINT NOT NULL REFERENCES items (number),
            reviewer TEXT NOT NULL, kind TEXT NOT NULL, answer TEXT, comment TEXT,
            undoes BIGINT UNIQUE REFERENCES events (number), content TEXT NOT NULL, shown JSON NOT NULL,
            seconds DOUBLE PRECISION, at DOUBLE PRECISION NOT NULL)""",
        "CREATE INDEX events_by_item ON events (item, number)",
        "CREATE INDEX events_by_reviewer ON events (reviewer, at, number)",
        """CREATE TABLE standings (
            item BIGINT NOT NULL REFERENCES items (number), reviewer TEXT NOT NULL, event BIGINT NOT NULL,
            kind TEXT NOT NULL, answer TEXT, PRIMARY KEY (item, reviewer))""",
        "CREATE INDEX standings_by_reviewer ON standings (reviewer, kind, event)",
        """CREATE TABLE decisions (
            item BIGINT NOT NULL PRIMARY KEY REFERENCES items (number), content TEXT NOT NULL, verdict TEXT NOT NULL,
            answer TEXT, reviewers JSON NOT NULL, n_judgements INTEGER NOT NULL, decided_at DOUBLE PRECISION NOT NULL,
            last_event BIGINT NOT NULL, comment TEXT)""",
        """CREATE TABLE leases (
            item BIGINT NOT NULL PRIMARY KEY REFERENCES items (number), reviewer TEXT NOT NULL, queue TEXT NOT NULL,
            place INTEGER NOT NULL, until DOUBLE PRECISION NOT NULL)""",
        "CREATE INDEX leases_by_reviewer ON leases (reviewer)",
        """CREATE TABLE reviewers (
            name TEXT NOT NULL PRIMARY KEY, password TEXT NOT NULL, failures INTEGER NOT NULL,
            last_failure DOUBLE PRECISION NOT NULL)""",
    ),
    (
        "ALTER TABLE items ADD COLUMN champion_answer TEXT",
        "ALTER TABLE decisions ADD COLUMN blind BOOLEAN NOT NULL DEFAULT FALSE",
        "ALTER TABLE decisions ADD COLUMN queue TEXT",
        # Nobody knows what was on the page when they were judged.
        "DELETE FROM decisions WHERE item IN (SELECT number FROM items WHERE split IN ('calibration', 'test'))",
        "UPDATE items SET decided = FALSE, n_judgements = 0 WHERE split IN ('calibration', 'test')",
        """CREATE TABLE handed (
            item BIGINT NOT NULL REFERENCES items (number), reviewer TEXT NOT NULL, content TEXT NOT NULL,
            queue TEXT NOT NULL, model BOOLEAN NOT NULL, others BOOLEAN NOT NULL, at DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (item, reviewer, content, queue))""",
        # They could do everything.
        "ALTER TABLE reviewers ADD COLUMN role TEXT NOT NULL DEFAULT 'admin'",
        "ALTER TABLE reviewers DROP COLUMN failures",
        "ALTER TABLE reviewers DROP COLUMN last_failure",
        """CREATE TABLE sessions (
            token TEXT NOT NULL PRIMARY KEY, reviewer TEXT NOT NULL, until DOUBLE PRECISION NOT NULL)""",
        "CREATE INDEX sessions_by_reviewer ON sessions (reviewer)",
    ),
    (
        "ALTER TABLE items ADD COLUMN original TEXT",
        """CREATE TABLE guides (
            task TEXT NOT NULL PRIMARY KEY, guidelines TEXT NOT NULL, judgements INTEGER NOT NULL,
            show_model JSON NOT NULL, gold DOUBLE PRECISION NOT NULL)""",
        """CREATE TABLE gold (
            item BIGINT NOT NULL PRIMARY KEY REFERENCES items (number), content TEXT NOT NULL, answer TEXT NOT NULL,
            reviewer TEXT NOT NULL, at DOUBLE PRECISION NOT NULL)""",
    ),
    (
        """CREATE TABLE asked (
            item BIGINT NOT NULL PRIMARY KEY REFERENCES items (number), given BOOLEAN NOT NULL,
            at DOUBLE PRECISION NOT NULL)""",
        """CREATE TABLE usage (
            task TEXT NOT NULL, region TEXT NOT NULL, model TEXT NOT NULL, day INTEGER NOT NULL, feature TEXT NOT NULL,
            bin INTEGER NOT NULL, n BIGINT NOT NULL, PRIMARY KEY (task, region, model, day, feature, bin))""",
        "CREATE INDEX items_by_split ON items (task, region, split, decided, number)",
    ),
    ("ALTER TABLE items ADD COLUMN pictures TEXT",),
)
# Both never give a number out again, and so the newest event is always the one with the largest.
_COUNTED = {
    "sqlite": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT",
    "postgresql": "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
}


class DatabaseTooNewError(FinetuneAssetsError, RuntimeError):
    """The feedback database was written by a later version of this package."""


def migrate(connection: Connection) -> None:
    """Bring the database up to date inside a transaction that is alone in writing.

    Raises:
        DatabaseTooNewError: the database has seen more steps than this version knows.
    """
    connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS feedback_schema (version INTEGER NOT NULL)")
    done = connection.exec_driver_sql("SELECT version FROM feedback_schema").scalar()
    if done == len(MIGRATIONS):
        return
    if done is None:
        connection.exec_driver_sql("INSERT INTO feedback_schema VALUES (0)")
        done = 0
    if done > len(MIGRATIONS):
        raise DatabaseTooNewError(
            f"the feedback database is of version {done}, this package knows {len(MIGRATIONS)}: "
            "upgrade finetune_assets, or name another database"
        )
    for statements in MIGRATIONS[done:]:
        for statement in statements:
            connection.exec_driver_sql(statement.format(counted=_COUNTED[connection.dialect.name]))
    connection.execute(text("UPDATE feedback_schema SET version = :done"), {"done": len(MIGRATIONS)})
