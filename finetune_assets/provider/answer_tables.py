"""Where answers lie: a file of SQLite on this machine, or a table in the database that machines have in common.

Both keep an answer in a transaction of its own: what kills the process takes the answers under way and no other.
SQLite's write-ahead log makes that cheap, lets the runs of several regions share the file, and drops a torn end by its
checksum.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock

from finetune_assets.common_database import common_engine, run, telling_of_trouble
from finetune_assets.errors import AnswerCacheError

Row = tuple[bytes, str]
"""A key, and a reply in JSON."""
_AT_ONCE = 1000
"""Rows that are sent to a database together."""
_ADVISORY_LOCK = 5_290_113_774_026
"""The PostgreSQL lock of whoever makes the table or writes many rows; any number that nobody else uses."""


class AnswerTable(Protocol):
    """Replies by key. Threads and processes may share it."""

    def get(self, key: bytes) -> str | None:
        """Return the reply that was kept last under a key."""
        ...

    def put(self, key: bytes, reply: str) -> None:
        """Keep a reply."""
        ...

    def put_all(self, rows: Iterable[Row]) -> None:
        """Keep many replies, or none of them if anything fails."""
        ...

    def close(self) -> None:
        """Close what was opened."""
        ...


class AnswerFile:
    """One file, opened or made; its oldest quarter is forgotten where it has more than `max_bytes`.

    Raises:
        AnswerCacheError: it is damaged, or no such file.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite does not wait for whoever else switches a new file to the write-ahead log.
        with FileLock(path.with_name(f"{path.name}.lock")), self._explained():
            self._database = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, reply TEXT NOT NULL)")
            self._forget_oldest(max_bytes)

    def get(self, key: bytes) -> str | None:
        """Return the reply that was kept last under a key."""
        with self._explained():
            row = self._database.execute("SELECT reply FROM answers WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def put(self, key: bytes, reply: str) -> None:
        """Keep a reply."""
        with self._explained():
            self._database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, reply))

    def put_all(self, rows: Iterable[Row]) -> None:
        """Keep many replies, or none of them if anything fails."""
        with self._explained():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _forget_oldest(self, max_bytes: int) -> None:
        pages, free, size = (
            self._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        if (pages - free) * size > max_bytes:
            oldest = "SELECT rowid FROM answers ORDER BY rowid LIMIT (SELECT count(*) / 4 FROM answers)"
            self._database.execute(f"DELETE FROM answers WHERE rowid IN ({oldest})")  # noqa: S608

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise AnswerCacheError(
                f"the models' answers in {self.path} cannot be read or kept ({error}); make room on the disk, or "
                "delete the file: what is in it will be asked again"
            ) from error


class CommonAnswers:
    """A table of the database that machines have in common, made where it is not there yet.

    Raises:
        FeedbackDatabaseError: the database does not answer.
    """

    _CREATE = """CREATE TABLE IF NOT EXISTS model_answers (
        key bytea PRIMARY KEY, number bigint GENERATED ALWAYS AS IDENTITY, reply text NOT NULL)"""
    _PUT = """INSERT INTO model_answers (key, reply) VALUES (:key, :reply)
        ON CONFLICT (key) DO UPDATE SET reply = EXCLUDED.reply"""

    def __init__(self, max_bytes: int) -> None:
        self._url, self._engine = common_engine()
        try:
            with self._writing_alone() as connection:
                run(connection, self._CREATE)
                self._forget_oldest(connection, max_bytes)
        except BaseException:
            self.close()
            raise

    def get(self, key: bytes) -> str | None:
        """Return the reply that was kept last under a key."""
        with telling_of_trouble(self._url), self._engine.connect() as connection:
            return run(connection, "SELECT reply FROM model_answers WHERE key = :key", {"key": key}).scalar()

    def put(self, key: bytes, reply: str) -> None:
        """Keep a reply."""
        with telling_of_trouble(self._url), self._engine.begin() as connection:
            # A database that crashes may forget the last of them, which are then asked again; so may SQLite's file.
            run(connection, "SET LOCAL synchronous_commit = off")
            run(connection, self._PUT, {"key": key, "reply": reply})

    def put_all(self, rows: Iterable[Row]) -> None:
        """Keep many replies, or none of them if anything fails."""
        left = iter(rows)
        # Two that write the same rows in different orders would wait for each other.
        with self._writing_alone() as connection:
            while some := [{"key": key, "reply": reply} for key, reply in islice(left, _AT_ONCE)]:
                run(connection, self._PUT, some)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _forget_oldest(self, connection: Any, max_bytes: int) -> None:
        # What was deleted keeps its room until PostgreSQL tidies up; only a table that is large is looked through.
        if run(connection, "SELECT pg_total_relation_size('model_answers')").scalar() <= max_bytes:
            return
        held = "SELECT coalesce(sum(pg_column_size(key) + pg_column_size(reply)), 0) FROM model_answers"
        if run(connection, held).scalar() > max_bytes:
            oldest = "SELECT key FROM model_answers ORDER BY number LIMIT (SELECT count(*) / 4 FROM model_answers)"
            run(connection, f"DELETE FROM model_answers WHERE key IN ({oldest})")  # noqa: S608

    @contextmanager
    def _writing_alone(self) -> Iterator[Any]:
        with telling_of_trouble(self._url), self._engine.begin() as connection:
            run(connection, f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            yield connection
