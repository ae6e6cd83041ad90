"""Whether a database and the folders beside it belong together, looked at before anything is opened or swept.

`<home>/seal.json` names the database of the folder and says how far it was: the last number given out in each table. A
database that is missing, damaged, another, or behind its folders would have us take good weights and files for rubbish;
so the server does not start on it, changes nothing, and says what helps.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server import durable
from finetune_assets.server.database import migrations
from finetune_assets.server.removal import LOST
from finetune_assets.server.shortage import ShortageError, shortage_of

DATABASE = "server.db"
SEAL = "seal.json"
CONTENT = ("files", "uploads", "models", "training", "batches")
"""The folders that hold what the database speaks of."""
_FOLDERS = (*CONTENT, "logs", "snapshots", LOST)

Fault = Literal["missing", "damaged", "another", "older", "newer"]
_WORDS: dict[Fault, str] = {
    "missing": "the database is missing, though the folder holds {held}",
    "damaged": "the database is damaged ({detail})",
    "another": "the database belongs to another folder, or was emptied ({detail})",
    "older": "the database is older than the folders beside it ({detail})",
    "newer": "the database is newer than the folders beside it ({detail})",
}


class SealBrokenError(FinetuneAssetsError, RuntimeError):
    """A database and its folder do not belong together. `fault` says how."""

    def __init__(self, home: Path, fault: Fault, detail: str) -> None:
        told = _WORDS[fault].format(detail=detail, held=detail)
        super().__init__(
            f"{home / DATABASE}: {told}. Nothing was deleted or changed. Put a backup in place of the folder with "
            f"`finetune-assets restore BACKUP --home {home}` once you have moved it away, or go on with what can be "
            f"saved: `finetune-assets salvage --home {home}`"
        )
        self.fault: Fault = fault


class LayoutError(FinetuneAssetsError, RuntimeError):
    """Something else is where the server has a folder or a file."""

    def __init__(self, path: Path, wanted: str) -> None:
        super().__init__(
            f"{path} must be {wanted}, and is something else: put what belongs there in its place, or move it away. "
            "Nothing was deleted or changed"
        )


@dataclass(frozen=True, slots=True)
class Seal:
    """What belongs together."""

    home: str
    """Id of the database."""
    numbers: dict[str, int]
    """The last number given out by table."""
    closed: bool
    """Whether the server ended in good order after this, so that there is nothing newer."""

    def write(self, home: Path) -> None:
        """Put it into the folder."""
        durable.write(home / SEAL, json.dumps(asdict(self)).encode())


def read(home: Path) -> Seal | None:
    """Read the folder's seal; None where there is none, or none that can be read, as it only adds to what is known."""
    try:
        found = Seal(**json.loads((home / SEAL).read_bytes()))
        return found if all(isinstance(number, int) for number in found.numbers.values()) else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def check(home: Path) -> None:
    """See whether the database may be opened and the folders swept.

    Raises:
        LayoutError: something else is where a folder has to be.
        SealBrokenError: not before a person has decided what is to become of them.
        ShortageError: it cannot be seen now.
    """
    _check_layout(home)
    path, seal = home / DATABASE, read(home)
    if not path.exists():
        if seal is not None or held(home):
            raise SealBrokenError(home, "missing", held(home) or "the seal of one")
        return
    try:
        found = look(path)
    except sqlite3.DatabaseError as error:
        if lack := shortage_of(error):
            raise ShortageError(lack) from error
        raise SealBrokenError(home, "damaged", str(error)) from error
    if found is None:
        if seal is not None or held(home):
            raise SealBrokenError(home, "another", f"it holds no tables, the folder {held(home) or 'the seal of one'}")
        return
    if seal is not None:
        _compare(home, seal, found)


def _check_layout(home: Path) -> None:
    for folder in (home / name for name in _FOLDERS):
        if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
            raise LayoutError(folder, "a folder")
    if (home / SEAL).is_dir():
        raise LayoutError(home / SEAL, "a file")


def _compare(home: Path, seal: Seal, found: Seal) -> None:
    if found.home != seal.home:
        raise SealBrokenError(home, "another", f"{found.home or 'without an id'}, not {seal.home}")
    for table, number in seal.numbers.items():
        now = found.numbers.get(table, 0)
        if now < number:
            raise SealBrokenError(home, "older", f"{table} reach to number {now}, but had reached {number}")
        if now > number and seal.closed:
            raise SealBrokenError(home, "newer", f"{table} reach to number {now}, but ended at {number}")


def look(path: Path) -> Seal | None:
    """Check a database's pages, and read how far it is; None if it has no tables yet.

    Raises:
        sqlite3.DatabaseError: it is damaged, or no database.
    """
    with closing(sqlite3.connect(path.resolve().as_uri() + "?mode=rw", uri=True, timeout=30)) as connection:
        return _read(connection)


def _read(connection: sqlite3.Connection) -> Seal | None:
    [[verdict]] = connection.execute("PRAGMA quick_check(1)").fetchall()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict.replace("\n", " "))
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "files" not in tables:
        return None
    if problem := migrations.differs(connection):
        raise sqlite3.DatabaseError(problem)
    rows = connection.execute("SELECT id FROM home").fetchall() if "home" in tables else []
    if len(rows) > 1:
        raise sqlite3.DatabaseError(f"it has {len(rows)} ids")
    numbers = dict(connection.execute("SELECT name, seq FROM sqlite_sequence"))
    return Seal(rows[0][0] if rows else "", numbers, closed=False)


def held(home: Path) -> str:
    """Count what the folders hold, in words; empty if nothing."""
    counts = {name: sum(1 for _ in _entries(home / name)) for name in CONTENT}
    return ", ".join(f"{count} in {name}/" for name, count in counts.items() if count)


def _entries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name != "incoming"] if folder.is_dir() else []
