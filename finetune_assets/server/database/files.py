"""Stored files: a row each, and the bytes in `files/<SHA-256>` of the storage, which equal files share.

Bytes are complete and on disk, or in the store, before their row is committed, and the last row is gone before its
bytes are, so a process killed at any moment leaves at worst bytes without a row, which the next start sets aside. Bytes
get their name, and lose it, only while nobody else writes: they cannot be removed while an equal file is added.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import bindparam, func, or_, select, update
from sqlalchemy.orm import Session

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server.database import usage
from finetune_assets.server.database.connection import Database, Rows, records
from finetune_assets.server.database.schema import StoredFile, new_id
from finetune_assets.server.database.usage import NOBODY, Account
from finetune_assets.server.shortage import telling_of_shortages
from finetune_assets.server.storage import Storage

CHUNK_BYTES = 1 << 20
KEPT_SECONDS = {"batch": 30 * 86_400, "batch_output": 30 * 86_400}
"""How long files of these purposes are kept where nothing else is asked for; others stay until they are deleted."""
_ROW_AFTER_BYTES_SECONDS = 2.0
"""A row comes as long after its bytes at most, as full seconds tell it."""

_NOW = bindparam("now", callable_=lambda: int(time.time()), type_=StoredFile.expires_at.type)
_ALIVE = StoredFile.deleted.is_(False) & or_(StoredFile.expires_at.is_(None), StoredFile.expires_at > _NOW)
_ALL = records(StoredFile).where(_ALIVE)
_BY_ID = _ALL.where(StoredFile.id == bindparam("id"))
_OF_PURPOSE = _ALL.where(StoredFile.purpose == bindparam("purpose"))


class DamagedFileError(FinetuneAssetsError, OSError):
    """The bytes of a stored file are gone, or are not those that were stored."""


class Incoming:
    """Bytes on their way in, in a scratch file of no meaning to anyone yet."""

    def __init__(self, path: Path, storage: Storage) -> None:
        self.path = path
        self._storage = storage
        self.size = 0
        self.placed = False
        self._digest = hashlib.sha256()
        self._target = path.open("xb")

    @property
    def content(self) -> str:
        """SHA-256 of all bytes written so far, in hex."""
        return self._digest.hexdigest()

    @property
    def name(self) -> str:
        """What the storage calls the bytes."""
        return f"files/{self.content}"

    def write(self, chunk: bytes) -> None:
        """Append to the bytes."""
        self._target.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    def finish(self) -> None:
        """Bring all bytes to the disk, and to the store."""
        self._target.flush()
        os.fsync(self._target.fileno())
        self._storage.send(self.path, self.name)

    def close(self) -> None:
        """Close and remove the scratch file."""
        self._target.close()
        self.path.unlink(missing_ok=True)


class FileStore:
    """Adds, finds and deletes files; safe to use from several threads and processes."""

    def __init__(self, database: Database, folder: Path, storage: Storage) -> None:
        self._database = database
        self._storage = storage
        self._incoming = folder / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        content: BinaryIO,
        *,
        filename: str,
        purpose: str,
        expires_in: int | None = None,
        owner: Account = NOBODY,
    ) -> StoredFile:
        """Store everything left to read in `content`; `expires_in` is in seconds from now.

        Raises:
            ShortageError: there is no room for the file.
            QuotaError: its owner may not store as much.
        """
        with self.incoming() as incoming:
            shutil.copyfileobj(content, incoming, CHUNK_BYTES)
            incoming.finish()
            with self._database.writing() as session:
                usage.check(session, owner, "disk", incoming.size)
                return self.place(
                    session, incoming, filename=filename, purpose=purpose, expires_in=expires_in, owner=owner.name
                )

    @contextmanager
    def incoming(self) -> Iterator[Incoming]:
        """Take bytes in, for `place`; nothing is left of them unless that succeeds.

        Raises:
            ShortageError: there is no room for them.
        """
        with telling_of_shortages():
            incoming = Incoming(self._incoming / new_id("file-"), self._storage)
            try:
                yield incoming
            except BaseException:
                if incoming.placed:  # but the transaction with its row has failed
                    self._drop([incoming.content])
                raise
            finally:
                incoming.close()

    def place(
        self,
        session: Session,
        incoming: Incoming,
        *,
        filename: str,
        purpose: str,
        expires_in: int | None = None,
        owner: str = "",
    ) -> StoredFile:
        """Make a file of bytes that have come in and are on the disk, within a transaction that may do more."""
        # Also where equal bytes are there already: those may have been damaged since.
        self._storage.keep(incoming.path, incoming.name)
        incoming.placed = True
        if expires_in is None:
            expires_in = KEPT_SECONDS.get(purpose)
        now = int(time.time())
        row = StoredFile(
            id=new_id("file-"),
            created_at=now,
            filename=filename,
            purpose=purpose,
            bytes=incoming.size,
            content=incoming.content,
            owner=owner,
            expires_at=None if expires_in is None else now + expires_in,
        )
        session.add(row)
        return row

    def path(self, file: StoredFile) -> Path:
        """Say where the bytes of a file can be read.

        Raises:
            DamagedFileError: they are gone, or not as many as were stored.
            StoreUnreachableError: they could not be brought here.
        """
        try:
            path = self._storage.fetch(f"files/{file.content}")
            size = path.stat().st_size
        except FileNotFoundError:
            raise DamagedFileError(f"the bytes of file {file.id} are gone from the disk; upload it again") from None
        if size != file.bytes:
            message = f"file {file.id} has {size} bytes on disk but was stored with {file.bytes}; upload it again"
            raise DamagedFileError(message)
        return path

    def open(self, file: StoredFile) -> BinaryIO:
        """Open the bytes of a file for reading.

        Raises:
            DamagedFileError: they are gone, or not as many as were stored.
        """
        try:
            return self.path(file).open("rb")
        except FileNotFoundError:  # deleted since
            raise DamagedFileError(f"file {file.id} was deleted") from None

    def verify(self, file: StoredFile) -> Path:
        """As `path`, after a look at every byte.

        Raises:
            DamagedFileError: the bytes are gone, or not those that were stored.
        """
        path = self.path(file)
        if file.content == file.id:  # stored by an earlier version, which kept no digest
            return path
        with path.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found != file.content:
            raise DamagedFileError(f"the bytes of file {file.id} were changed on the disk; upload it again")
        return path

    def get(self, file_id: str) -> StoredFile | None:
        """Find the file: None if there is none of this id, or it was deleted or has expired."""
        found = self._database.read(_BY_ID, id=file_id)
        return found[0] if found else None

    def page(self, *, purpose: str | None, after: str | None, limit: int, ascending: bool) -> Rows[StoredFile]:
        """List files, all or of one purpose.

        Raises:
            UnknownCursorError: `after` was never the id of a file.
        """
        query, values = (_ALL, {}) if purpose is None else (_OF_PURPOSE, {"purpose": purpose})
        return self._database.page(query, StoredFile.id, after=after, limit=limit, ascending=ascending, **values)

    def delete(self, file_id: str) -> bool:
        """Delete the file; False if there is none."""
        with self._database.writing() as session:
            row = session.scalar(select(StoredFile).where(StoredFile.id == file_id, _ALIVE))
            if row is None:
                return False
            row.deleted = True
        with self._storage.or_later():
            self._drop([row.content])
        return True

    def remove_expired(self) -> None:
        """Delete the files whose time is over."""
        with self._database.writing() as session:
            expired = update(StoredFile).where(~_ALIVE, StoredFile.deleted.is_(False)).values(deleted=True)
            gone = set(session.scalars(expired.returning(StoredFile.content)))
        self._drop(gone)

    def remove_leftovers(self) -> None:
        """Remove the bytes of deleted files, and set those aside that no row speaks of."""
        self._drop([name for name in self._storage.names("files") if name != "incoming"], sweeping=True)

    def remove_incoming(self) -> None:
        """Remove what had not come in whole. For a server that has just started."""
        for path in self._incoming.iterdir():
            path.unlink(missing_ok=True)

    def _drop(self, contents: Collection[str], *, sweeping: bool = False) -> None:
        """Remove these bytes from the disk unless a file has them.

        Sweeping, those are only set aside that came after every row that speaks of them: a database that was rolled
        back may call equal bytes deleted.
        """
        waiting, at_once = sorted(set(contents)), self._storage.removed_at_once
        while waiting:
            some, waiting = waiting[:at_once], waiting[at_once:]
            with self._database.writing() as session:
                of_these = StoredFile.content.in_(some)
                alive = set(session.scalars(select(StoredFile.content).where(of_these, _ALIVE)))
                newest = select(StoredFile.content, func.max(StoredFile.created_at)).where(of_these)
                told = {row[0]: row[1] for row in session.execute(newest.group_by(StoredFile.content))}
                for content in set(some) - alive:
                    name = f"files/{content}"
                    known_until = told.get(content, -_ROW_AFTER_BYTES_SECONDS) + _ROW_AFTER_BYTES_SECONDS
                    if sweeping and self._storage.written_at(name) >= known_until:
                        self._storage.set_aside(name)
                    else:
                        self._storage.remove(name)
