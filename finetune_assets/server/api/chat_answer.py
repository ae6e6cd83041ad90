"""What a completion looks like on the wire, whole and in the chunks of a stream."""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import TYPE_CHECKING, Any

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from finetune_assets import __version__
from finetune_assets.server.api.chat_request import ChatBody
from finetune_assets.server.api.tool_request import NamedTool
from finetune_assets.server.database.schema import new_id
from finetune_assets.server.generation.calls import Call, CallDelta

if TYPE_CHECKING:
    from finetune_assets.server.generation.requests import Delta, GeneratedChoice, Generation
    from finetune_assets.server.generation.sampling import TokenLogprob

LEAST_LOGPROB = -9999.0
"""OpenAI's number for "practically impossible"; JSON has none for minus infinity."""
_EVEN_SIZE = 32


def usage(prompt: int, completion: int, cached: int, reasoning: int = 0) -> CompletionUsage:
    """Say how many tokens were read and written, and how many of the prompt's were known from earlier requests."""
    nothing = {"audio_tokens": 0, "reasoning_tokens": reasoning}
    nothing |= dict.fromkeys(("accepted_prediction_tokens", "rejected_prediction_tokens"), 0)
    return CompletionUsage.model_validate(
        {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
            "completion_tokens_details": nothing,
        }
    )


def fingerprint(model_path: str) -> str:
    """Name what answers: with the same fingerprint, a seed gives the same draws."""
    return f"fp_{hashlib.sha256(f'{__version__} {model_path}'.encode()).hexdigest()[:10]}"


def as_completion(body: ChatBody, generation: Generation, system_fingerprint: str) -> ChatCompletion:
    """Put all answers to a request into one object."""
    used = _used(generation)
    return ChatCompletion.model_validate(
        _head(body, "chat.completion", system_fingerprint)
        | {
            "choices": [_as_choice(i, choice, body) for i, choice in enumerate(generation.choices)],
            "usage": used.model_dump(exclude_unset=True),
        }
    )


class Chunks:
    """Makes the chunks of one stream, which share an id and a time."""

    def __init__(self, body: ChatBody, system_fingerprint: str) -> None:
        options = body.stream_options
        self._body = body
        self._head = _head(body, "chat.completion.chunk", system_fingerprint)
        self._with_usage = bool(options and options.include_usage)
        self._obfuscated = options is None or options.include_obfuscation is not False
        self._calling: set[int] = set()
        """Answers that call something."""

    @property
    def shared(self) -> dict[str, Any]:
        """What the whole answer has in common with its chunks."""
        return {name: self._head[name] for name in ("id", "created")}

    def opening(self) -> list[ChatCompletionChunk]:
        """Say who speaks, for every answer."""
        delta = {"role": "assistant", "content": None if self._body.tools else "", "refusal": None}
        return [self._chunk(index, delta) for index in range(self._body.n or 1)]

    def piece(self, delta: Delta) -> list[ChatCompletionChunk]:
        """Send on what the engine made: text, and at the end of an answer why it ends."""
        chunks = []
        if delta.thought:
            chunks.append(self._chunk(delta.index, {"reasoning_content": delta.thought}))
        if delta.call is not None:
            self._calling.add(delta.index)
            chunks.append(self._chunk(delta.index, {"tool_calls": [_as_call_delta(delta.call)]}))
        if delta.text or delta.tokens:
            logprobs = _as_logprobs(delta.tokens) if self._body.logprobs else None
            chunks.append(self._chunk(delta.index, {"content": delta.text}, logprobs))
        if delta.finish_reason is not None:
            reason = _finish_reason(delta.finish_reason, self._body, calls=delta.index in self._calling)
            chunks.append(self._chunk(delta.index, {}, finish_reason=reason))
        return chunks

    def closing(self, generation: Generation) -> list[ChatCompletionChunk]:
        """Say what was used, where the client wants to know."""
        if not self._with_usage:
            return []
        used = _used(generation)
        last = self._head | {"choices": [], "usage": used.model_dump(exclude_unset=True)}
        return [ChatCompletionChunk.model_validate(last)]

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> ChatCompletionChunk:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        chunk = self._head | {"choices": [choice]}
        if self._with_usage:
            chunk["usage"] = None
        if self._obfuscated:
            length = _EVEN_SIZE - len(_told(delta)) % _EVEN_SIZE
            chunk["obfuscation"] = secrets.token_urlsafe(length)[:length]
        return ChatCompletionChunk.model_validate(chunk)


def _head(body: ChatBody, kind: str, system_fingerprint: str) -> dict[str, Any]:
    head: dict[str, Any] = {
        "id": new_id("chatcmpl-"),
        "object": kind,
        "created": int(time.time()),
        "model": body.model,
        "system_fingerprint": system_fingerprint,
    }
    if body.service_tier is not None:
        head["service_tier"] = "default"
    return head


def _as_choice(index: int, choice: GeneratedChoice, body: ChatBody) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.thought:
        message["reasoning_content"] = choice.thought
    if choice.calls:
        message |= {"content": choice.text or None, "tool_calls": [_as_call(call) for call in choice.calls]}
    return {
        "index": index,
        "message": message,
        "logprobs": _as_logprobs(choice.tokens) if body.logprobs else None,
        "finish_reason": _finish_reason(choice.finish_reason, body, calls=bool(choice.calls)),
    }


def _finish_reason(reason: str, body: ChatBody, *, calls: bool) -> str:
    """Word it as OpenAI does: a call that had to be made is the whole of an answer that stops."""
    return "tool_calls" if calls and reason == "stop" and not isinstance(body.tool_choice, NamedTool) else reason


def _as_call(call: Call) -> dict[str, Any]:
    return {
        "id": new_id("call_"),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _as_call_delta(delta: CallDelta) -> dict[str, Any]:
    if delta.name is None:
        return {"index": delta.place, "function": {"arguments": delta.arguments}}
    return {"index": delta.place} | _as_call(Call(delta.name, delta.arguments))


def _told(delta: dict[str, Any]) -> str:
    """Return the texts of a delta."""
    called = [part for call in delta.get("tool_calls", ()) for part in call["function"].values()]
    return "".join([delta.get("content") or "", delta.get("reasoning_content") or "", *called])


def _used(generation: Generation) -> CompletionUsage:
    return usage(
        generation.prompt_tokens, generation.completion_tokens, generation.cached_tokens, generation.reasoning_tokens
    )


def _as_logprobs(tokens: list[TokenLogprob]) -> dict[str, Any]:
    content = [
        _as_logprob(token.token, token.logprob, token.bytes)
        | {"top_logprobs": [_as_logprob(*likely) for likely in token.top]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _as_logprob(token: str, logprob: float, utf8: bytes) -> dict[str, Any]:
    return {"token": token, "logprob": max(logprob, LEAST_LOGPROB), "bytes": list(utf8)}
