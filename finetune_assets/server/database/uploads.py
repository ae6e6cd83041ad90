"""Files that come in parts: a row for the upload and for each part, and the bytes in `<home>/uploads/<upload>/<part>`.

pending -> completed, cancelled or expired. The bytes of a part are on disk before its row is committed; those of an
upload that is no longer pending are removed, at the next start at the latest. The file and the end of its upload are
committed together, so a process killed in between leaves the upload pending.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server.database import usage
from finetune_assets.server.database.connection import Database, records
from finetune_assets.server.database.files import CHUNK_BYTES, FileStore
from finetune_assets.server.database.schema import StoredFile, Upload, UploadPart, new_id
from finetune_assets.server.database.usage import NOBODY, Account
from finetune_assets.server.shortage import telling_of_shortages
from finetune_assets.server.storage import Storage

PENDING, COMPLETED, CANCELLED, EXPIRED = ("pending", "completed", "cancelled", "expired")
LIFETIME_SECONDS = 3600
_SPARE = 2
"""A part may be sent again after a broken connection; parts without end are not stored."""
_BY_ID = records(Upload).where(Upload.id == bindparam("id"))


class UploadStateError(FinetuneAssetsError, RuntimeError):
    """An upload is no longer pending."""


class UploadContentError(FinetuneAssetsError, ValueError):
    """Parts do not make the file that was announced. `param` is the parameter of the request that is at fault."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class UploadStore:
    """Takes parts and makes files of them; safe to use from several threads."""

    def __init__(self, database: Database, files: FileStore, folder: Path, storage: Storage) -> None:
        self._database = database
        self._storage = storage
        self._files = files
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)

    def create(
        self,
        *,
        filename: str,
        purpose: str,
        size: int,
        mime_type: str,
        file_expires_in: int | None,
        owner: Account = NOBODY,
    ) -> Upload:
        """Announce a file of `size` bytes, to be kept for `file_expires_in` seconds once it is complete.

        Raises:
            QuotaError: its owner may not store as much.
        """
        now = int(time.time())
        upload = Upload(
            id=new_id("upload_"),
            created_at=now,
            status=PENDING,
            filename=filename,
            purpose=purpose,
            bytes=size,
            mime_type=mime_type,
            expires_at=now + LIFETIME_SECONDS,
            file_expires_in=file_expires_in,
            owner=owner.name,
        )
        with self._database.writing() as session:
            usage.check(session, owner, "disk", size)
            session.add(upload)
        return upload

    def get(self, upload_id: str) -> Upload | None:
        """Find the upload, or None."""
        found = self._database.read(_BY_ID, id=upload_id)
        return found[0] if found else None

    def add_part(self, upload_id: str, content: BinaryIO) -> UploadPart:
        """Store everything left to read in `content`.

        Raises:
            UploadStateError: the upload is not pending, or ended meanwhile.
            UploadContentError: the parts are far more than was announced.
            ShortageError: there is no room for the part.
        """
        with self._database.reading() as session:
            _pending(session, upload_id)
        part = UploadPart(id=new_id("part_"), upload_id=upload_id)
        name = _name(upload_id, part.id)
        scratch = self._folder / upload_id / f".{part.id}"
        scratch.parent.mkdir(exist_ok=True)
        try:
            with telling_of_shortages():
                with scratch.open("xb") as target:
                    shutil.copyfileobj(content, target, CHUNK_BYTES)
                    part.bytes = target.tell()
                with _told_of_the_end(upload_id):
                    self._storage.send(scratch, name)
                    self._storage.keep(scratch, name)
            with self._database.writing() as session:
                upload = _pending(session, upload_id)
                held = select(func.sum(UploadPart.bytes)).where(UploadPart.upload_id == upload_id)
                if (session.scalar(held) or 0) + part.bytes > _SPARE * upload.bytes:
                    message = f"the parts have more than {_SPARE} times the {upload.bytes:,} bytes that were announced"
                    raise UploadContentError(message, "data")
                session.add(part)
        except BaseException:
            scratch.unlink(missing_ok=True)
            self._storage.remove(name)
            raise
        return part

    def complete(self, upload_id: str, part_ids: Sequence[str], md5: str | None) -> tuple[Upload, StoredFile]:
        """Make a file of these parts, in this order.

        Raises:
            UploadStateError: the upload is not pending, or ended meanwhile.
            UploadContentError: a part is unknown, or the parts are not as many bytes, or others, than announced.
            ShortageError: there is no room for the file.
        """
        with self._database.reading() as session:
            upload = _pending(session, upload_id)
            parts = list(session.scalars(select(UploadPart).where(UploadPart.upload_id == upload_id)))
        _check_parts(upload, parts, part_ids)
        with self._files.incoming() as incoming:
            digest = hashlib.md5(usedforsecurity=False)
            for chunk in self._chunks(upload_id, part_ids):
                incoming.write(chunk)
                digest.update(chunk)
            if md5 is not None and digest.hexdigest() != md5.lower():
                raise UploadContentError(f"the parts have the md5 {digest.hexdigest()}, not {md5!r}", "md5")
            incoming.finish()
            with self._database.writing() as session:
                upload = _pending(session, upload_id)
                file = self._files.place(
                    session,
                    incoming,
                    filename=upload.filename,
                    purpose=upload.purpose,
                    expires_in=upload.file_expires_in,
                    owner=upload.owner,
                )
                upload.status, upload.file_id = COMPLETED, file.id
        self._storage.remove(_name(upload_id))
        return upload, file

    def cancel(self, upload_id: str) -> Upload:
        """End the upload because its client no longer wants it.

        Raises:
            UploadStateError: the upload is not pending.
        """
        with self._database.writing() as session:
            upload = _pending(session, upload_id)
            upload.status = CANCELLED
        self._storage.remove(_name(upload_id))
        return upload

    def remove_expired(self) -> None:
        """End the uploads whose time is over."""
        over = update(Upload).where(Upload.status == PENDING, Upload.expires_at <= int(time.time()))
        with self._database.writing() as session:
            gone = list(session.scalars(over.values(status=EXPIRED).returning(Upload.id)))
        for upload_id in gone:
            self._storage.remove(_name(upload_id))

    def remove_leftovers(self) -> None:
        """Remove the parts of uploads that have ended, and set aside what no row speaks of. Once, at the start."""
        query = select(UploadPart.id).join(Upload, Upload.id == UploadPart.upload_id).where(Upload.status == PENDING)
        with self._database.reading() as session:
            kept = set(session.scalars(query))
        for upload_id in self._storage.names("uploads"):
            upload = self.get(upload_id)
            if upload is None:
                self._storage.set_aside(_name(upload_id))
            elif upload.status != PENDING:
                self._storage.remove(_name(upload_id))
            else:
                self._keep_only(upload_id, kept)

    def _keep_only(self, upload_id: str, kept: set[str]) -> None:
        folder = self._folder / upload_id
        for name in self._storage.names(_name(upload_id)):
            if name.startswith("."):  # it had not come in whole
                (folder / name).unlink()
            elif name not in kept:
                self._storage.set_aside(_name(upload_id, name))
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def _chunks(self, upload_id: str, part_ids: Sequence[str]) -> Iterator[bytes]:
        for part_id in part_ids:
            with _told_of_the_end(upload_id), self._storage.fetch(_name(upload_id, part_id)).open("rb") as part:
                while chunk := part.read(CHUNK_BYTES):
                    yield chunk


def _name(*parts: str) -> str:
    return "/".join(("uploads", *parts))


@contextmanager
def _told_of_the_end(upload_id: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UploadStateError(f"upload {upload_id} is cancelled or was ended meanwhile") from None


def _pending(session: Session, upload_id: str) -> Upload:
    upload = session.scalars(select(Upload).where(Upload.id == upload_id)).one()
    status = EXPIRED if upload.status == PENDING and upload.expires_at <= time.time() else upload.status
    if status != PENDING:
        raise UploadStateError(f"upload {upload_id} is {status}, not pending")
    return upload


def _check_parts(upload: Upload, parts: Sequence[UploadPart], part_ids: Sequence[str]) -> None:
    size_of = {part.id: part.bytes for part in parts}
    if len(set(part_ids)) < len(part_ids):
        raise UploadContentError("a part is named twice", "part_ids")
    for part_id in part_ids:
        if part_id not in size_of:
            raise UploadContentError(f"upload {upload.id} has no part {part_id!r}", "part_ids")
    size = sum(size_of[part_id] for part_id in part_ids)
    if size != upload.bytes:
        message = f"the parts have {size} bytes, but the upload was announced with {upload.bytes}"
        raise UploadContentError(message, "part_ids")
