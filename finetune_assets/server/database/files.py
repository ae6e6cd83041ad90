"""Stored files: a row each, and the bytes in `<home>/files/<id>`.

Bytes are complete and on disk before their row is committed, and a row is gone before its bytes are, so a
process killed at any moment leaves at worst bytes without a row, which the next start removes.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import ColumnElement, or_, select, update

from finetune_assets.server.database.connection import Database, Rows, page
from finetune_assets.server.database.schema import StoredFile, new_id


class FileStore:
    """Adds, finds and deletes files; safe to use from several threads and processes."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._incoming = folder / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)

    def add(self, content: BinaryIO, *, filename: str, purpose: str, expires_in: int | None = None) -> StoredFile:
        """Store everything left to read in `content`; `expires_in` is in seconds from now."""
        file_id = new_id("file-")
        incoming = self._incoming / file_id
        try:
            size = _write_durably(content, incoming)
            expires_at = None if expires_in is None else int(time.time()) + expires_in
            # The write lock keeps remove_leftovers() of a server that starts meanwhile away from the finished bytes.
            with self._database.writing() as session:
                incoming.replace(self.path(file_id))
                _sync_folder(self._folder)
                row = StoredFile(id=file_id, filename=filename, purpose=purpose, bytes=size, expires_at=expires_at)
                session.add(row)
        finally:
            incoming.unlink(missing_ok=True)
        return row

    def path(self, file_id: str) -> Path:
        """Say where the bytes of a file that `get` knows are."""
        return self._folder / file_id

    def get(self, file_id: str) -> StoredFile | None:
        """Find the file: None if there is none of this id, or it was deleted or has expired."""
        with self._database.reading() as session:
            return session.scalar(select(StoredFile).where(StoredFile.id == file_id, _alive()))

    def page(self, *, purpose: str | None, after: str | None, limit: int, ascending: bool) -> Rows[StoredFile]:
        """List files, all or of one purpose.

        Raises:
            UnknownCursorError: `after` was never the id of a file.
        """
        query = select(StoredFile).where(_alive())
        if purpose is not None:
            query = query.where(StoredFile.purpose == purpose)
        with self._database.reading() as session:
            return page(session, query, StoredFile.id, after=after, limit=limit, ascending=ascending)

    def delete(self, file_id: str) -> bool:
        """Delete the file; False if there is none."""
        with self._database.writing() as session:
            row = session.scalar(select(StoredFile).where(StoredFile.id == file_id, _alive()))
            if row is None:
                return False
            row.deleted = True
        self.path(file_id).unlink(missing_ok=True)
        return True

    def remove_expired(self) -> None:
        """Delete the files whose time is over."""
        with self._database.writing() as session:
            expired = update(StoredFile).where(~_alive(), StoredFile.deleted.is_(False)).values(deleted=True)
            gone = list(session.scalars(expired.returning(StoredFile.id)))
        for file_id in gone:
            self.path(file_id).unlink(missing_ok=True)

    def remove_leftovers(self) -> None:
        """Remove bytes that no row speaks of: uploads and deletions cut short. For a server that has just started."""
        with self._database.writing() as session:
            known = set(session.scalars(select(StoredFile.id).where(_alive())))
            for path in (*self._incoming.iterdir(), *self._folder.iterdir()):
                if path.is_file() and path.name not in known:
                    path.unlink()


def _alive() -> ColumnElement[bool]:
    not_expired = or_(StoredFile.expires_at.is_(None), StoredFile.expires_at > int(time.time()))
    return StoredFile.deleted.is_(False) & not_expired


def _write_durably(content: BinaryIO, path: Path) -> int:
    with path.open("wb") as target:
        shutil.copyfileobj(content, target, 1 << 20)
        target.flush()
        os.fsync(target.fileno())
        return target.tell()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
