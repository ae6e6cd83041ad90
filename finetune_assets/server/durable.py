"""How everything of the server gets to the disk: whole or not at all, and there to stay once a call has returned.

Written beside its place and brought to the disk, then renamed, and the folder brought to the disk too: a process killed
at any moment, and a loss of power after it, leave the old or the new, never a part of it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def sync(path: Path) -> None:
    """Bring a file's bytes, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(path: Path) -> None:
    """Bring a file, or a folder and everything in it, to the disk."""
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            sync(Path(folder) / name)
        sync(Path(folder))
    if not path.is_dir():
        sync(path)


def publish(scratch: Path, target: Path) -> Path:
    """Give a complete file or folder its name, in place of what has it; return that.

    Raises:
        OSError: the disk is full, for example; what had the name before may be gone only if it was a folder.
    """
    sync_all(scratch)
    if scratch.is_dir() and target.exists():
        shutil.rmtree(target)
    scratch.replace(target)
    sync(target.parent)
    return target


def write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put a file's new content in place of the old."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(data)
        publish(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def append(path: Path, data: bytes) -> None:
    """Add to the end of a file; a process killed meanwhile leaves a part of `data` there."""
    is_new = not path.exists()
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync(path.parent)
