"""What leaves a server's folder: only what a record calls deleted, and nothing while a backup is being copied.

Bytes that no record speaks of are not removed: the record may be what is wrong, with a database that was rolled back
for example. They are moved to `<home>/lost+found/`, under the path that they had, where a person finds them.
"""

from __future__ import annotations

import fcntl
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOST = "lost+found"
_LOCK = "backup.lock"

logger = logging.getLogger(__name__)


class Removal:
    """Removes files and folders of `home`, or sets them aside; safe to use from several threads and processes."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.postponed = False
        """Whether something stayed, because of a backup or of a shortage, which the next sweep finds."""

    def remove(self, path: Path) -> None:
        """Remove a file or folder whose record says that it is deleted; postponed while a backup is made."""
        with self.or_later(), (self._home / _LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                self.postponed = True
                return
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    @contextmanager
    def or_later(self) -> Iterator[None]:
        """Leave to the next sweep what cannot be removed now: its record already says that it is deleted."""
        try:
            yield
        except OSError as error:
            self.postponed = True
            logger.warning("What is deleted stays on the disk until the next sweep: %s", error)

    def set_aside(self, path: Path) -> None:
        """Move what no record speaks of to `lost+found`."""
        place = self._home / LOST / path.relative_to(self._home)
        place.parent.mkdir(parents=True, exist_ok=True)
        number = 0
        while (target := place.with_name(f"{place.name}~{number}" if number else place.name)).exists():
            number += 1
        path.rename(target)
        logger.warning("%s is in no record of the database and was moved to %s", path, target)


@contextmanager
def nothing_removed(home: Path) -> Iterator[None]:
    """Let nothing that has a record leave the folder meanwhile; waits for removals under way."""
    with (home / _LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
