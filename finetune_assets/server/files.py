"""/v1/files: what clients upload, and what jobs produce."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Query, UploadFile
from fastapi.responses import FileResponse
from openai.types import FileDeleted, FileObject

from finetune_assets.server.database.schema import StoredFile
from finetune_assets.server.gate import MAX_FILE_BYTES
from finetune_assets.server.services import Served
from finetune_assets.server.wire import ApiError, NamedPage, WireRoute

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")

router = APIRouter(prefix="/v1/files", route_class=WireRoute)


@router.post("")
def create(
    served: Served,
    file: Annotated[UploadFile, File()],
    purpose: Annotated[str, Form()],
    anchor: Annotated[Literal["created_at"] | None, Form(alias="expires_after[anchor]")] = None,
    seconds: Annotated[int | None, Form(alias="expires_after[seconds]", ge=3600, le=2_592_000)] = None,
) -> FileObject:
    """Store a file; `expires_after[seconds]` later it is deleted, by default never."""
    if purpose not in PURPOSES:
        raise ApiError(400, f"{purpose!r} is not one of {list(PURPOSES)} - 'purpose'", param="purpose")
    if (anchor is None) != (seconds is None):
        missing = "expires_after[anchor]" if anchor is None else "expires_after[seconds]"
        raise ApiError(
            400, f"Missing required parameter: '{missing}'.", param=missing, code="missing_required_parameter"
        )
    if (file.size or 0) > MAX_FILE_BYTES:
        raise ApiError(413, f"The file is larger than {MAX_FILE_BYTES >> 20} MB.", param="file")
    name = file.filename or "upload"
    return as_file(served.files.add(file.file, filename=name, purpose=purpose, expires_in=seconds))


@router.get("")
def list_files(
    served: Served,
    purpose: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
) -> NamedPage[FileObject]:
    """List files by the time they were stored."""
    rows = served.files.page(purpose=purpose, after=after, limit=limit, ascending=order == "asc")
    data = [as_file(row) for row in rows.items]
    # The published schema wants a string here even where the page is empty.
    first, last = (data[0].id, data[-1].id) if data else ("", "")
    return NamedPage(object="list", data=data, has_more=rows.has_more, first_id=first, last_id=last)


@router.get("/{file_id}")
def retrieve(served: Served, file_id: str) -> FileObject:
    """Describe a file."""
    return as_file(_find(served, file_id))


@router.get("/{file_id}/content")
def content(served: Served, file_id: str) -> FileResponse:
    """Send a file's bytes as they came."""
    row = _find(served, file_id)
    return FileResponse(served.files.path(row.id), media_type="application/octet-stream", filename=row.filename)


@router.delete("/{file_id}")
def delete(served: Served, file_id: str) -> FileDeleted:
    """Delete a file. A job that still needs it fails."""
    if not served.files.delete(file_id):
        raise _no_such_file(file_id)
    return FileDeleted(id=file_id, object="file", deleted=True)


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


def _find(served: Served, file_id: str) -> StoredFile:
    row = served.files.get(file_id)
    if row is None:
        raise _no_such_file(file_id)
    return row


def _no_such_file(file_id: str) -> ApiError:
    return ApiError(404, f"No such File object: {file_id}", param="id")
