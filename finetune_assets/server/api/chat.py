"""/v1/chat/completions: ask a base model, a fine-tuned model or a checkpoint."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from typing import Annotated, TypeVar

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from finetune_assets.server.api.chat_completions import Completions
from finetune_assets.server.api.chat_request import ChatBody
from finetune_assets.server.api.wire import ApiError, Asker, WireRoute, shortage_refusal
from finetune_assets.server.shortage import shortage_of

Result = TypeVar("Result")

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/chat/completions", route_class=WireRoute)


async def _of_app(request: Request) -> Completions:
    return request.app.state.completions


@router.post(
    "",
    response_model=ChatCompletion,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def create(
    completions: Annotated[Completions, Depends(_of_app)], asker: Asker, request: Request, body: ChatBody
) -> ChatCompletion | StreamingResponse:
    """Complete a conversation; with `stream`, as server-sent events whose last is `[DONE]`."""
    if not body.stream:
        return await unless_gone(request, completions.complete(body, asker))
    chunks = completions.stream(body, asker)
    # What is wrong with the request shows before the first chunk, while the answer can still have a status of its own.
    first = await unless_gone(request, anext(chunks))
    return StreamingResponse(
        _events(first, chunks), media_type="text/event-stream", headers={"cache-control": "no-cache"}
    )


async def unless_gone(request: Request, work: Awaitable[Result]) -> Result:
    """Do the work unless the client closes the connection before it is done."""
    doing, gone = asyncio.ensure_future(work), asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait([doing, gone], return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        raise ApiError(499, "The client closed the connection before the answer.")
    finally:
        doing.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _events(first: ChatCompletionChunk, rest: AsyncGenerator[ChatCompletionChunk]) -> AsyncIterator[bytes]:
    async with aclosing(rest):
        try:
            yield _event(first)
            async for chunk in rest:
                yield _event(chunk)
            yield b"data: [DONE]\n\n"
        except ApiError as error:
            yield b"data: " + orjson.dumps(error.content()) + b"\n\n"
        except Exception as error:  # the status is sent already, so this is the edge where the client must be told
            logger.exception("A stream was broken off")
            told = ApiError(500, "The server had an error while answering. Its log says more.", kind="server_error")
            if lack := shortage_of(error):
                told = shortage_refusal(lack)
            yield b"data: " + orjson.dumps(told.content()) + b"\n\n"


def _event(chunk: ChatCompletionChunk) -> bytes:
    return b"data: " + chunk.model_dump_json(exclude_unset=True).encode() + b"\n\n"
