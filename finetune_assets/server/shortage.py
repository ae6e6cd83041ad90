"""When the machine lacks something: which errors say so, and in which words and how long later to try again.

A shortage is nobody's fault and often passes. A request that meets one is answered by name, with 503 and the time after
which to ask again; a job or a batch goes back to the queue and goes on from its last saved state. Only a job that needs
more memory than there is, however often it is tried, fails. `docs/operations.md` has what becomes of every operation.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from finetune_assets.errors import FinetuneAssetsError

LONGEST_REST_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Shortage:
    """What the machine lacks."""

    code: str
    """Of the answer to a request, and of a job that fails by it."""
    words: str
    remedy: str
    exit_code: int
    """With which a worker tells of it: it may not be able to write anything."""
    passes: bool
    """Whether to wait for as long as it takes."""
    retry_after: int
    """Seconds after which a client may ask again."""


DISK = Shortage("disk_full", "The disk is full", "Delete files or models, or make room on it", 75, True, 30)
DESCRIPTORS = Shortage("too_many_open_files", "The system opens no more files", "Raise `ulimit -n`", 76, True, 5)
MEMORY = Shortage(
    "out_of_memory", "Memory ran out", "Use shorter examples, a smaller model or fewer jobs at once", 77, False, 10
)
BUSY = Shortage(
    "database_busy",
    "Another process holds the database",
    "End what holds server.db",
    78,
    True,
    5,
)
DATABASE = Shortage("database_unreachable", "The database did not answer", "Look whether it runs", 79, True, 2)
STORE = Shortage("store_unreachable", "The object store did not answer", "Look whether it runs", 80, True, 2)
_ALL = (DISK, DESCRIPTORS, MEMORY, BUSY, DATABASE, STORE)

_BY_ERRNO = {
    errno.ENOSPC: DISK,
    errno.EDQUOT: DISK,
    errno.EFBIG: DISK,  # of a user whose files may not become larger
    errno.EMFILE: DESCRIPTORS,
    errno.ENFILE: DESCRIPTORS,
    errno.ENOMEM: MEMORY,
}
_BY_SQLITE = {
    sqlite3.SQLITE_FULL: DISK,
    sqlite3.SQLITE_IOERR_WRITE: DISK,
    sqlite3.SQLITE_IOERR_SHMSIZE: DISK,
    sqlite3.SQLITE_IOERR_NOMEM: MEMORY,
    sqlite3.SQLITE_NOMEM: MEMORY,
    sqlite3.SQLITE_BUSY: BUSY,
    sqlite3.SQLITE_LOCKED: BUSY,
}
_DISK_FULL_ON_POSTGRESQL = "53100"
_NO_SCRATCH = "No usable temporary directory"
"""What Python says where it cannot write a byte anywhere."""
_OF_MEMORY = ("allocate memory", "can't start new thread")
"""What torch says on a CPU, and Python where there is no room for a stack."""


class ShortageError(FinetuneAssetsError, OSError):
    """The machine lacks something for now; `lack` says what. Nothing of what was to be done is done."""

    def __init__(self, lack: Shortage, message: str | None = None) -> None:
        super().__init__(message or f"{lack.words}. {lack.remedy}.")
        self.lack = lack


def shortage_of(error: BaseException | None) -> Shortage | None:
    """Say what an error, one of its group or one that it was raised from, says is lacking; None if nothing is."""
    while error is not None:
        if lack := _told_by(error):
            return lack
        if isinstance(error, BaseExceptionGroup):
            return next(filter(None, map(shortage_of, error.exceptions)), None)
        error = error.__cause__
    return None


@contextmanager
def telling_of_shortages() -> Iterator[None]:
    """Raise `ShortageError` for whatever the system, SQLite or torch says of a shortage."""
    try:
        yield
    except ShortageError:
        raise
    except Exception as error:
        if lack := shortage_of(error):
            raise ShortageError(lack) from error
        raise


def by_exit(code: int) -> Shortage | None:
    """Say what a worker that ended with this code was lacking."""
    return next((lack for lack in _ALL if lack.exit_code == code), None)


def memory_kills() -> int:
    """Count the processes that Linux has ended for want of memory since it started; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def rest_seconds(times: int) -> float:
    """Say how long a job rests after it met a shortage for so many times: 5 seconds, and twice as long each time."""
    return min(LONGEST_REST_SECONDS, 5.0 * 2 ** min(times - 1, 10))


def _told_by(error: BaseException) -> Shortage | None:
    match error:
        case ShortageError():
            return error.lack
        case FileNotFoundError() if _NO_SCRATCH in str(error):
            return DISK
        case OSError():
            return _BY_ERRNO.get(error.errno or 0)
        case DBAPIError():
            full = getattr(error.orig, "sqlstate", None) == _DISK_FULL_ON_POSTGRESQL
            return DISK if full else _told_by(error.orig) if error.orig else None
        case sqlite3.Error():
            return _told_by_sqlite(getattr(error, "sqlite_errorcode", 0))
        case PoolTimeoutError():  # all connections wait for a lock
            return BUSY
        case MemoryError():
            return MEMORY
        case RuntimeError() if any(words in str(error) for words in _OF_MEMORY):
            return MEMORY
    # torch.OutOfMemoryError on a GPU; the serialisation of weights wraps what the system says in words of its own.
    kind, words = type(error).__name__, str(error)
    if kind == "SafetensorError" and ("No space left" in words or f"code: {errno.ENOSPC}" in words):
        return DISK
    return MEMORY if kind == "OutOfMemoryError" else None


def _told_by_sqlite(code: int) -> Shortage | None:
    if code & 0xFF == sqlite3.SQLITE_CANTOPEN:  # for whatever reason
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            return _BY_ERRNO.get(error.errno or 0)
    return _BY_SQLITE.get(code) or _BY_SQLITE.get(code & 0xFF)
