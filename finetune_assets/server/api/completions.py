"""/v1/completions: a text that a model goes on with, and how probable its own tokens are (`echo` with `logprobs`).

No chat template is around the text. This is how evaluation harnesses measure the likelihood of continuations.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Request
from openai.types import Completion
from pydantic import Field

from finetune_assets.server.api.chat import unless_gone
from finetune_assets.server.api.chat_answer import LEAST_LOGPROB, fingerprint, usage
from finetune_assets.server.api.chat_completions import Completions
from finetune_assets.server.api.chat_messages import Text
from finetune_assets.server.api.chat_request import MAX_TOKENS, Penalty, Stop, TokenId
from finetune_assets.server.api.wire import ApiError, Asker, RequestBody, WireRoute
from finetune_assets.server.database.schema import new_id

if TYPE_CHECKING:
    from finetune_assets.server.generation.requests import Generation, GenerationRequest, ModelRef
    from finetune_assets.server.generation.sampling import TokenLogprob

MAX_PROMPTS = 128
_USUAL_TOKENS = 16
router = APIRouter(prefix="/v1/completions", route_class=WireRoute)
Ids = Annotated[list[int], Field(min_length=1, max_length=MAX_TOKENS, fail_fast=True)]


class CompletionBody(RequestBody):
    """Body of a request to go on with a text."""

    model: str
    prompt: (
        Text
        | Ids
        | Annotated[list[Text], Field(min_length=1, max_length=MAX_PROMPTS)]
        | Annotated[list[Ids], Field(min_length=1, max_length=MAX_PROMPTS)]
    )
    """A text or the ids of its tokens, or several of either."""
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    echo: bool | None = None
    """Repeat the prompt before what is made; with `logprobs`, with those of its own tokens."""
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    best_of: Annotated[int, Field(ge=1, le=128)] | None = None
    """Only as many as `n`."""
    stop: Stop | Annotated[list[Stop], Field(min_length=1, max_length=4)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[TokenId, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stream: bool | None = None
    """Only false."""
    stream_options: dict[str, Any] | None = None
    suffix: str | None = None
    """Not served."""
    user: str | None = None


async def _of_app(request: Request) -> Completions:
    return request.app.state.completions


@router.post("", response_model=Completion)
async def create(
    completions: Annotated[Completions, Depends(_of_app)], asker: Asker, request: Request, body: CompletionBody
) -> Completion:
    """Go on with a text, and say how probable it is."""
    _check(body)
    found = await completions.find(body.model, asker)
    from finetune_assets.server.generation.requests import ModelRef

    asked = [_request(body, ModelRef(found.base, found.adapter), text, asker.name) for text in prompts_of(body)]
    generations = await unless_gone(request, completions.texts(asked, body.model, asker))
    return _as_completion(body, generations, fingerprint(found.base.path))


def prompts_of(body: CompletionBody) -> list[str | list[int]]:
    """Return the texts, or the ids of their tokens."""
    match body.prompt:
        case [int(), *_] as ids:
            return [ids]  # pyright: ignore[reportReturnType]
        case list() as several:
            return several  # pyright: ignore[reportReturnType]
        case text:
            return [text]


def _check(body: CompletionBody) -> None:
    refused = {
        "stream": (body.stream, "this server streams chat completions"),
        "stream_options": (body.stream_options, "this server streams chat completions"),
        "suffix": (body.suffix, "this server's models go on with a text and fill none"),
        "best_of": (body.best_of not in (None, body.n or 1), "it must be as many as 'n'"),
    }
    for param, (asked, why) in refused.items():
        if asked:
            message = f"Unsupported parameter: '{param}' is not supported with this value: {why}."
            raise ApiError(400, message, param=param, code="unsupported_parameter")
    tokens = len(prompts_of(body)) * (body.n or 1) * (body.max_tokens or 1)
    if tokens > MAX_TOKENS:
        message = f"All answers together would have {tokens:,} tokens, more than {MAX_TOKENS:,}; send several requests."
        raise ApiError(400, message, param="max_tokens", code="invalid_value")


def _request(body: CompletionBody, model: ModelRef, text: str | list[int], owner: str) -> GenerationRequest:
    from finetune_assets.server.generation.requests import GenerationRequest

    return GenerationRequest(
        model=model,
        owner=owner,
        text=text,
        scored=bool(body.echo),
        max_tokens=_USUAL_TOKENS if body.max_tokens is None else body.max_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed,
        stop=[body.stop] if isinstance(body.stop, str) else body.stop or [],
        n=body.n or 1,
        logprobs=body.logprobs is not None,
        top_logprobs=body.logprobs or 0,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        logit_bias={int(token): bias for token, bias in (body.logit_bias or {}).items()},
    )


def _as_completion(body: CompletionBody, generations: list[Generation], system_fingerprint: str) -> Completion:
    choices: list[dict[str, Any]] = []
    for prompt, generation in zip(prompts_of(body), generations, strict=True):
        echoed = "" if not body.echo else prompt if isinstance(prompt, str) else _text(generation.scores)
        for choice in generation.choices:
            # The end token is told of, too: harnesses score a text, ask for one token more and leave that one away.
            tokens = [*generation.scores, *choice.tokens, *([choice.ending] if choice.ending else [])]
            logprobs = _as_logprobs(tokens) if body.logprobs is not None else None
            said = {"text": echoed + choice.text, "index": len(choices), "finish_reason": choice.finish_reason}
            choices.append(said | {"logprobs": logprobs})
    counts = [(g.prompt_tokens, g.completion_tokens, g.cached_tokens) for g in generations]
    return Completion.model_validate(
        {
            "id": new_id("cmpl-"),
            "object": "text_completion",
            "created": int(time.time()),
            "model": body.model,
            "system_fingerprint": system_fingerprint,
            "choices": choices,
            "usage": usage(*map(sum, zip(*counts, strict=True))).model_dump(exclude_unset=True),
        }
    )


def _as_logprobs(tokens: list[TokenLogprob]) -> dict[str, Any]:
    return {
        "tokens": [_named(token.token, token.bytes) for token in tokens],
        "token_logprobs": [max(token.logprob, LEAST_LOGPROB) for token in tokens],
        "top_logprobs": [
            {_named(text, data): max(logprob, LEAST_LOGPROB) for text, logprob, data in reversed(token.top)}
            for token in tokens
        ],
        "text_offset": [len(_text(tokens[:place])) for place in range(len(tokens))],
    }


def _text(tokens: list[TokenLogprob]) -> str:
    return b"".join(token.bytes for token in tokens).decode(errors="replace")


def _named(token: str, data: bytes) -> str:
    """Return a token's text; one that is a part of a character by its bytes, as OpenAI does."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
    return token
