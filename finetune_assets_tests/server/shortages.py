"""What a machine may lack, brought about for a server's process or for this one, and what the documents say of it."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from finetune_assets.server import durable
from finetune_assets.server.database import connection, sqlite_file
from finetune_assets.server.shortage import BUSY, DESCRIPTORS, DISK, MEMORY, Shortage
from finetune_assets_tests import server_process
from finetune_assets_tests.server_process import ServerProcess

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
KINDS = {
    "disk": DISK,
    "memory": MEMORY,
    "descriptors": DESCRIPTORS,
    "database": BUSY,
}
_ERRORS: dict[str, Callable[[], Exception]] = {
    "disk": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "memory": MemoryError,
    "descriptors": lambda: OSError(errno.EMFILE, "Too many open files"),
}
_IMPATIENT = """
import sys
from pathlib import Path
from finetune_assets.server import base_models
from finetune_assets.server.database import connection, sqlite_file
from finetune_assets.server.jobs import batch_runner
sqlite_file.BUSY_SECONDS, batch_runner.REST_SECONDS = 0.2, 0.2

def scarce(real):
    def with_little_memory(*args, **more):
        if Path(sys.argv[1], "no-memory").exists():
            raise MemoryError
        return real(*args, **more)
    return with_little_memory

connection.Session, base_models.resolve = scarce(connection.Session), scarce(base_models.resolve)
"""


class ScarceServer(ServerProcess):
    """A server that waits shortly for what it lacks. While `<home>/no-memory` is there, it has no memory for more."""

    script = _IMPATIENT + server_process.SERVE


def documented() -> dict[tuple[str, str], str]:
    """What the table of the operations' page says, by operation and shortage."""
    text = PAGE.read_text("utf-8").partition("## When something runs out")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {(row[0], kind): cell for row in rows[2:] for kind, cell in zip(KINDS, row[1:], strict=True)}


@contextmanager
def lacking(kind: str, server: ServerProcess) -> Iterator[Shortage]:
    """Let a running server lack this meanwhile."""
    limits = {"disk": resource.RLIMIT_FSIZE, "descriptors": resource.RLIMIT_NOFILE}
    if kind == "database":
        with held(server.home):
            yield KINDS[kind]
    elif kind == "memory":
        (server.home / "no-memory").touch()
        try:
            yield KINDS[kind]
        finally:
            (server.home / "no-memory").unlink()
    else:
        process = psutil.Process(server.process.pid)
        soft, hard = process.rlimit(limits[kind])
        process.rlimit(limits[kind], (0, hard))
        try:
            yield KINDS[kind]
        finally:
            process.rlimit(limits[kind], (soft, hard))


@contextmanager
def held(home: Path) -> Iterator[None]:
    """Hold the lock of a home's database."""
    with closing(sqlite3.connect(home / "server.db", isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def striking(kind: str, home: Path, at: str = "") -> Iterator[Shortage]:
    """Let this process lack something from when it brings a path with `at` in its name to the disk."""
    real_sync, real_fsync, real_session = durable.sync_all, os.fsync, connection.Session
    lock = sqlite3.connect(home / "server.db", isolation_level=None, check_same_thread=False)

    def strike(*_args: object, **_more: object) -> None:
        if kind != "database":
            raise _ERRORS[kind]()

    def sync_all(path: Path) -> None:
        if at and at not in path.name:
            real_sync(path)
            return
        if kind == "database" and not lock.in_transaction:
            lock.execute("BEGIN IMMEDIATE")
        strike()

    with pytest.MonkeyPatch.context() as patched, closing(lock):
        patched.setattr(durable, "sync_all", sync_all)
        if not at:
            patched.setattr(os, "fsync", strike if kind != "database" else real_fsync)
            patched.setattr(connection, "Session", strike if kind == "memory" else real_session)
            if kind == "database":
                lock.execute("BEGIN IMMEDIATE")
        yield KINDS[kind]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process wait shortly for a database."""
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.1)
