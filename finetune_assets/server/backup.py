"""A copy of a server's folder that belongs together, made while clients write, and put back elsewhere.

First the database is copied as of one moment, then everything that it speaks of: bytes are written once and never
changed, and nothing that has a record is removed meanwhile (`removal`). So each id of that moment has its bytes in the
backup. What is added during the copying belongs to the next one. `backup.json` holds the SHA-256 of every file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from finetune_assets import __version__
from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server import durable
from finetune_assets.server.database import seal
from finetune_assets.server.database.sqlite_file import copy
from finetune_assets.server.removal import nothing_removed
from finetune_assets.server.shortage import telling_of_shortages

MANIFEST = "backup.json"
_CHUNK_BYTES = 1 << 20
_SETTINGS = ("models.yaml", "api_key", "keys.json", "audit.jsonl")
_TREES = ("models", "uploads", "batches", "training")


class BackupError(FinetuneAssetsError, RuntimeError):
    """A backup cannot be made, or is not whole."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a backup holds."""

    files: int
    bytes: int


def backup(home: Path, folder: Path) -> Copied:
    """Copy the server's folder `home`, which may be in use, to `folder`, which must not exist yet.

    Raises:
        BackupError: there is no server's folder, the place is taken, or bytes of a file are gone from `home`.
        SealBrokenError: the database of `home` is not that of its folders.
        ShortageError: the disk is full, for example; `folder` is not there then.
    """
    if not (home / seal.DATABASE).exists():
        raise BackupError(f"{home} is no server's folder: it has no {seal.DATABASE}; name the right one with --home")
    seal.check(home)
    with telling_of_shortages(), _scratch(folder, "a backup is a new folder") as scratch:
        return _backup(home, folder, scratch)


def _backup(home: Path, folder: Path, scratch: Path) -> Copied:
    with nothing_removed(home):
        copy(home / seal.DATABASE, scratch / seal.DATABASE)
        sums = {seal.DATABASE: _sum(scratch / seal.DATABASE)}
        for path in _spoken_of(home, scratch / seal.DATABASE):
            sums[path] = _copy(home / path, scratch / path)
        for path in _others(home):
            # A state or an answer that was being replaced: the job or batch goes on from what is there.
            with suppress(FileNotFoundError):
                sums[path] = _copy(home / path, scratch / path)
    said = {"made_at": int(time.time()), "version": __version__, "sha256": sums}
    durable.write(scratch / MANIFEST, json.dumps(said).encode())
    durable.publish(scratch, folder)
    return Copied(len(sums), sum((folder / path).stat().st_size for path in sums))


def restore(folder: Path, home: Path) -> Copied:
    """Make a server's folder `home`, which must not exist yet, of a backup.

    Raises:
        BackupError: this is no backup, a file in it is not the one that was copied, or the place is taken.
    """
    try:
        sums: dict[str, str] = json.loads((folder / MANIFEST).read_bytes())["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{folder} is no complete backup: {MANIFEST} cannot be read ({error})") from error
    with telling_of_shortages(), _scratch(home, "move the folder that is there away first") as scratch:
        return _restore(sums, folder, home, scratch)


def _restore(sums: dict[str, str], folder: Path, home: Path, scratch: Path) -> Copied:
    for path, expected in sums.items():
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise BackupError(f"{folder / MANIFEST} names {path!r}, which leads out of the backup")
        try:
            found = _copy(folder / path, scratch / path)
        except FileNotFoundError:
            found = "missing"
        if found != expected:
            raise BackupError(f"{folder / path} is not the file that was copied; take another backup")
    durable.publish(scratch, home)
    return Copied(len(sums), sum((home / path).stat().st_size for path in sums))


@contextmanager
def _scratch(target: Path, hint: str) -> Iterator[Path]:
    """Make a folder to fill and then rename; what is left of it goes."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BackupError(f"{target} exists and is not empty: {hint}")
    scratch = target.with_name(f".{target.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True, mode=0o700)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _spoken_of(home: Path, database: Path) -> Iterator[str]:
    """Paths of the bytes of every stored file.

    Raises:
        BackupError: some are gone.
    """
    query = "SELECT id, content FROM files WHERE NOT deleted AND coalesce(expires_at, 1e12) > ?"
    with closing(sqlite3.connect(database)) as connection:
        file_of = {content: file_id for file_id, content in connection.execute(query, [time.time()])}
    for content, file_id in file_of.items():
        if not (home / "files" / content).exists():
            raise BackupError(f"the bytes of file {file_id} are gone from {home}; delete the file, then back up again")
        yield f"files/{content}"


def _others(home: Path) -> Iterator[str]:
    """Paths of weights, parts, states, journals and settings."""
    for name in _SETTINGS:
        if (home / name).exists():
            yield name
    for tree in _TREES:
        for folder, _, names in os.walk(home / tree):
            if not Path(folder).name.endswith(".partial"):
                yield from (str(Path(folder, name).relative_to(home)) for name in names if not name.startswith("."))


def _copy(source: Path, target: Path) -> str:
    """Copy a file that nobody changes; return its SHA-256 in hex."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while chunk := reading.read(_CHUNK_BYTES):
            writing.write(chunk)
            digest.update(chunk)
    target.chmod(0o600)
    return digest.hexdigest()


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
