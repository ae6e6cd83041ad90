"""Answers that were paid for, on disk, so that nothing is asked twice: not after a crash, not in another run.

An answer is found by the hash of what decides it: who is asked, and every byte of the question. It is written as soon
as it comes, in a transaction of its own: what kills the process takes the answers under way and no other. SQLite's
write-ahead log makes that cheap, lets the runs of several regions share the file, and drops a torn end by its checksum.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from filelock import FileLock

from finetune_assets.errors import AnswerCacheError
from finetune_assets.provider.completions import Reply

MAX_BYTES = 2**30
"""Above it the oldest quarter of the answers is forgotten: about a million answers of a word have room."""


class AnswerCache:
    """Replies by key, in one file. Threads and processes may share it."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        """Open the file, or make it.

        Raises:
            AnswerCacheError: it is damaged, or no cache.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite does not wait for whoever else switches a new file to the write-ahead log.
        with FileLock(path.with_name(f"{path.name}.lock")), self._explained():
            self._database = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, reply TEXT NOT NULL)")
            self._forget_oldest(max_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def get(self, key: bytes) -> Reply | None:
        """Return the reply that was kept under `key`."""
        with self._explained():
            row = self._database.execute("SELECT reply FROM answers WHERE key = ?", (key,)).fetchone()
        return Reply.from_json(row[0]) if row else None

    def put(self, key: bytes, reply: Reply) -> None:
        """Keep a reply; a refusal is not kept, and will be asked again."""
        if reply.error is None:
            with self._explained():
                self._database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, reply.to_json()))

    def put_all(self, replies: Iterable[tuple[bytes, Reply]]) -> None:
        """Keep many replies, or none of them if anything fails."""
        rows = ((key, reply.to_json()) for key, reply in replies if reply.error is None)
        with self._explained():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

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


def key_of(base_url: str, made: int | None, body: bytes) -> bytes:
    """Return the 32 bytes under which the answer to a request is kept.

    Args:
        base_url: Who is asked.
        made: When the model was made, in Unix seconds as the provider says: an alias may come to mean another one.
        body: The request: model, messages with their images, and settings.
    """
    return hashlib.sha256(f"{base_url}\n{made}\n".encode() + body).digest()
