"""When the machine lacks something: which errors say so, and how a worker tells its supervisor before it ends.

A shortage is nobody's fault in the job and often passes. A job that meets one goes back to the queue and is tried again
from its last saved state; only one that needs more memory than there is, however often it is tried, fails.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

LONGEST_REST_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Shortage:
    """What the machine lacks."""

    code: str
    """Of a job that fails by it."""
    words: str
    remedy: str
    exit_code: int
    """With which a worker tells of it: it may not be able to write anything."""
    passes: bool
    """Whether to wait for as long as it takes."""


DISK = Shortage("disk_full", "The disk is full", "Make room on it", 75, passes=True)
DESCRIPTORS = Shortage("too_many_open_files", "The system opens no more files", "Raise `ulimit -n`", 76, passes=True)
MEMORY = Shortage(
    "out_of_memory",
    "Memory ran out",
    "Use shorter examples, a smaller model or fewer jobs at once",
    77,
    passes=False,
)
DATABASE = Shortage("database_unreachable", "The database did not answer", "Look whether it runs", 78, passes=True)
_ALL = (DISK, DESCRIPTORS, MEMORY, DATABASE)


def shortage_of(error: BaseException) -> Shortage | None:
    """Say what an error says is lacking; None if it is about something else."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT) or type(error).__name__ == "DiskFullError":
        return DISK
    if type(error).__name__ == "DatabaseUnreachableError":
        return DATABASE
    if number in (errno.EMFILE, errno.ENFILE):
        return DESCRIPTORS
    # torch.OutOfMemoryError on a GPU; on a CPU torch raises a plain RuntimeError.
    kind = type(error).__name__
    if number == errno.ENOMEM or isinstance(error, MemoryError) or kind == "OutOfMemoryError":
        return MEMORY
    if isinstance(error, RuntimeError) and "allocate memory" in str(error):
        return MEMORY
    # The serialisation of weights wraps what the system says in words of its own.
    if kind == "SafetensorError" and ("No space left" in str(error) or f"code: {errno.ENOSPC}" in str(error)):
        return DISK
    return None


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
