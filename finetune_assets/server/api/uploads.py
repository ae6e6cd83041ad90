"""/v1/uploads: files that come in parts, which may be sent side by side and again after a broken connection."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Header, UploadFile
from openai.types import Upload as UploadObject
from openai.types.uploads import UploadPart as UploadPartObject
from pydantic import Field

from finetune_assets.server.api.files import MAX_BATCH_FILE_BYTES, MAX_FILENAME, as_file, check_purpose
from finetune_assets.server.api.gate import MAX_PART_BYTES
from finetune_assets.server.api.wire import ApiError, Asker, RequestBody, WireRoute
from finetune_assets.server.database.schema import StoredFile, Upload
from finetune_assets.server.database.uploads import COMPLETED, UploadContentError, UploadStateError
from finetune_assets.server.services import Served, Services

MAX_UPLOAD_BYTES = 8 << 30

router = APIRouter(prefix="/v1/uploads", route_class=WireRoute)


class ExpiresAfter(RequestBody):
    """When the file is to be deleted: this many seconds after it was made."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class UploadBody(RequestBody):
    """Body of a request for a new upload."""

    filename: Annotated[str, Field(min_length=1, max_length=MAX_FILENAME)]
    purpose: str
    bytes: Annotated[int, Field(ge=1, le=MAX_UPLOAD_BYTES)]
    mime_type: str
    expires_after: ExpiresAfter | None = None


class CompleteBody(RequestBody):
    """Body of a request to make a file of parts."""

    part_ids: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=8192, fail_fast=True)]
    md5: str | None = None


@router.post("")
def create(served: Served, asker: Asker, body: UploadBody) -> UploadObject:
    """Announce a file, whose parts have to come within an hour."""
    check_purpose(body.purpose)
    if body.purpose == "batch" and body.bytes > MAX_BATCH_FILE_BYTES:
        message = f"Invalid 'bytes': a file with the purpose 'batch' has at most {MAX_BATCH_FILE_BYTES >> 20} MB."
        raise ApiError(400, message, param="bytes", code="integer_above_max_value")
    return _as_upload(
        served.uploads.create(
            filename=body.filename,
            purpose=body.purpose,
            size=body.bytes,
            mime_type=body.mime_type,
            file_expires_in=body.expires_after and body.expires_after.seconds,
            owner=asker,
        )
    )


@router.post("/{upload_id}/parts")
def add_part(served: Served, upload_id: str, data: Annotated[UploadFile, File()]) -> UploadPartObject:
    """Store a part."""
    _find(served, upload_id)
    if (data.size or 0) > MAX_PART_BYTES:
        raise ApiError(413, f"The part is larger than {MAX_PART_BYTES >> 20} MB.", param="data")
    try:
        part = served.uploads.add_part(upload_id, data.file)
    except UploadStateError as error:
        raise _wrong_state(error) from None
    except UploadContentError as error:
        raise ApiError(400, f"Invalid '{error.param}': {error}.", param=error.param, code="invalid_value") from None
    return UploadPartObject(id=part.id, object="upload.part", created_at=part.created_at, upload_id=upload_id)


@router.post("/{upload_id}/complete")
def complete(
    served: Served,
    upload_id: str,
    body: CompleteBody,
    attempt: Annotated[str, Header(alias="x-stainless-retry-count", include_in_schema=False)] = "0",
) -> UploadObject:
    """Make a file of the parts, in the order given; together they must have as many bytes as were announced."""
    upload = _find(served, upload_id)
    if upload.status == COMPLETED and attempt.strip("0"):
        # OpenAI's client repeats what it got no answer to: the file is there.
        return _as_upload(upload, served.files.get(upload.file_id or ""))
    try:
        return _as_upload(*served.uploads.complete(upload_id, body.part_ids, body.md5))
    except UploadStateError as error:
        raise _wrong_state(error) from None
    except UploadContentError as error:
        message = f"Invalid '{error.param}': {error}."
        raise ApiError(400, message, param=error.param, code="invalid_value") from None


@router.post("/{upload_id}/cancel")
def cancel(served: Served, upload_id: str) -> UploadObject:
    """Give the upload up; no parts can be added to it any more."""
    _find(served, upload_id)
    try:
        return _as_upload(served.uploads.cancel(upload_id))
    except UploadStateError as error:
        raise _wrong_state(error) from None


def _as_upload(upload: Upload, file: StoredFile | None = None) -> UploadObject:
    made: dict[str, Any] = {} if file is None else {"file": as_file(file)}
    # Not validated, like the file in it.
    return UploadObject.construct(
        id=upload.id,
        object="upload",
        bytes=upload.bytes,
        created_at=upload.created_at,
        expires_at=upload.expires_at,
        filename=upload.filename,
        purpose=upload.purpose,
        status=upload.status,
        **made,
    )


def _find(served: Services, upload_id: str) -> Upload:
    upload = served.uploads.get(upload_id)
    if upload is None:
        raise ApiError(404, f"No such Upload object: {upload_id}", param="upload_id")
    return upload


def _wrong_state(error: UploadStateError) -> ApiError:
    # Not 409, which says "conflict" but makes OpenAI's clients send the request again.
    return ApiError(400, f"Invalid request: {error}.", param="upload_id", code="invalid_upload_state")
