"""/v1/chat/completions: ask a base model, a fine-tuned model or a checkpoint."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from openai.types.chat import ChatCompletion

from finetune_assets.errors import BaseModelError
from finetune_assets.server import catalog
from finetune_assets.server.chat_request import ChatBody, check
from finetune_assets.server.database.schema import new_id
from finetune_assets.server.services import Served, Services
from finetune_assets.server.wire import ApiError, WireRoute

if TYPE_CHECKING:
    from finetune_assets.server.generation import GeneratedChoice, Generation

LEAST_LOGPROB = -9999.0
"""OpenAI's number for "practically impossible"; JSON has none for minus infinity."""

router = APIRouter(prefix="/v1/chat/completions", route_class=WireRoute)


@router.post("")
async def create(served: Served, body: ChatBody) -> ChatCompletion:
    """Complete a conversation."""
    check(body)
    generation = await _in_own_thread(lambda: _generate(served, body))
    prompt, made = generation.prompt_tokens, generation.completion_tokens
    return ChatCompletion.model_validate(
        {
            "id": new_id("chatcmpl-"),
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body.model,
            "choices": [_as_choice(i, choice, body) for i, choice in enumerate(generation.choices)],
            "usage": {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made},
        }
    )


def _generate(served: Services, body: ChatBody) -> Generation:
    try:
        model = catalog.find(served, body.model)
    except BaseModelError as error:
        message = f"The model `{body.model}` does not exist or you do not have access to it: {error}"
        raise ApiError(404, message, code="model_not_found") from None
    engine = served.engine()
    from finetune_assets.server.chat_encoding import PromptError
    from finetune_assets.server.generation import GenerationRequest, ModelRef

    request = GenerationRequest(
        model=ModelRef(model.base, model.adapter),
        messages=[message.model_dump(exclude_none=True) for message in body.messages],
        max_tokens=body.max_completion_tokens or body.max_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed,
        stop=[body.stop] if isinstance(body.stop, str) else body.stop or [],
        n=body.n or 1,
        logprobs=bool(body.logprobs),
        top_logprobs=body.top_logprobs or 0,
    )
    try:
        return engine.complete(request)
    except PromptError as error:
        raise ApiError(400, str(error), param="messages", code=error.code) from None
    except BaseModelError as error:
        raise ApiError(500, f"The model cannot be used: {error}", kind="server_error") from error


def _in_own_thread(work: Callable[[], Generation]) -> Awaitable[Generation]:
    """Run `work` outside the framework's thread pool.

    The pool is small and serves the other endpoints, and its threads keep a stopping server alive until they are done.
    """
    answer: Future[Generation] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except Exception as error:  # noqa: BLE001 - raised again in the request that waits for it
            answer.set_exception(error)

    threading.Thread(target=run, name="completion", daemon=True).start()
    return asyncio.wrap_future(answer)


def _as_choice(index: int, choice: GeneratedChoice, body: ChatBody) -> dict[str, Any]:
    logprobs = None
    if body.logprobs:
        content = [
            _as_logprob(token.token, token.logprob, token.bytes)
            | {"top_logprobs": [_as_logprob(*likely) for likely in token.top]}
            for token in choice.tokens
        ]
        logprobs = {"content": content, "refusal": None}
    return {
        "index": index,
        "message": {"role": "assistant", "content": choice.text, "refusal": None},
        "logprobs": logprobs,
        "finish_reason": choice.finish_reason,
    }


def _as_logprob(token: str, logprob: float, utf8: bytes) -> dict[str, Any]:
    return {"token": token, "logprob": max(logprob, LEAST_LOGPROB), "bytes": list(utf8)}
