"""Completions that were asked for with `store`: listed, read, described, deleted, and made a training file of."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request
from openai.types import FileObject
from openai.types.chat import ChatCompletion, ChatCompletionDeleted, ChatCompletionStoreMessage

from finetune_assets.server.api.files import as_file
from finetune_assets.server.api.wire import (
    MAX_METADATA_PAIRS,
    ApiError,
    Asker,
    Metadata,
    NamedPage,
    RequestBody,
    WireRoute,
    quota_refusal,
)
from finetune_assets.server.database.completions import KeptTooMuchError
from finetune_assets.server.database.connection import Rows
from finetune_assets.server.database.schema import StoredCompletion
from finetune_assets.server.database.usage import QuotaError
from finetune_assets.server.services import Served

if TYPE_CHECKING:
    from finetune_assets.server.api.chat_request import ChatBody

router = APIRouter(prefix="/v1/chat/completions", route_class=WireRoute)
Limit = Annotated[int, Query(ge=1, le=100)]
Order = Literal["asc", "desc"]
_LEARNED = ("role", "content", "tool_calls")


class UpdateBody(RequestBody):
    """Body of a request that describes a completion anew."""

    metadata: Metadata | None


class TrainingFileBody(RequestBody):
    """Body of a request for a training file: which completions it is made of."""

    model: str | None = None
    metadata: Metadata | None = None
    """Pairs that all of them have."""


@router.post("/training_file")
def training_file(served: Served, asker: Asker, body: TrainingFileBody) -> FileObject:
    """Make a training file of kept completions: of each answer an example, as it was asked. An extension of ours."""
    with tempfile.TemporaryFile() as written:
        for row in served.completions.each(asker.name, model=body.model, metadata=body.metadata or {}):
            for choice in row.completion["choices"]:
                written.write(orjson.dumps(_as_example(row, choice)) + b"\n")
        if not written.tell():
            raise ApiError(400, "This key keeps no completion of this kind.", code="invalid_value")
        written.seek(0)
        try:
            return as_file(served.files.add(written, filename="completions.jsonl", purpose="fine-tune", owner=asker))
        except QuotaError as error:
            raise quota_refusal(error) from None


@router.get("")
def list_completions(
    served: Served,
    asker: Asker,
    request: Request,
    model: str | None = None,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
) -> NamedPage[ChatCompletion]:
    """List the completions that this key keeps; `model` and `metadata[key]=value` choose among them."""
    metadata = metadata_of(request)
    rows = served.completions.page(
        asker.name, model=model, metadata=metadata, after=after, limit=limit, ascending=order == "asc"
    )
    return _named(rows, [_as_completion(row) for row in rows.items])


@router.get("/{completion_id}")
def retrieve(served: Served, asker: Asker, completion_id: str) -> ChatCompletion:
    """Read a completion as it was answered, with its metadata."""
    return _as_completion(_find(served, asker.name, completion_id))


@router.get("/{completion_id}/messages")
def messages(
    served: Served, asker: Asker, completion_id: str, after: str | None = None, limit: Limit = 20, order: Order = "asc"
) -> NamedPage[ChatCompletionStoreMessage]:
    """List the messages that a completion answers."""
    found = [_as_message(completion_id, *each) for each in enumerate(_asked(served, asker.name, completion_id))]
    found = found if order == "asc" else found[::-1]
    ids = [message.id for message in found]
    if after is not None and after not in ids:
        raise ApiError(404, f"No message of {completion_id[:100]} has the id {after[:100]!r}.", param="after")
    start = 0 if after is None else ids.index(after) + 1
    page, more = found[start : start + limit], len(found) > start + limit
    first, last = (page[0].id, page[-1].id) if page else ("", "")
    return NamedPage(object="list", data=page, has_more=more, first_id=first, last_id=last)


@router.post("/{completion_id}")
def update(served: Served, asker: Asker, completion_id: str, body: UpdateBody) -> ChatCompletion:
    """Replace the metadata of a completion."""
    if not served.completions.describe(asker.name, completion_id, body.metadata):
        raise _no_such(completion_id)
    return _as_completion(_find(served, asker.name, completion_id))


@router.delete("/{completion_id}")
def delete(served: Served, asker: Asker, completion_id: str) -> ChatCompletionDeleted:
    """Forget a completion."""
    if not served.completions.delete(asker.name, completion_id):
        raise _no_such(completion_id)
    return ChatCompletionDeleted(id=completion_id, object="chat.completion.deleted", deleted=True)


def asked_of(body: ChatBody) -> dict[str, Any]:
    """What of a request is kept with its answer."""
    return body.model_dump(mode="json", include={"messages", "tools"}, exclude_unset=True)


@contextmanager
def refusing_too_much() -> Iterator[None]:
    """Word what there is no room to keep.

    Raises:
        ApiError: it is too much.
    """
    try:
        yield
    except KeptTooMuchError as error:
        raise ApiError(400, str(error), param="store", code="stored_completions_full") from None
    except QuotaError as error:
        raise quota_refusal(error) from None


def metadata_of(request: Request) -> dict[str, str]:
    """Read `metadata[key]=value` from a query.

    Raises:
        ApiError: there are more pairs than an object can have.
    """
    found = {
        pair[1]: value
        for name, value in request.query_params.multi_items()
        if (pair := re.fullmatch(r"metadata\[(.*)\]", name, re.DOTALL))
    }
    if len(found) > MAX_METADATA_PAIRS:
        message = f"Invalid 'metadata': objects have at most {MAX_METADATA_PAIRS} pairs, but more were asked for."
        raise ApiError(400, message, param="metadata", code="object_above_max_properties")
    return found


def _as_example(row: StoredCompletion, choice: dict[str, Any]) -> dict[str, Any]:
    if choice["finish_reason"] == "length":
        told = f"The completion {row.id} was cut off, and nobody should learn from it"
        raise ApiError(400, f"{told}; delete it, or choose others by their metadata.", code="invalid_value")
    answer = {name: choice["message"][name] for name in _LEARNED if choice["message"].get(name)}
    return row.asked | {"messages": [*row.asked["messages"], answer]}


def _named(rows: Rows[StoredCompletion], data: list[ChatCompletion]) -> NamedPage[ChatCompletion]:
    first, last = (data[0].id, data[-1].id) if data else ("", "")
    return NamedPage(object="list", data=data, has_more=rows.has_more, first_id=first, last_id=last)


def _as_completion(row: StoredCompletion) -> ChatCompletion:
    return ChatCompletion.model_validate(row.completion | {"metadata": row.meta})


def _as_message(completion_id: str, place: int, message: dict[str, Any]) -> ChatCompletionStoreMessage:
    content = message.get("content")
    in_parts = isinstance(content, list)
    told = {"content": None if in_parts else content, "content_parts": content if in_parts else None}
    # Not validated: OpenAI's type for these messages knows the role of assistants alone.
    return ChatCompletionStoreMessage.construct(
        id=f"{completion_id}-{place}", **{"refusal": None} | message | told
    )  # fmt: skip


def _asked(served: Served, owner: str, completion_id: str) -> list[dict[str, Any]]:
    return _find(served, owner, completion_id).asked["messages"]


def _find(served: Served, owner: str, completion_id: str) -> StoredCompletion:
    row = served.completions.get(owner, completion_id)
    if row is None:
        raise _no_such(completion_id)
    return row


def _no_such(completion_id: str) -> ApiError:
    told = f"No chat completion found with id '{completion_id[:100]}'"
    return ApiError(404, f"{told}; only those that were asked for with 'store' are kept.", param="id")
