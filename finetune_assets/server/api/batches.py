"""/v1/batches: completions made in the background, from a file with a request on each line into files of answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from openai.types import Batch
from pydantic import Field

from finetune_assets.server.api.wire import ApiError, Asker, Metadata, NamedPage, RequestBody, WireRoute
from finetune_assets.server.database import schema
from finetune_assets.server.database.batches import BatchRequest, BatchStateError
from finetune_assets.server.services import Served

ENDPOINTS = ("/v1/chat/completions", "/v1/decisions")
"""Those that are served in batches."""

router = APIRouter(prefix="/v1/batches", route_class=WireRoute)


class OutputExpiry(RequestBody):
    """How long output and error files are kept."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class BatchBody(RequestBody):
    """Body of a request for a new batch."""

    input_file_id: str
    """A file of the purpose `batch`: at most 50,000 lines and 200 MB."""
    endpoint: Literal[
        "/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/completions", "/v1/moderations",
        "/v1/images/generations", "/v1/images/edits", "/v1/videos", "/v1/decisions",
    ]  # fmt: skip
    """This server has batches of /v1/chat/completions and /v1/decisions."""
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: OutputExpiry | None = None


@router.post("")
def create(served: Served, asker: Asker, request: Request, body: BatchBody) -> Batch:
    """Start a batch. Its file is validated then: bad lines fail the batch, not this request."""
    if body.endpoint not in ENDPOINTS:
        served_so = "' and '".join(ENDPOINTS)
        message = f"Unsupported value: 'endpoint' is '{body.endpoint}', but this server has batches of '{served_so}'."
        raise ApiError(400, message, param="endpoint", code="unsupported_value")
    file = served.files.get(body.input_file_id)
    if file is None:
        message = f"No such File object: {body.input_file_id[:100]}"
        raise ApiError(400, message, param="input_file_id", code="file_not_found")
    if file.purpose != "batch":
        message = f"File {file.id} has the purpose '{file.purpose}'; upload it with the purpose 'batch'."
        raise ApiError(400, message, param="input_file_id", code="invalid_file_purpose")
    row = served.batches.create(
        BatchRequest(
            endpoint=body.endpoint,
            input_file_id=body.input_file_id,
            completion_window=body.completion_window,
            metadata=body.metadata,
            output_expires_in=body.output_expires_after.seconds if body.output_expires_after else None,
            owner=asker.name,
        )
    )
    request.app.state.batch_runner.wake()
    return as_batch(row)


@router.get("")
async def list_batches(
    served: Served, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> NamedPage[Batch]:
    """List batches, the newest first."""
    rows = served.batches.page(after=after, limit=limit)
    data = [as_batch(row) for row in rows.items]
    # The published schema wants a string here even where the page is empty.
    first, last = (data[0].id, data[-1].id) if data else ("", "")
    return NamedPage(object="list", data=data, has_more=rows.has_more, first_id=first, last_id=last)


@router.get("/{batch_id}")
async def retrieve(served: Served, batch_id: str) -> Batch:
    """Describe a batch as it is now."""
    return as_batch(_find(served, batch_id))


@router.post("/{batch_id}/cancel")
def cancel(served: Served, request: Request, batch_id: str) -> Batch:
    """End a batch; what has been answered by then is in its output file."""
    _find(served, batch_id)
    try:
        row = served.batches.cancelling(batch_id)
    except BatchStateError:
        status = _find(served, batch_id).status
        # Not 409, which says "conflict" but makes OpenAI's clients send the request again.
        message = f"Cannot cancel a batch with status '{status}'."
        raise ApiError(400, message, code="invalid_batch_status") from None
    request.app.state.batch_runner.wake()
    return as_batch(row)


def as_batch(row: schema.Batch) -> Batch:
    """Describe a batch on the wire; what has not been reached yet is left out."""
    reached: dict[str, Any] = dict(row.stamps)
    for name in ("model", "output_file_id", "error_file_id", "usage"):
        if (value := getattr(row, name)) is not None:
            reached[name] = value
    if row.errors is not None:
        reached["errors"] = {"object": "list", "data": row.errors}
    return Batch.model_validate(
        {
            "id": row.id,
            "object": "batch",
            "endpoint": row.endpoint,
            "input_file_id": row.input_file_id,
            "completion_window": row.completion_window,
            "status": row.status,
            "created_at": row.created_at,
            "expires_at": row.expires_at,
            "request_counts": {"total": row.total, "completed": row.completed, "failed": row.failed},
            "metadata": row.meta,
        }
        | reached
    )


def _find(served: Served, batch_id: str) -> schema.Batch:
    row = served.batches.get(batch_id)
    if row is None:
        raise ApiError(404, f"No batch found with id '{batch_id[:100]}'.", param="id")
    return row
