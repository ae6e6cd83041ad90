"""/v1/files: what clients upload, and what jobs produce."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO, Literal
from urllib.parse import quote

from fastapi import APIRouter, File, Form, Query, UploadFile
from fastapi.responses import StreamingResponse
from openai.types import FileDeleted, FileObject

from finetune_assets.server.api.gate import MAX_FILE_BYTES
from finetune_assets.server.api.wire import ApiError, Asker, NamedPage, WireRoute, read_page
from finetune_assets.server.database.files import CHUNK_BYTES
from finetune_assets.server.database.schema import StoredFile
from finetune_assets.server.services import Served

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
MAX_BATCH_FILE_BYTES = 200 << 20
MAX_FILENAME = 512
"""Characters."""

router = APIRouter(prefix="/v1/files", route_class=WireRoute)


@router.post("")
def create(
    served: Served,
    asker: Asker,
    file: Annotated[UploadFile, File()],
    purpose: Annotated[str, Form()],
    anchor: Annotated[Literal["created_at"] | None, Form(alias="expires_after[anchor]")] = None,
    seconds: Annotated[int | None, Form(alias="expires_after[seconds]", ge=3600, le=2_592_000)] = None,
) -> FileObject:
    """Store a file; `expires_after[seconds]` later it is deleted, by default never (files for batches: 30 days)."""
    check_purpose(purpose)
    if (anchor is None) != (seconds is None):
        missing = "expires_after[anchor]" if anchor is None else "expires_after[seconds]"
        raise ApiError(
            400, f"Missing required parameter: '{missing}'.", param=missing, code="missing_required_parameter"
        )
    limit = MAX_BATCH_FILE_BYTES if purpose == "batch" else MAX_FILE_BYTES
    if (file.size or 0) > limit:
        message = f"The file is larger than {limit >> 20} MB, the most with the purpose '{purpose}'."
        raise ApiError(413, message, param="file")
    name = file.filename or "upload"
    if len(name) > MAX_FILENAME:
        message = f"Invalid 'file': its name has {len(name)} characters, more than {MAX_FILENAME}."
        raise ApiError(400, message, param="file", code="string_above_max_length")
    return as_file(served.files.add(file.file, filename=name, purpose=purpose, expires_in=seconds, owner=asker))


@router.get("")
async def list_files(
    served: Served,
    purpose: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
) -> NamedPage[FileObject]:
    """List files by the time they were stored."""

    def read() -> NamedPage[FileObject]:
        rows = served.files.page(purpose=purpose, after=after, limit=limit, ascending=order == "asc")
        data = [as_file(row) for row in rows.items]
        # The published schema wants a string here even where the page is empty.
        first, last = (data[0].id, data[-1].id) if data else ("", "")
        return NamedPage(object="list", data=data, has_more=rows.has_more, first_id=first, last_id=last)

    return await read_page(limit, read)


@router.get("/{file_id}")
async def retrieve(served: Served, file_id: str) -> FileObject:
    """Describe a file."""
    return as_file(_find(served, file_id))


@router.get("/{file_id}/content")
def content(served: Served, file_id: str) -> StreamingResponse:
    """Send a file's bytes as they came."""
    row = _find(served, file_id)
    headers = {
        "content-length": str(row.bytes),
        "content-disposition": f"attachment; filename*=utf-8''{quote(row.filename, safe='')}",
    }
    # Opened here: a file that is deleted meanwhile is still sent to its end.
    source = served.files.open(row)
    return StreamingResponse(_chunks(source), media_type="application/octet-stream", headers=headers)


@router.delete("/{file_id}")
def delete(served: Served, file_id: str) -> FileDeleted:
    """Delete a file. A job that still needs it fails."""
    if not served.files.delete(file_id):
        raise _no_such_file(file_id)
    return FileDeleted(id=file_id, object="file", deleted=True)


def check_purpose(purpose: str) -> None:
    """Refuse a purpose that no file can have."""
    if purpose not in PURPOSES:
        raise ApiError(400, f"{purpose!r} is not one of {list(PURPOSES)} - 'purpose'", param="purpose")


def as_file(row: StoredFile) -> FileObject:
    """Describe a stored file on the wire."""
    expiry: dict[str, Any] = {} if row.expires_at is None else {"expires_at": row.expires_at}
    # Not validated: the purpose "evals" may be uploaded, but OpenAI's type for reading a file does not have it.
    return FileObject.construct(
        id=row.id,
        object="file",
        bytes=row.bytes,
        created_at=row.created_at,
        filename=row.filename,
        purpose=row.purpose,
        status="processed",
        **expiry,
    )


def _chunks(source: BinaryIO) -> Iterator[bytes]:
    with source:
        while chunk := source.read(CHUNK_BYTES):
            yield chunk


def _find(served: Served, file_id: str) -> StoredFile:
    row = served.files.get(file_id)
    if row is None:
        raise _no_such_file(file_id)
    return row


def _no_such_file(file_id: str) -> ApiError:
    return ApiError(404, f"No such File object: {file_id}", param="id")
